"""Sets of persons that nobody counted and that still follow from the counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, TypeVar

from federated_analytics.privacy.count_blocks import Block
from federated_analytics.privacy.count_relations import Relations

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Columns = NDArray[np.int64]
    Numbers = NDArray[np.float64]
    Marks = NDArray[np.uint64]
    Number = TypeVar("Number", np.float64, np.uint64)

MOST_RUNS = 40
"""Runs of atoms are looked at in dimensions of up to so many; all atoms always are."""


def few_persons(
    relations: Relations, cells: Numbers, persons: Sequence[int], width: int
) -> list[Columns]:
    """The columns of hidden sets that hold 1 to width - 1 persons in the table `cells`.

    These are the cells and margins of each block, the runs of atoms where a dimension is coded
    twice, and the differences of two counts one of which is part of the other. Sets that are a
    count themselves are left out.
    """
    import numpy as np

    kept = np.ones(len(cells), dtype=bool)
    kept[relations.doubtful] = False
    counted = {columns.tobytes() for arrays in relations.sums for columns in arrays}
    found: dict[bytes, Columns] = {}
    for columns in _candidates(relations, cells, persons, width):
        left = columns[kept[columns]]
        key = left.tobytes()
        if key not in counted:
            found.setdefault(key, left)
    return list(found.values())


def _candidates(
    relations: Relations, cells: Numbers, persons: Sequence[int], width: int
) -> Iterator[Columns]:
    marks = _marks(relations, len(cells))
    for block in relations.blocks:
        table = cells[block.columns]
        for number in range(1, len(block.names) + 1):
            for axes in combinations(range(len(block.names)), number):
                yield from _margins(block, table, marks[block.columns], axes, width)
    yield from _differences(relations, persons, width)


def _marks(relations: Relations, size: int) -> Marks:
    """Two random numbers of 64 bits a column, 0 where it is empty: their sum tells a set.

    Of a table with few persons most runs differ by empty cells alone. Shape: column × 2.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    marks = rng.integers(1, np.iinfo(np.uint64).max, size=(size, 2), dtype=np.uint64)
    marks[relations.doubtful] = 0
    return marks


def _margins(
    block: Block, table: Numbers, marks: Marks, axes: tuple[int, ...], width: int
) -> Iterator[Columns]:
    """Small cells of the margin over all dimensions but `axes`, and small runs of its cells."""
    import numpy as np

    others = tuple(axis for axis in range(table.ndim) if axis not in axes)
    runs = [_runs(block, axis) for axis in axes]
    sums = _sums_of_runs(table.sum(axis=others), runs)
    told = np.nonzero((sums > 1 - 1e-6) & (sums < width - 1e-6))
    keys = _sums_of_runs(marks.sum(axis=others, dtype=np.uint64), runs)[told]
    _, firsts = np.unique(keys, axis=0, return_index=True)
    for place in np.transpose(told)[np.sort(firsts)]:
        part: list[slice] = [slice(None)] * table.ndim
        for axis, i, (low, high) in zip(axes, place, runs, strict=True):
            part[axis] = slice(int(low[i]), int(high[i]))
        yield block.columns[tuple(part)].ravel()


def _sums_of_runs(
    margin: NDArray[Number], runs: Sequence[tuple[Columns, Columns]]
) -> NDArray[Number]:
    """The sums over each run of atoms, along the first axes."""
    import numpy as np

    sums = margin
    for axis, (low, high) in enumerate(runs):
        start = np.zeros_like(np.take(sums, [0], axis=axis))
        total = np.concatenate([start, np.cumsum(sums, axis=axis, dtype=sums.dtype)], axis=axis)
        sums = np.take(total, high, axis=axis) - np.take(total, low, axis=axis)
    return sums


def _runs(block: Block, axis: int) -> tuple[Columns, Columns]:
    """First atom, and the one after the last, of each set of atoms to look at."""
    import numpy as np

    dimension = block.dimensions[block.names[axis]]
    single = np.arange(dimension.size)
    pieces = dimension.pieces
    if not dimension.coded_twice or pieces > MOST_RUNS:
        return single, single + 1
    low, high = np.triu_indices(pieces)
    rest = np.arange(pieces, dimension.size)
    return np.concatenate([low, rest]), np.concatenate([high + 1, rest + 1])


def _differences(relations: Relations, persons: Sequence[int], width: int) -> Iterator[Columns]:
    """A count less another that is part of it."""
    import numpy as np

    order = np.argsort(np.asarray(persons), kind="stable")
    ascending = np.asarray(persons)[order]
    of_block: list[list[set[int]]] = [[set(a.tolist()) for a in s] for s in relations.sums]
    for i, sets in enumerate(of_block):
        low, high = np.searchsorted(ascending, [persons[i] - width + 1, persons[i]])
        for whole in sets:
            if len(whole) < 2:
                continue
            for j in order[low:high]:
                for part in of_block[j]:
                    if len(part) < len(whole) and part < whole:
                        yield np.array(sorted(whole - part), dtype=np.int64)
