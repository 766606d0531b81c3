"""Tables of numbers: by group, by value, by bin, by pair of columns."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from federated_analytics.fedmed.lazy import Lazy

SHOWN = 60
"""How many rows of a table are printed."""


@dataclass(frozen=True)
class Rows:
    """A finished table.

    Fields:
        keys: names of the columns that tell the rows apart
        columns: names of the numbers
        rows: by key, one value or a tuple of several; a number that a policy kept back is None
    """

    keys: tuple[str, ...]
    columns: tuple[str, ...]
    rows: Mapping[tuple[Any, ...], tuple[Any, ...]]


class Table(Lazy[Rows], Mapping[Any, Any]):
    """Numbers by group or value: a mapping, computed when it is used.

    The number is None where a server's policy keeps its part back: a sum over some servers is
    never shown as the whole.

    >>> from federated_analytics import fedmed as fm
    >>> data = fm.FedData([fm.Local({"sex": ["f", "m", "f"], "age": [30, 50, 40]})])
    >>> table = data.groupby("sex")["age"].mean()
    >>> table["f"], dict(table)
    (35.0, {'f': 35.0, 'm': 50.0})
    """

    def __getitem__(self, key: Any) -> Any:
        return _single(self.value.rows[_tuple(key)])

    def __iter__(self) -> Iterator[Any]:
        return (_single(key) for key in self.value.rows)

    def __len__(self) -> int:
        return len(self.value.rows)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return dict(self) == (dict(other) if isinstance(other, Mapping) else other)

    def to_frame(self) -> Any:
        """As a pandas DataFrame, the keys as its index."""
        import pandas as pd

        rows = self.value
        names = list(rows.keys)
        index = (
            pd.MultiIndex.from_tuples(list(rows.rows), names=names)
            if len(names) > 1
            else pd.Index([key[0] for key in rows.rows], name=names[0])
        )
        return pd.DataFrame(list(rows.rows.values()), index=index, columns=list(rows.columns))

    def to_series(self) -> Any:
        """As a pandas Series; for tables of one column."""
        return self.to_frame().iloc[:, 0]

    def _shown(self) -> str:
        return text_table(self.value)

    def __repr__(self) -> str:
        notes = "".join(f"\n({note})" for note in self.notes)
        return f"{self._shown()}{notes}"

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return html_table(self.value) + notes


class Histogram(Lazy[tuple[tuple[Any, ...], tuple[int, ...]]]):
    """Rows in bins that all servers could tell apart: `edges` one more than `counts`.

    The last bin holds its upper edge too. Rows outside the edges are not in any bin. The edges of
    a histogram of dates are dates.
    """

    @property
    def edges(self) -> tuple[Any, ...]:
        return self.value[0]

    @property
    def counts(self) -> tuple[int, ...]:
        return self.value[1]

    def _shown(self) -> str:
        return text_table(self._rows())

    def _repr_html_(self) -> str:
        return html_table(self._rows())

    def _rows(self) -> Rows:
        edges, counts = self.value
        pairs = itertools.pairwise(edges)
        named = {
            (f"{_edge(low)} to {_edge(high)}",): (n,)
            for (low, high), n in zip(pairs, counts, strict=True)
        }
        return Rows(("bin",), ("rows",), named)


def _edge(edge: Any) -> str:
    return f"{edge:g}" if isinstance(edge, float) else str(edge)


def _tuple(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)


def _single(key: tuple[Any, ...]) -> Any:
    return key[0] if len(key) == 1 else key


def shown(value: Any) -> str:
    """A cell as text: numbers to six digits, what a policy kept back as "-"."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else f"{value:.6g}"
    return str(value)


def text_table(rows: Rows) -> str:
    """Aligned columns, as pandas prints a frame."""
    lines = [[*rows.keys, *rows.columns], *_cells(rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    keys = len(rows.keys)
    out = [
        "  ".join(
            text.ljust(width) if i < keys else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    if len(rows.rows) > SHOWN:
        out.append(f"… {len(rows.rows) - SHOWN} more rows")
    return "\n".join(out)


def html_table(rows: Rows) -> str:
    """As HTML, every text escaped."""
    names = [*rows.keys, *rows.columns]
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in line) + "</tr>"
        for line in _cells(rows)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(rows: Rows) -> Sequence[list[str]]:
    return [
        [*map(shown, key), *map(shown, values)] for key, values in list(rows.rows.items())[:SHOWN]
    ]
