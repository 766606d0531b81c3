"""Blocks of 1, 2, 4, 8 … steps that start at multiples of their length, by one number each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from federated_analytics.errors import ShapeError

Block = tuple[int, int]
"""[low, high), in steps."""

Counts = list[tuple[int, int, int]]
"""(low, high, persons), of one kind."""


def sum_of(rows: Counts) -> int:
    """All their persons."""
    return sum(persons for _, _, persons in rows)


def finest_blocks(
    groups: Sequence[Counts], low: int, span: int, min_count: int
) -> list[Block] | None:
    """The finest blocks of steps low … low + span - 1 that hold 0 or enough of every group.

    None where even all these steps together do not.
    """
    held = [rows for rows in groups if rows]
    if not held:
        return []
    middle = low + span // 2
    if span > 1 and all(end <= middle or start >= middle for g in held for start, end, _ in g):
        before = [[row for row in rows if row[1] <= middle] for rows in held]
        after = [[row for row in rows if row[0] >= middle] for rows in held]
        left = finest_blocks(before, low, span // 2, min_count)
        right = finest_blocks(after, middle, span // 2, min_count)
        if left is not None and right is not None:
            return left + right
    if any(sum_of(rows) < min_count for rows in held):
        return None
    return [(low, low + span)]


def block_count(steps: int) -> int:
    """How many blocks there are over so many steps, rounded up to a power of 2."""
    return 2 * _span(steps) - 1 if steps else 0


def _span(steps: int) -> int:
    return 1 << (steps - 1).bit_length()


def position_of(block: Block, steps: int) -> int:
    """The block's number, the longest first; ShapeError where it is no such block."""
    low, high = block
    length, span = high - low, _span(steps)
    if length < 1 or length & (length - 1) or low % length or not 0 <= low < high <= span:
        raise ShapeError("An interval is not a block of the public grid.")
    return span // length - 1 + low // length


def blocks_of(steps: int) -> Iterator[Block]:
    """All blocks, in their order."""
    span = _span(steps)
    length = span
    while length:
        yield from ((low, low + length) for low in range(0, span, length))
        length //= 2


def counts_by_block(counts: Iterable[tuple[Block, int]], steps: int) -> list[int]:
    """Counts of blocks as one number for each block there is."""
    numbers = [0] * block_count(steps)
    for block, count in counts:
        numbers[position_of(block, steps)] += count
    return numbers


def with_counts(numbers: Sequence[int], steps: int) -> Iterator[tuple[Block, int]]:
    """The blocks whose number is not 0, with it."""
    for block, count in zip(blocks_of(steps), numbers, strict=True):
        if count:
            yield block, count
