"""What of a script's letters leaves a site that lets no message of its own making leave."""

from __future__ import annotations

import json

from federated_analytics import wire
from federated_analytics.privacy.policy import Policy

SECRET = "41.92777"
LETTERS = [
    [1, {"kind": "hello", "public": "ab" * 32}],
    [2, {"kind": "message", "id": "m", "recipients": ["c"], "category": "x", "payload": SECRET}],
    [3, {"kind": "log", "level": "info", "text": SECRET}],
    [4, {"kind": "object_part", "id": "o", "number": 0, "data": SECRET}],
    [5, {"kind": "status", "status": "failed", "reason": SECRET}],
    [6, {"kind": "status", "status": SECRET, "reason": ""}],
    [7, {"kind": "hello", "public": SECRET}],
    [8, {"kind": "progress", "value": 41}],
    [9, {"kind": "acknowledge", "id": "m", "sender": "c", "more": SECRET}],
    [10, {"kind": "submission", "id": "s", "output_type": SECRET, "object": "o"}],
    [11, {"kind": "ended", "why": SECRET}],
    [12, {"kind": SECRET}],
]
BUNDLE = {"confirmed": 3, "letters": LETTERS}


def left(policy: Policy) -> dict[str, object]:
    release = policy.exchange(BUNDLE, site="hospital-a", study="d", round=1, version="0")
    disclosed = wire.decode_release(wire.encode_release(release))
    return dict(json.loads(disclosed.exchange))


def test_nothing_that_a_script_wrote_leaves_under_the_strict_policy() -> None:
    bundle = left(Policy())
    assert SECRET not in json.dumps(bundle)
    letters = bundle["letters"]
    assert isinstance(letters, list)
    assert [number for number, _ in letters] == list(range(1, 13))  # none is missed
    kinds = [letter["kind"] for _, letter in letters]
    assert kinds[0] == "hello"
    assert kinds.count("withheld") == 7
    assert bundle["confirmed"] == 3


def test_it_leaves_as_it_is_where_the_policy_says_so() -> None:
    assert left(Policy(free_exchange=True)) == BUNDLE
