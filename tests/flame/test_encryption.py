"""Sealed objects: the named reader opens them, and nobody opens or changes anything else."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federated_analytics.flame.chunks import CHUNK, DamagedObject
from federated_analytics.flame.encryption import (
    KEY_BYTES,
    MAGIC,
    TAG_BYTES,
    NodeKey,
    NotForThisNode,
    binding,
    seal,
    unseal,
)

SENDER, READER, OTHER = NodeKey.new(), NodeKey.new(), NodeKey.new()
BOUND = binding("analysis-1", "node-a", "node-b", "object-1")
HEAD = len(MAGIC) + KEY_BYTES


def sealed(plain: bytes, reader: NodeKey = READER, bound: bytes = BOUND) -> bytes:
    out = io.BytesIO()
    seal(io.BytesIO(plain), out, reader.public, SENDER, bound)
    return out.getvalue()


def opened(
    data: bytes, own: NodeKey = READER, sender: NodeKey = SENDER, bound: bytes = BOUND
) -> bytes:
    out = io.BytesIO()
    unseal(io.BytesIO(data), out, own, sender.public, bound)
    return out.getvalue()


@pytest.mark.parametrize(
    "length", [0, 1, 15, 16, 17, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 5]
)
def test_the_reader_gets_every_byte(length: int) -> None:
    plain = bytes(i % 251 for i in range(length))
    data = sealed(plain)
    assert opened(data) == plain
    assert len(data) == HEAD + length + TAG_BYTES * max(1, -(-length // CHUNK))


def test_nothing_of_the_text_and_no_two_alike() -> None:
    plain = b"The quick brown fox. " * 50
    first, second = sealed(plain), sealed(plain)
    assert plain[:16] not in first
    assert first[len(MAGIC) : HEAD] != second[len(MAGIC) : HEAD]
    assert first[HEAD : HEAD + 32] != second[HEAD : HEAD + 32]


def test_another_reader_sender_or_binding_is_refused() -> None:
    data = sealed(b"secret")
    wrong = [
        {"own": OTHER},
        {"own": SENDER},
        {"sender": OTHER},
        {"sender": READER},
        {"bound": binding("analysis-2", "node-a", "node-b", "object-1")},
        {"bound": binding("analysis-1", "node-a", "node-b", "object-2")},
    ]
    for one in wrong:
        with pytest.raises(NotForThisNode) as caught:
            opened(data, **one)  # type: ignore[arg-type]
        assert "sender_node_id" in caught.value.remedy


def test_a_binding_is_unambiguous() -> None:
    assert binding("a|b", "c", "d", "e") != binding("a", "b|c", "d", "e")
    assert binding("ab", "c", "d", "e") != binding("a", "bc", "d", "e")


PLAIN = bytes(2 * CHUNK + 100)
SEALED = sealed(PLAIN)


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
@settings(max_examples=40, deadline=None)
def test_any_changed_byte_is_refused(place: int, change: int) -> None:
    data = bytearray(SEALED)
    data[place] ^= change
    # RFC 7748, 5: the highest bit of a public key's last byte is ignored, so the bound keys differ.
    with pytest.raises((NotForThisNode, DamagedObject)):
        opened(bytes(data))


def test_chunks_cannot_be_cut_swapped_repeated_or_added() -> None:
    chunk = CHUNK + TAG_BYTES
    head, one, two, rest = (
        SEALED[:HEAD],
        SEALED[HEAD : HEAD + chunk],
        SEALED[HEAD + chunk : HEAD + 2 * chunk],
        SEALED[HEAD + 2 * chunk :],
    )
    assert opened(head + one + two + rest) == PLAIN
    for wrong in (
        head + one + two,
        head + one,
        head,
        head + two + one + rest,
        head + one + one + rest,
        head + one + rest,
        head + one + two + rest + rest,
        SEALED + b"x",
        SEALED[:-1],
    ):
        with pytest.raises((NotForThisNode, DamagedObject)):
            opened(wrong)


def test_a_key_of_order_one_is_refused() -> None:
    # RFC 7748, 6.1: an all-zero public key would make the shared secret zero for everybody.
    with pytest.raises(NotForThisNode):
        seal(io.BytesIO(b"x"), io.BytesIO(), bytes(32), SENDER, BOUND)
    with pytest.raises(NotForThisNode):
        seal(io.BytesIO(b"x"), io.BytesIO(), b"short", SENDER, BOUND)


def test_plain_bytes_are_not_taken_for_sealed_ones() -> None:
    with pytest.raises(DamagedObject) as caught:
        opened(b"just text that somebody saved without remote_node_ids")
    assert "remote_node_ids" in caught.value.remedy


def test_a_key_survives_a_restart_and_is_not_shown() -> None:
    again = NodeKey(READER.secret)
    assert opened(sealed(b"x"), own=again) == b"x"
    assert READER.secret.hex() not in repr(READER)


def test_the_shared_secret_is_that_of_the_rfc() -> None:
    # RFC 7748, 6.1: Bob's private key, Alice's public key and what they share.
    bob = NodeKey(bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
    alice = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert bob.shared_with(alice).hex() == shared
    public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    assert bob.public.hex() == public


class Slow(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size, 10_007) if size and size > 0 else size)


def test_streams_may_give_fewer_bytes_than_asked_for() -> None:
    out, plain = io.BytesIO(), io.BytesIO()
    seal(Slow(PLAIN), out, READER.public, SENDER, BOUND)
    unseal(Slow(out.getvalue()), plain, READER, SENDER.public, BOUND)
    assert plain.getvalue() == PLAIN
