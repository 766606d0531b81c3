"""Dates as numbers and back: days since 1970-01-01, with fractions.

Whole days are exact, and times to a microsecond from 1880 to 2059, to 50 in the year 9999. Whole
days and the rest of a day are divided apart, here as in `sql.rows`, so that the client, a server's
memory and a database have the same double for the same moment.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DAY = 86_400_000_000
"""Microseconds of a day."""
EPOCH = datetime(1970, 1, 1)
_UNIT = timedelta(microseconds=1)
FIRST, LAST = (moment.replace(microsecond=0) for moment in (datetime.min, datetime.max))
"""What lies outside of them has no Python date, and is missing."""


def parsed(text: str) -> datetime | None:
    """A moment from ISO 8601 text, in UTC where it names a zone; None of other text.

    >>> parsed("2024-02-29"), parsed("3")
    (datetime.datetime(2024, 2, 29, 0, 0), None)
    """
    try:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None


def as_text(moment: date) -> str:
    """A date or a moment as ISO 8601 text. TypeError for pandas' NaT, which is neither."""
    if isinstance(moment, datetime) and moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    text = moment.isoformat()
    if parsed(text) is None:
        raise TypeError(f"{text} is no date")
    return text


def days_of(moment: date) -> float:
    """Days since 1970-01-01.

    >>> days_of(date(1970, 1, 3)), days_of(datetime(1969, 12, 31, 6))
    (2.0, -0.75)
    """
    found = parsed(as_text(moment))
    assert found is not None
    return _days((found - EPOCH) // _UNIT)


def _days(microseconds: int) -> float:
    whole, rest = divmod(abs(microseconds), DAY)
    days = whole + rest / DAY
    return days if microseconds >= 0 else -days


def date_of(days: float) -> date:
    """The date so many days after 1970-01-01; a datetime where it is not at midnight.

    What is beyond Python's dates is their first or their last.

    >>> date_of(2.0), date_of(-0.75)
    (datetime.date(1970, 1, 3), datetime.datetime(1969, 12, 31, 6, 0))
    """
    if days <= _days((FIRST - EPOCH) // _UNIT):
        return date.min
    if days >= _days((datetime.max - EPOCH) // _UNIT):
        return date.max
    whole = int(days // 1)
    return day_or_moment(EPOCH + timedelta(whole) + round((days - whole) * DAY) * _UNIT)


def day_or_moment(moment: datetime) -> date:
    """The date alone of a moment at midnight."""
    is_day = moment.time() == datetime.min.time()
    return moment.date() if is_day else moment


def is_in_range(values: NDArray[np.datetime64]) -> NDArray[np.bool_]:
    """Which moments Python has, too; NaT is none."""
    import numpy as np

    unit = np.datetime_data(values.dtype)[0]
    first, last = (np.datetime64(moment, "s") for moment in (FIRST, LAST))
    if unit == "ns":  # all that it can hold are; the ends themselves it cannot
        return ~np.isnat(values)
    found: NDArray[np.bool_] = (values >= first) & (values < last + np.timedelta64(1, "s"))
    return found


def difference(left: NDArray[Any], right: NDArray[Any]) -> NDArray[np.float64]:
    """Days from `right` to `left`, of moments that are there and in range."""
    return _days_of(_microseconds(left) - _microseconds(right))


def days(values: NDArray[Any]) -> NDArray[np.float64]:
    """Days since 1970-01-01 of each moment."""
    return _days_of(_microseconds(values))


def _days_of(microseconds: NDArray[np.int64]) -> NDArray[np.float64]:
    import numpy as np

    rest = np.fmod(microseconds, DAY)  # it has the sign of what is divided, as in a database
    whole = microseconds - rest
    found: NDArray[np.float64] = whole.astype(np.float64) / DAY + rest.astype(np.float64) / DAY
    return found


def moved(
    values: NDArray[Any], by: NDArray[np.float64]
) -> tuple[NDArray[np.datetime64], NDArray[np.bool_]]:
    """Moments so many days later, and which of them are in range."""
    import numpy as np

    start = _microseconds(values)
    near = np.isfinite(by) & (np.abs(by) < REACH)
    later = start + np.rint(np.where(near, by, 0.0) * DAY).astype(np.int64)
    found = later.astype("datetime64[us]")
    return found, near & is_in_range(found)


REACH = 4_000_000
"""More days than lie between the first and the last date."""


def _microseconds(values: NDArray[Any]) -> NDArray[np.int64]:
    import numpy as np

    found: NDArray[np.int64] = np.asarray(values).astype("datetime64[us]").astype(np.int64)
    return found
