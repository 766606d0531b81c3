"""Whose rows these are: sets of persons, by the owner's column or row by row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from federated_analytics.fedmed.fragments import Fragment
from federated_analytics.fedmed.guards import LEVEL_BINS, MOST_LEVELS, level_runs
from federated_analytics.fedmed.reduce import Part, groups
from federated_analytics.privacy.person_bitmap import PersonBitmap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from federated_analytics.fedmed.rows import Rows


@dataclass(frozen=True)
class Persons:
    """Person ids of rows in memory: those of the owner's column, or each row's own position.

    It is what `guards.Parts` asks for.

    Args:
        column: of the persons, or "".
    """

    fragment: Fragment
    column: str

    def divided(
        self, positions: NDArray[np.int64] | None, flags: NDArray[np.bool_]
    ) -> tuple[PersonBitmap, PersonBitmap]:
        """Who has a row for which the flag is true, and who has one for which it is not.

        Args:
            positions: of the rows in the fragment; None where they are all of its rows.
            flags: one a row.
        """

        import numpy as np

        if self._ids is None and positions is None and len(flags) == self.fragment.rows:
            there = PersonBitmap.from_flags(flags)
            return there, self.everybody.without(there)
        # Places, not flags: a column may be shorter than the fragment's longest.
        sides = np.flatnonzero(flags), np.flatnonzero(~flags)
        return self._at(positions, sides[0]), self._at(positions, sides[1])

    def lacks_values(self, *operands: Rows) -> bool:
        return not all(rows.is_complete for rows in operands)

    def with_value(self, *operands: Rows) -> tuple[PersonBitmap, PersonBitmap]:
        present = operands[0].present
        for other in operands[1:]:
            present = present & other.present
        return self.divided(operands[0].positions, present)

    def with_truth(self, rows: Rows) -> tuple[PersonBitmap, PersonBitmap]:
        return self.divided(rows.positions, rows.truths)

    def strata(self, by: tuple[Rows, ...]) -> Mapping[tuple[str, ...], PersonBitmap]:
        return {
            levels: self._at(by[0].positions, chosen)
            for levels, chosen in groups(by, len(by[0]))
            if chosen is not None
        }

    def levels(self, rows: Rows) -> Sequence[PersonBitmap] | None:
        import numpy as np

        moments = Part((rows,)).moments()
        width = (moments.greatest - moments.least) / LEVEL_BINS
        if not 0 < width < math.inf:
            return None

        def places(values: NDArray[np.float64]) -> NDArray[np.int64]:
            found = ((values - moments.least) / width).astype(np.int64)
            return np.minimum(found, LEVEL_BINS - 1)

        values = rows.floats()
        some = values[:: max(1, len(values) // 1_000)]
        if len(np.unique(places(some))) > MOST_LEVELS:
            return None
        held = places(values)
        runs = level_runs(np.unique(held).tolist())
        if runs is None:
            return None
        there = np.flatnonzero(rows.present)
        return [
            self._at(rows.positions, there[(held >= run.start) & (held < run.stop)]) for run in runs
        ]

    def around_mean(self, rows: Rows) -> tuple[int, float, float]:
        moments = Part((rows,)).moments()
        if not moments.n:
            return 0, 0.0, 0.0
        largest = max(moments.greatest - moments.mean, moments.mean - moments.least)
        # No square is above |deviation| times the largest of them.
        return moments.n, largest, moments.m2 / largest if largest > 0 else 0.0

    def spread(self, rows: Rows, top: int) -> tuple[int, float, float]:
        import numpy as np

        values = rows.floats()
        if not len(values):
            return 0, 0.0, 0.0
        deviations = np.abs(values - float(np.median(values)))
        top = min(top, len(deviations))
        largest = np.partition(deviations, len(deviations) - top)[-top:]
        return int(np.count_nonzero(deviations)), float(largest.sum()), float(deviations.sum())

    @cached_property
    def everybody(self) -> PersonBitmap:
        import numpy as np

        ids = self._ids
        if ids is not None:
            return PersonBitmap.from_ids(ids)
        return PersonBitmap.from_flags(np.ones(self.fragment.rows, dtype=np.bool_))

    def prepare(self) -> None:
        """Find out now what every comparison begins with."""
        _ = self.everybody

    def _at(self, positions: NDArray[np.int64] | None, chosen: Any) -> PersonBitmap:
        """The persons of some rows, by their places among `positions` (or among all)."""
        import numpy as np

        if positions is not None:
            chosen = positions[chosen]
        if self._ids is not None:
            return PersonBitmap.from_ids(self._ids[chosen])
        flags = np.zeros(self.fragment.rows, dtype=np.bool_)
        flags[chosen] = True
        return PersonBitmap.from_flags(flags)

    @cached_property
    def _ids(self) -> NDArray[np.int64] | None:
        import pandas as pd

        series = self.fragment.columns.get((self.column,)) if self.column else None
        if series is None:
            return None
        hashed = pd.util.hash_pandas_object(series, index=False).to_numpy()
        found: NDArray[np.int64] = (hashed >> 1).astype("int64")
        return found
