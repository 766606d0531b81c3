"""Whose rows these are: sets of persons, by the owner's column or row by row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from federated_analytics.fedmed.fragments import Fragment
from federated_analytics.privacy.person_bitmap import PersonBitmap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from federated_analytics.fedmed.evaluate import Rows


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
        there = self._of(positions, flags)
        if positions is None and self._ids is None and len(flags) == self.fragment.rows:
            return there, self.everybody.without(there)
        return there, self._of(positions, ~flags)

    def lacks_values(self, rows: Rows) -> bool:
        return not rows.present.all()

    def with_value(self, rows: Rows) -> tuple[PersonBitmap, PersonBitmap]:
        return self.divided(rows.positions, rows.present)

    def with_truth(self, rows: Rows) -> tuple[PersonBitmap, PersonBitmap]:
        return self.divided(rows.positions, rows.values & rows.present)

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
        return PersonBitmap.from_ids(np.arange(self.fragment.rows) if ids is None else ids)

    def prepare(self) -> None:
        """Find out now what every comparison begins with."""
        _ = self.everybody

    def _of(self, positions: NDArray[np.int64] | None, flags: Any) -> PersonBitmap:
        import numpy as np

        chosen = np.flatnonzero(flags)
        if positions is not None:
            chosen = positions[chosen]
        return PersonBitmap.from_ids(chosen if self._ids is None else self._ids[chosen])

    @cached_property
    def _ids(self) -> NDArray[np.int64] | None:
        import pandas as pd

        series = self.fragment.columns.get((self.column,)) if self.column else None
        if series is None:
            return None
        hashed = pd.util.hash_pandas_object(series, index=False).to_numpy()
        found: NDArray[np.int64] = (hashed >> 1).astype("int64")
        return found
