"""Vectors modulo 2^128 and Shamir's shares, against Python's own integers."""

from __future__ import annotations

import itertools
import random
import secrets

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from federated_analytics.errors import FederatedAnalyticsError, ShapeError, WireError
from federated_analytics.secure_aggregation.agreement import RunKey, seal, unseal
from federated_analytics.secure_aggregation.shamir import PRIME, joined, split
from federated_analytics.secure_aggregation.words import (
    add,
    bytes_of,
    expanded,
    numbers_of,
    subtract,
    words_in,
    words_of,
)

MODULUS = 2**128
NUMBERS = st.lists(
    st.integers(-(2**127), 2**127 - 1) | st.sampled_from([0, 2**64 - 1, 2**64, -1, -(2**64)]),
    min_size=1,
    max_size=20,
)


def _centred(number: int) -> int:
    return (number + 2**127) % MODULUS - 2**127


@given(a=NUMBERS, b=NUMBERS)
def test_vectors_add_like_integers(a: list[int], b: list[int]) -> None:
    pairs = list(zip(a, b, strict=False))
    x, y = (words_of(column) for column in zip(*pairs, strict=True))
    assert numbers_of(add(x, y)) == [_centred(p + q) for p, q in pairs]
    assert numbers_of(subtract(x, y)) == [_centred(p - q) for p, q in pairs]
    assert numbers_of(words_in(bytes_of(x))) == [p for p, _ in pairs]


def test_a_vector_cut_short_is_none() -> None:
    with pytest.raises(WireError):
        words_in(bytes(31))


def test_a_mask_is_chacha20() -> None:
    """The key stream of RFC 8439, section A.1, test vector 1."""
    stream = bytes_of(expanded(bytes(32), 4))
    assert stream.hex().startswith("76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b77")


@settings(deadline=None)
@given(count=st.integers(1, 12), data=st.data())
def test_any_threshold_of_the_shares_gives_the_secret(count: int, data: st.DataObject) -> None:
    threshold = data.draw(st.integers(1, count))
    secret = data.draw(st.binary(min_size=32, max_size=32))
    shares = dict(enumerate(split(secret, threshold, count), start=1))
    chosen = data.draw(st.permutations(sorted(shares)))[:threshold]
    assert joined({x: shares[x] for x in chosen}, threshold) == secret
    with pytest.raises(ShapeError):
        joined({x: shares[x] for x in chosen[1:]}, threshold)


def test_every_subset_of_four_in_six() -> None:
    secret = secrets.token_bytes(32)
    shares = dict(enumerate(split(secret, 4, 6), start=1))
    for chosen in itertools.combinations(shares, 4):
        assert joined({x: shares[x] for x in chosen}, 4) == secret


def test_one_share_too_few_fits_every_secret_equally() -> None:
    """With t - 1 shares, each secret is explained by exactly one value of the missing share."""
    shares = dict(enumerate(split(secrets.token_bytes(32), 3, 5), start=1))
    for guess in (bytes(32), b"\xff" * 32, secrets.token_bytes(32)):
        points = {0: int.from_bytes(guess, "big")}
        points |= {x: int.from_bytes(shares[x], "big") for x in (1, 2)}
        forged = {x: shares[x] for x in (1, 2)} | {3: _through(points, 3).to_bytes(66, "big")}
        assert joined(forged, 3) == guess


def _through(points: dict[int, int], at: int) -> int:
    """The polynomial through `points`, at another place: Lagrange's formula once more."""
    total = 0
    for x, y in points.items():
        for other in points:
            if other != x:
                y = y * (at - other) * pow(x - other, -1, PRIME) % PRIME
        total += y
    return total % PRIME


def test_a_share_is_uniform_whatever_the_secret() -> None:
    for secret in (bytes(32), b"\xff" * 32):
        drawn = [int.from_bytes(split(secret, 2, 3)[0], "big") / PRIME for _ in range(2_000)]
        assert stats.kstest(drawn, "uniform").pvalue > 1e-4


def test_an_altered_share_is_noticed_or_gives_another_secret() -> None:
    rng = random.Random(1)
    secret = secrets.token_bytes(32)
    shares = dict(enumerate(split(secret, 3, 3), start=1))
    number = int.from_bytes(shares[2], "big") ^ 1 << rng.randrange(500)
    shares[2] = number.to_bytes(66, "big")
    try:
        assert joined(shares, 3) != secret
    except ShapeError:
        return


def test_two_keys_agree_and_a_third_does_not() -> None:
    a, b, c = RunKey.new(), RunKey.new(), RunKey.new()
    assert a.agreed(b.public, "mask", "1") == b.agreed(a.public, "mask", "1")
    assert a.agreed(b.public, "mask", "1") != a.agreed(b.public, "mask", "2")
    assert a.agreed(b.public, "ab", "c") != a.agreed(b.public, "a", "bc")
    assert c.agreed(b.public, "mask", "1") != a.agreed(b.public, "mask", "1")
    assert RunKey.of(a.private).public == a.public


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31), bytes(31)])
def test_a_point_that_makes_every_secret_the_same_is_refused(point: bytes) -> None:
    with pytest.raises(FederatedAnalyticsError):
        RunKey.new().agreed(point, "mask")


def test_what_is_sealed_opens_with_its_key_and_purpose_alone() -> None:
    key, other = secrets.token_bytes(32), secrets.token_bytes(32)
    body = seal(key, b"share", "a to b")
    assert unseal(key, body, "a to b") == b"share"
    changed = bytes([*body[:-1], body[-1] ^ 1])
    for attempt in ((other, body, "a to b"), (key, body, "b to a"), (key, changed, "a to b")):
        with pytest.raises(WireError):
            unseal(*attempt)
    with pytest.raises(WireError):
        unseal(key, b"", "a to b")


def test_masks_cancel_in_the_sum() -> None:
    a, b = words_of([1, 2, 3]), words_of([10, 20, 30])
    mask = expanded(secrets.token_bytes(32), 3)
    assert not np.array_equal(add(a, mask), a)
    assert numbers_of(add(add(a, mask), subtract(b, mask))) == [11, 22, 33]
