"""Bytes that are no message are refused with a clear error, whatever they are."""

from __future__ import annotations

import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federated_analytics import wire
from federated_analytics.errors import WireError
from federated_analytics.messages import Disclosure, Request
from federated_analytics.privacy.policy import Policy
from federated_analytics.privacy.release import Release

REQUEST = Request(study='{"ä": "\\u0000"}', round=1, run="a" * 32, seconds=12.5)


def _packed(plain: object) -> bytes:
    return zlib.compress(json.dumps([wire.VERSION, plain]).encode())


def test_a_request_round_trips() -> None:
    assert wire.decode_request(wire.encode_request(REQUEST)) == REQUEST


def test_a_release_round_trips() -> None:
    release = Policy().release(
        [], site="a", study="b", round=1, version="0", database="d", synthetic=False, seconds=0.5
    )
    assert wire.decode_release(wire.encode_release(release)) == release.disclosure


def test_only_the_policy_makes_a_release() -> None:
    disclosure = Disclosure("a", "b", 1, "0", None, "", False, 0.0, ())
    with pytest.raises(TypeError, match="policy"):
        Release(disclosure, object())


@pytest.mark.parametrize("thing", [b"x", {"rows": [1]}, REQUEST, None])
def test_nothing_but_a_release_is_encoded(thing: object) -> None:
    with pytest.raises(TypeError, match="Release"):
        wire.encode_release(thing)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not deflated",
        zlib.compress(b"not json"),
        zlib.compress(b"[1, NaN]"),
        zlib.compress(b"[" * 100_000),
        zlib.compress(b"[99, []]"),
        zlib.compress(b" " * (wire.MAX_BYTES + 1)),
        wire.encode_request(REQUEST)[:-3],
        wire.encode_request(REQUEST) + b"more",
        _packed(["study", 1, "run"]),
        _packed(["study", True, "run", 1.0]),
        _packed(["study", "1", "run", 1.0]),
        _packed([{"a": 1}, 1, "run", 1.0]),
        _packed("text"),
        _packed(None),
    ],
)
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        wire.decode_request(body)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        wire.decode_request(body)


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=40,
    )
)
def test_random_json_is_refused(plain: object) -> None:
    with pytest.raises(WireError):
        wire.decode_release(_packed(plain))


def test_an_unknown_aggregate_is_named() -> None:
    with pytest.raises(WireError, match="no aggregate 'Evil'"):
        wire.from_plain(wire.Aggregate, ["Evil", 1], "cell")
