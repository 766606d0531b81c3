"""Sets of persons that nobody counted and that still follow from the counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from federated_analytics.privacy.count_blocks import Block
from federated_analytics.privacy.count_relations import Relations

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Columns = NDArray[np.int64]
    Numbers = NDArray[np.float64]

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
    counted = {columns.tobytes() for arrays in relations.sums for columns in arrays}
    empty = set(relations.doubtful.tolist())
    found: dict[bytes, Columns] = {}
    for columns in _candidates(relations, cells, persons, width):
        left = columns if not empty else _without(columns, empty)
        key = left.tobytes()
        if key not in counted:
            found.setdefault(key, left)
    return list(found.values())


def _candidates(
    relations: Relations, cells: Numbers, persons: Sequence[int], width: int
) -> Iterator[Columns]:
    for block in relations.blocks:
        table = cells[block.columns]
        for number in range(1, len(block.names) + 1):
            for axes in combinations(range(len(block.names)), number):
                yield from _margins(block, table, axes, width)
    yield from _differences(relations, persons, width)


def _margins(block: Block, table: Numbers, axes: tuple[int, ...], width: int) -> Iterator[Columns]:
    """Small cells of the margin over all dimensions but `axes`, and small runs of its cells."""
    import numpy as np

    others = tuple(axis for axis in range(table.ndim) if axis not in axes)
    margin = table.sum(axis=others) if others else table
    sums, runs = margin, [_runs(block, axis) for axis in axes]
    for axis, (low, high) in enumerate(runs):
        start = np.zeros_like(np.take(sums, [0], axis=axis))
        total = np.concatenate([start, np.cumsum(sums, axis=axis)], axis=axis)
        sums = np.take(total, high, axis=axis) - np.take(total, low, axis=axis)
    for place in np.argwhere((sums > 1 - 1e-6) & (sums < width - 1e-6)):
        part: list[slice] = [slice(None)] * table.ndim
        for axis, i, (low, high) in zip(axes, place, runs, strict=True):
            part[axis] = slice(int(low[i]), int(high[i]))
        yield block.columns[tuple(part)].ravel()


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


def _without(columns: Columns, empty: set[int]) -> Columns:
    import numpy as np

    return np.array([c for c in columns.tolist() if c not in empty], dtype=np.int64)
