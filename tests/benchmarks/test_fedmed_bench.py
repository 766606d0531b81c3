"""The FedMed benchmark at a small size: both ways answer the same, in one request a block."""

from __future__ import annotations

import math

from benchmarks import fedmed


def test_both_ways_answer_the_same() -> None:
    speed = fedmed.measure(servers=2, rows=2_000, repeat=2, requests=10, say=lambda text: None)
    assert set(speed.ours) == set(speed.original) == {"mean", "std", "a mask", "a group-by"}
    assert speed.block_requests == 1
    assert [done for done, _ in speed.memory] == [0, 2, 4, 6, 8, 10]
    assert all(math.isnan(size) or size > 0 for _, size in speed.memory)
    assert set(speed.table) == set(speed.floor) == set(speed.ours)
    text = fedmed.table(speed)
    assert text.count("\n| ") == 11
