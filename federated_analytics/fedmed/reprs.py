"""How a data set shows itself: its columns and what policies say of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from federated_analytics.errors import FederatedAnalyticsError
from federated_analytics.fedmed.expression import Column
from federated_analytics.fedmed.tables import Rows, html_table, text_table

if TYPE_CHECKING:
    from federated_analytics.fedmed.data import FedData

NAMED = 5
"""How many fragments are named."""


def text(data: FedData) -> str:
    """The expression, where it stands, and the columns of a table with kinds and counts."""
    head = f"FedData {_expression(data)} over {_fragments(data)}"
    try:
        rows = _schema(data)
    except FederatedAnalyticsError as error:
        return f"{head}\n{type(error).__name__}: {error}"
    return f"{head}\n{text_table(rows)}" if rows is not None else head


def as_html(data: FedData) -> str:
    """The same for a notebook; every text escaped."""
    import html

    head = html.escape(f"FedData {_expression(data)} over {_fragments(data)}")
    try:
        rows = _schema(data)
    except FederatedAnalyticsError as error:
        return f"<p>{head}</p><pre>{html.escape(str(error))}</pre>"
    return f"<p>{head}</p>" + (html_table(rows) if rows is not None else "")


def _expression(data: FedData) -> str:
    return str(data._final()[0])[:300] if data._sources else "of nothing"


def _fragments(data: FedData) -> str:
    names = [f"{s.fragment!r} at {s.server}" for s in data._sources]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return (", ".join(names[:NAMED]) + more) or "no fragments"


def _schema(data: FedData) -> Rows | None:
    """Columns with kind, rows and values; None of an expression or of no fragments."""
    if not data._sources or not isinstance(data._rows[0], Column):
        return None
    found: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for path, column in data.schema.items():
        kinds = list(dict.fromkeys(kind or "absent" for kind in column.kinds))
        rows, values = _all(column.rows), _all(column.values)
        missing = rows - values if rows is not None and values is not None else None
        found[("/".join(path) or "(itself)",)] = (" or ".join(kinds), rows, missing)
    return Rows(("column",), ("kind", "rows", "missing"), found)


def _all(counts: Sequence[int | None]) -> int | None:
    """Their sum; None where a policy keeps one back."""
    known = [n for n in counts if n is not None]
    return sum(known) if len(known) == len(counts) else None
