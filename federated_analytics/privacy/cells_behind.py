"""A table that has the true counts: where what the attacker can tell starts from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from federated_analytics.privacy.count_relations import Relations
from federated_analytics.privacy.disclosure_bounds import TOLERANCE, solver_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Columns = NDArray[np.int64]
    Numbers = NDArray[np.float64]


def cells_behind(relations: Relations, persons: Sequence[int]) -> Numbers | None:
    """A table with these counts, with as few persons as can be in doubtful columns.

    Shapes: persons: one for each of `relations.sums`; returns one number a column
    Returns None where no table has these counts.
    """
    import numpy as np

    rows = [
        (columns, float(n))
        for n, arrays in zip(persons, relations.sums, strict=True)
        for columns in arrays
    ]
    cells = np.full(relations.size, np.nan)
    if not _propagate(rows, cells):
        return None
    unknown = np.flatnonzero(np.isnan(cells))
    if len(unknown):
        return _least_doubtful(relations, rows, cells, unknown)
    ok = all(abs(cells[a].sum() - cells[b].sum()) < TOLERANCE for a, b in relations.links)
    return cells if ok else None


def _propagate(rows: Sequence[tuple[Columns, float]], cells: Numbers) -> bool:
    """Fills in, row by row, what follows at once; False where that is impossible."""
    import numpy as np

    waiting = sorted(rows, key=lambda row: len(row[0]))
    found = True
    while found:
        found, left = False, []
        for columns, total in waiting:
            values = cells[columns]
            unknown = np.isnan(values)
            rest = total - float(values[~unknown].sum())
            missing = int(unknown.sum())
            if rest < -TOLERANCE or (not missing and rest > TOLERANCE):
                return False
            if missing == 1 or (missing and rest < TOLERANCE):
                cells[columns[unknown]] = max(rest, 0.0)
                found = True
            elif missing:
                left.append((columns, total))
        waiting = left
    return True


def _least_doubtful(
    relations: Relations,
    rows: Sequence[tuple[Columns, float]],
    cells: Numbers,
    unknown: Columns,
) -> Numbers | None:
    import highspy
    import numpy as np

    place = np.full(relations.size, -1)
    place[unknown] = np.arange(len(unknown))
    cost = np.zeros(relations.size)
    cost[relations.doubtful] = 1.0
    known = np.nan_to_num(cells)
    equations = [([(columns, 1.0)], total) for columns, total in rows]
    equations += [([(a, 1.0), (b, -1.0)], 0.0) for a, b in relations.links]
    entries: list[tuple[Columns, Numbers]] = []
    right: list[float] = []
    for terms, total in equations:
        columns = np.concatenate([c for c, _ in terms])
        signs = np.concatenate([np.full(len(c), sign) for c, sign in terms])
        free = place[columns] >= 0
        entries.append((place[columns[free]], signs[free]))
        right.append(total - float((signs * known[columns])[~free].sum()))
    limits = np.array(right)
    zeros, endless = np.zeros(len(unknown)), np.full(len(unknown), np.inf)
    solver = solver_of(cost[unknown], zeros, endless, entries, limits)
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    found: Numbers = cells.copy()
    found[unknown] = np.maximum(np.array(solver.getSolution().col_value), 0.0)
    found[found < TOLERANCE] = 0.0
    return found
