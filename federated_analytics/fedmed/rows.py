"""The rows of an expression: values, which of them are there, and where they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from federated_analytics.errors import RequestRefused
from federated_analytics.fedmed import dates
from federated_analytics.fedmed.fragments import DATE, NUMBER, TRUTH

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

Array = Any
NUMERIC = (NUMBER, TRUTH)
SAFE = 2**53
"""Whole numbers up to here are the same as float64, so nothing is lost by changing over."""


class UnknownColumn(RequestRefused):
    """A column that a fragment does not have."""

    code = "unknown_column"


class UnknownRowOperation(RequestRefused):
    """An operation on rows that the server does not offer."""

    code = "unknown_operation"


class WrongKind(RequestRefused):
    """An operation on a kind of value that it is not for."""

    code = "wrong_kind"


class OtherRows(RequestRefused):
    """Two columns, or a column and a mask, that are not of the same rows."""

    code = "other_rows"
    default_remedy = "Combine columns of the same fragments and the same filter."


@dataclass(frozen=True)
class Rows:
    """The rows of an expression.

    Fields:
        values: float64, int64, bool, datetime64 or object of text; one a row
        present: which rows have a value
        kind: "number", "text", "truth" or "date"
        positions: of the rows in the fragment; None where they are all of its rows
        scalar: the same value for each row, of a constant
        kept: what was computed of just these rows; those of a column outlive the request. Among
            it "codes", the level of each row and the levels, and "whole", whole numbers in as few
            bytes as hold them
    """

    values: Array
    present: Array
    kind: str
    positions: NDArray[np.int64] | None = None
    scalar: bool = False
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def extent(self) -> object:
        """Of two parts with one text, whether they are over the same rows."""
        return len(self.values)

    @property
    def there(self) -> int:
        """How many rows have a value; counted once."""
        import numpy as np

        if "there" not in self.kept:
            self.kept["there"] = int(np.count_nonzero(self.present))
        return int(self.kept["there"])

    @property
    def is_complete(self) -> bool:
        """Whether every row has a value."""
        return self.there == len(self)

    @property
    def truths(self) -> Array:
        """Where a mask is true; where it has no value it is not."""
        return self.values if self.is_complete else self.values & self.present

    def floats(self) -> Array:
        """The values that are there, as float64; dates as days since 1970-01-01."""
        import numpy as np

        there = self.values[self.present]
        return dates.days(there) if self.kind == DATE else np.asarray(there, dtype=np.float64)


LARGEST = 1e140
"""Numbers beyond count as missing, so that no row makes a sum of squares overflow."""


def is_held(values: Array) -> Array:
    """Which numbers are within what is computed with; NaN is not."""
    import numpy as np

    return np.abs(values) <= LARGEST


@lru_cache(maxsize=4)
def every_one(rows: int) -> NDArray[np.bool_]:
    """So many rows that all have a value; nobody changes it."""
    import numpy as np

    present = np.ones(rows, dtype=np.bool_)
    present.flags.writeable = False
    return present


def mask_of(values: NDArray[np.bool_]) -> Rows:
    """A mask: it has a value everywhere."""
    return Rows(values, every_one(len(values)), TRUTH, kept={"there": len(values)})


def all_present(arguments: list[Rows]) -> Array:
    import numpy as np

    columns = [a for a in arguments if not a.scalar]
    lacking = [a.present for a in columns if not a.is_complete]
    return np.logical_and.reduce(lacking) if lacking else every_one(len(columns[0]))


def narrow(values: NDArray[np.int64], least: float, greatest: float) -> NDArray[Any]:
    """Whole numbers of a range in as few bytes as hold them."""
    import numpy as np

    for kind in (np.int8, np.int16, np.int32):
        held = np.iinfo(kind)
        if held.min <= least and greatest <= held.max:
            return values.astype(kind)
    return values


def series_of(rows: Rows) -> pd.Series:
    import pandas as pd

    return pd.Series(rows.values, dtype=rows.values.dtype)


def without_zone(moments: pd.Series) -> Array:
    return moments.dt.tz_localize(None).to_numpy()
