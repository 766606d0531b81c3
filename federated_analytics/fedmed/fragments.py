"""A fragment: columns of one kind each, from whatever its owner holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from federated_analytics.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

Keys = tuple[str, ...]
NUMBER, TEXT, TRUTH, DATE = "number", "text", "truth", "date"
MAX_DEPTH = 20


class UnsupportedData(ConfigError, TypeError):
    """Data that is no column or table of numbers, truth values, texts or dates."""

    code = "unsupported_data"
    default_remedy = (
        "Give a DataFrame, a Series, a list, a dict of lists (nested, if need be), the path of a "
        "Parquet or CSV file, or fm.SQLTable(url, table)."
    )


@dataclass(frozen=True)
class Fragment:
    """Columns by path; the path is () where the fragment is itself a column.

    Fields:
        columns: each a pandas Series of one kind, with a RangeIndex
        kinds: "number", "text", "truth" or "date"
        kept: what was computed of each column, so that it is computed once a version
    """

    columns: Mapping[Keys, pd.Series] = field(repr=False)
    kinds: Mapping[Keys, str]
    kept: dict[Keys, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def rows(self) -> int:
        """Rows of the longest column."""
        return max((len(column) for column in self.columns.values()), default=0)

    @classmethod
    def of(cls, data: Any) -> Self:
        """The fragment that data make; UnsupportedData where they make none."""
        columns, kinds = {}, {}
        for keys, values in _columns(data, (), MAX_DEPTH):
            if keys in columns:
                raise UnsupportedData(
                    "Two columns have this name.", where=_place(keys), remedy="Rename one of them."
                )
            columns[keys], kinds[keys] = _typed(values, keys)
        if not columns:
            raise UnsupportedData("There is no column.", where="data")
        return cls(columns, kinds)

    def joined(self, rows: Fragment) -> Fragment:
        """This fragment with rows behind its own; UnsupportedData where columns differ."""
        import pandas as pd

        if set(rows.columns) != set(self.columns):
            raise UnsupportedData("The rows to add have other columns.")
        both = {
            keys: pd.concat([column, rows.columns[keys]], ignore_index=True)
            for keys, column in self.columns.items()
        }
        kinds = {}
        for keys, column in both.items():
            if (
                self.kinds[keys] != rows.kinds[keys]
                and len(self.columns[keys])
                and len(rows.columns[keys])
            ):
                raise UnsupportedData(
                    f"The column is {self.kinds[keys]}, the rows to add have {rows.kinds[keys]}.",
                    where="".join(f"[{key!r}]" for key in keys),
                )
            both[keys], kinds[keys] = _typed(column, keys)
        return Fragment(both, kinds)


def _columns(data: Any, keys: Keys, depth: int) -> Iterator[tuple[Keys, Any]]:
    import numpy as np
    import pandas as pd

    if not depth:
        raise UnsupportedData(f"Data may be nested {MAX_DEPTH} deep.")
    if isinstance(data, str | Path):
        yield from _columns(_read(Path(data)), keys, depth)
    elif isinstance(data, pd.DataFrame):
        for position, name in enumerate(data.columns):
            path = map(str, name) if isinstance(name, tuple) else [str(name)]
            yield (*keys, *path), data.iloc[:, position]
    elif isinstance(data, Mapping):
        for name, values in data.items():
            yield from _columns(values, (*keys, str(name)), depth - 1)
    elif isinstance(data, pd.Series):
        yield keys, data
    elif isinstance(data, np.ndarray):
        if data.ndim != 1:
            raise UnsupportedData("An array has one dimension.", where=_place(keys))
        yield keys, pd.Series(data)
    elif isinstance(data, pd.Index | pd.api.extensions.ExtensionArray):
        yield keys, pd.Series(data)
    elif isinstance(data, Sequence) and not isinstance(data, bytes | bytearray):
        if data and all(isinstance(row, Mapping) for row in data):
            yield from _columns(pd.DataFrame(list(data)), keys, depth)
        else:
            yield keys, pd.Series(list(data), dtype=None if len(data) else "float64")
    else:
        raise UnsupportedData(
            f"{type(data).__name__} cannot be a fragment's data.", where=_place(keys)
        )


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    readers = {".parquet": pd.read_parquet, ".csv": pd.read_csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UnsupportedData("A file is Parquet or CSV.", where=path.name)
    try:
        return reader(path)
    except (OSError, ValueError) as error:
        raise UnsupportedData("The file cannot be read.", where=path.name) from error


def _typed(values: pd.Series, keys: Keys) -> tuple[pd.Series, str]:
    """A column as int64, float64, bool, datetime64 or object of text, and its kind."""
    import pandas as pd
    from pandas.api import types

    values = values.reset_index(drop=True)
    if types.is_bool_dtype(values.dtype):
        if values.isna().any():
            return values.astype("boolean"), TRUTH
        return values.astype(bool), TRUTH
    if types.is_numeric_dtype(values.dtype) and not types.is_complex_dtype(values.dtype):
        if types.is_integer_dtype(values.dtype) and not values.isna().any():
            fits = values.empty or values.max() < 2**63
            return values.astype("int64" if fits else "float64"), NUMBER
        return values.astype("float64"), NUMBER
    if types.is_datetime64_any_dtype(values.dtype):
        return _dates(values), DATE
    present = values.dropna()
    found = {_kind(value) for value in present.iloc[:10_000]} | {_kind(v) for v in present}
    if not found:  # a column of objects without any is one of texts, as pandas reads it
        return values.astype(object).where(values.notna(), None), TEXT
    if len(found) > 1 or None in found:
        raise UnsupportedData(
            "A column holds values of one kind: numbers, truth values, texts or dates.",
            where=_place(keys),
        )
    kind = str(found.pop())
    if kind == NUMBER:
        return pd.to_numeric(values, errors="coerce").astype("float64"), NUMBER
    if kind == TRUTH:
        return values.astype("boolean"), TRUTH
    if kind == DATE:
        return _dates(_as_dates(values, present, keys)), DATE
    return values.astype(object).where(values.notna(), None), TEXT


def _as_dates(values: pd.Series, present: pd.Series, keys: Keys) -> pd.Series:
    """Python's dates; those of time zones as of UTC."""
    import pandas as pd

    zoned = {getattr(value, "tzinfo", None) is not None for value in present}
    if len(zoned) > 1:
        raise UnsupportedData(
            "Some times have a time zone, and others have none.", where=_place(keys)
        )
    try:
        return pd.to_datetime(values, utc=True in zoned)
    except (ValueError, OverflowError) as error:
        raise UnsupportedData("The dates cannot be read.", where=_place(keys)) from error


def _dates(values: pd.Series) -> pd.Series:
    zone = getattr(values.dt, "tz", None)
    return values.dt.tz_convert(None) if zone is not None else values


def _kind(value: Any) -> str | None:
    import datetime
    from decimal import Decimal

    import numpy as np

    if isinstance(value, bool | np.bool_):
        return TRUTH
    if isinstance(value, int | float | np.number | Decimal) and not isinstance(value, complex):
        return NUMBER
    if isinstance(value, str):
        return TEXT
    return DATE if isinstance(value, datetime.date) else None


def _place(keys: Keys) -> str:
    return "".join(f"[{key!r}]" for key in keys) or "data"
