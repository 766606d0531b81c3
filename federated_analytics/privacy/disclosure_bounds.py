"""What an attacker can bound: linear programmes over the cells behind released counts.

HiGHS is called through highspy, its own binding, because one model serves hundreds of questions:
only bounds change between them, and each starts at the basis of the one before.

References: Fischetti & Salazar (2001), Management Science 47:1008; Huangfu & Hall (2018),
    Mathematical Programming Computation 10:119 (HiGHS)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from federated_analytics.privacy.count_relations import Relations

if TYPE_CHECKING:
    import highspy
    import numpy as np
    from numpy.typing import NDArray

    Columns = NDArray[np.int64]
    Numbers = NDArray[np.float64]

TOLERANCE = 1e-6


def solver_of(
    cost: Numbers,
    lower: Numbers,
    upper: Numbers,
    rows: Sequence[tuple[Columns, Numbers]],
    right: Numbers,
) -> highspy.Highs:
    """Minimise cost x, lower <= x <= upper, rows x = right."""
    import highspy
    import numpy as np

    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(cost), len(rows)
    model.col_cost_, model.col_lower_, model.col_upper_ = cost, lower, upper
    model.row_lower_ = model.row_upper_ = right
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = np.cumsum([0, *(len(columns) for columns, _ in rows)])
    columns = [np.empty(0, dtype=np.int64), *(c for c, _ in rows)]
    model.a_matrix_.index_ = np.concatenate(columns).astype(np.int32)
    model.a_matrix_.value_ = np.concatenate([np.empty(0), *(v for _, v in rows)])
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    solver.setOptionValue("presolve", "off")  # small, and most start at the basis of another
    solver.setOptionValue("simplex_scale_strategy", 0)  # all entries are 1 or -1
    solver.passModel(model)
    return solver


class ElasticTable:
    """A table whose counts may move at a price: what must be withheld for a count to be open.

    Variables: the move of every column, and of every sum up and down. A withheld sum moves for
    nothing within what the rules tell of it; a released one at its price, to say that it would
    have to be withheld. An optimum of price 0 is another table that the attacker cannot tell
    from the true one; the moves are returned, as proof.
    """

    def __init__(self, relations: Relations, cells: Numbers) -> None:
        """`cells`: the table as it is; doubtful columns are known to be empty."""
        import numpy as np

        self.size = relations.size
        self.iterations = 0
        self._sums = relations.sums
        self._cells = cells
        self._single = np.full(relations.size, -1)
        self._is_column = [len(a) == 1 and len(a[0]) == 1 for a in self._sums]
        for i in np.flatnonzero(self._is_column):
            self._single[self._sums[i][0]] = i
        free = self._single < 0
        free[relations.doubtful] = False
        self._own = np.flatnonzero(free)
        self._index = np.full(relations.size, -1)
        self._index[self._own] = 2 * len(self._sums) + np.arange(len(self._own))
        self._solver = self._build(relations)

    def _terms(self, columns: Columns, sign: float = 1.0) -> tuple[Columns, Numbers]:
        import numpy as np

        single = self._single[columns]
        own = self._index[columns[single < 0]]
        own = own[own >= 0]
        moved = single[single >= 0]
        index = np.concatenate([own, 2 * moved, 2 * moved + 1])
        ones = np.ones(len(moved))
        return index, sign * np.concatenate([np.ones(len(own)), ones, -ones])

    def _build(self, relations: Relations) -> highspy.Highs:
        import numpy as np

        rows: list[tuple[Columns, Numbers]] = []
        for i, arrays in enumerate(self._sums):
            for columns in arrays:
                if self._is_column[i]:  # it moves with its column, and needs no other variable
                    continue
                index, value = self._terms(columns)
                both = np.array([2 * i, 2 * i + 1])
                rows.append((np.concatenate([index, both]), np.append(value, [-1.0, 1.0])))
        for a, b in relations.links:
            left, right = self._terms(a), self._terms(b, -1.0)
            rows.append((np.append(left[0], right[0]), np.append(left[1], right[1])))
        n = 2 * len(self._sums)
        lower = np.concatenate([np.zeros(n), -self._cells[self._own]])
        upper = np.concatenate([np.zeros(n), np.full(len(self._own), np.inf)])
        self._variables = np.arange(n, dtype=np.int32)
        return solver_of(np.zeros(len(lower)), lower, upper, rows, np.zeros(len(rows)))

    def set_room(self, down: Numbers, up: Numbers, price: Numbers) -> None:
        """How far each sum may move, and at which price a person. Shape: one a sum."""
        import numpy as np

        self._down, self._up = down, up
        n = 2 * len(self._sums)
        room, cost = np.empty(n), np.empty(n)
        room[0::2], room[1::2] = up, down
        cost[0::2] = cost[1::2] = price
        self._solver.changeColsBounds(n, self._variables, np.zeros(n), room)
        self._solver.changeColsCost(n, self._variables, cost)

    def move_sum(self, i: int, by: float) -> Moves | None:
        """The cheapest table in which sum `i` is larger by `by`; None where there is none."""
        up, down = max(by, 0.0), max(-by, 0.0)
        if up > self._up[i] + TOLERANCE or down > self._down[i] + TOLERANCE:
            return None
        self._solver.changeColBounds(2 * i, up, up)
        self._solver.changeColBounds(2 * i + 1, down, down)
        moves = self._solve()
        self._solver.changeColBounds(2 * i, 0.0, self._up[i])
        self._solver.changeColBounds(2 * i + 1, 0.0, self._down[i])
        return moves

    def move_columns(self, columns: Columns, by: float) -> Moves | None:
        """Likewise for any set of columns."""
        import numpy as np

        index, value = self._terms(columns)
        row = self._solver.getNumRow()
        self._solver.addRow(by, by, len(index), index.astype(np.int32), value)
        moves = self._solve()
        self._solver.deleteRows(1, np.array([row], dtype=np.int32))
        return moves

    def persons_in(self, columns: Columns) -> float:
        """In the true table."""
        return float(self._cells[columns].sum())

    def lean(self, sums: Numbers, columns: Numbers, most: float) -> Moves | None:
        """Another table, with weighted sums as large and weighted columns as small as can be.

        Args:
            sums, columns: weights, one each; of sums either sign.
            most: no sum moves up by more than this.
        The room set before is forgotten.
        """
        import numpy as np

        n = 2 * len(self._sums)
        room, cost = np.empty(n), np.empty(n)
        cost[0::2], cost[1::2] = -sums, sums
        room[0::2], room[1::2] = np.minimum(self._up, most), self._down
        is_single = self._single >= 0
        np.add.at(cost, 2 * self._single[is_single], columns[is_single])
        np.add.at(cost, 2 * self._single[is_single] + 1, -columns[is_single])
        own = np.arange(n, n + len(self._own), dtype=np.int32)
        self._solver.changeColsBounds(n, self._variables, np.zeros(n), room)
        self._solver.changeColsCost(n, self._variables, cost)
        self._solver.changeColsCost(len(own), own, columns[self._own])
        moves = self._solve()
        self._solver.changeColsCost(len(own), own, np.zeros(len(own)))
        return moves

    def _solve(self) -> Moves | None:
        import highspy
        import numpy as np

        self._solver.run()
        self.iterations += max(self._solver.getInfo().simplex_iteration_count, 0)
        if self._solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        found = np.array(self._solver.getSolution().col_value)
        n = 2 * len(self._sums)
        sums = found[0:n:2] - found[1:n:2]
        columns = np.zeros(len(self._cells))
        columns[self._own] = found[n:]
        is_single = self._single >= 0
        columns[is_single] = sums[self._single[is_single]]
        return Moves(sums, columns, self._cells)


class Moves:
    """One way to move from the true table to another one.

    Fields:
        sums: persons by which each sum is larger
        columns: persons by which each column is larger
    """

    def __init__(self, sums: Numbers, columns: Numbers, cells: Numbers) -> None:
        import numpy as np

        self.sums: Numbers = np.where(np.abs(sums) < TOLERANCE, 0.0, sums)
        self.columns, self._cells = columns, cells

    def touched(self) -> Iterable[int]:
        """Sums that differ from the true table's."""
        import numpy as np

        return (int(i) for i in np.flatnonzero(self.sums))

    def furthest(self, down: Numbers, up: Numbers, direction: float) -> float:
        """How many times these moves can be made, forwards (1) or backwards (-1).

        Args:
            down, up: how far each sum may move.
        """
        import numpy as np

        sums, columns = direction * self.sums, direction * self.columns
        limits = [up[sums > 0] / sums[sums > 0], down[sums < 0] / -sums[sums < 0]]
        falling = columns < -TOLERANCE
        limits.append(self._cells[falling] / -columns[falling])
        return float(min(np.concatenate([[np.inf], *limits]).min(), 1e6))
