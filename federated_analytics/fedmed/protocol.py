"""What a client asks a server: reductions over expressions, many in one request."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from federated_analytics.errors import WireError
from federated_analytics.fedmed.expression import (
    Column,
    Expression,
    Scalar,
    check_names,
    dumps,
    from_plain,
    to_plain,
    walk,
)

MAX_ASKS = 500
MAX_NODES = 20_000

RELEASES = {
    "describe": "Records",
    "sum": "Moments",
    "len": "Count",
    "sqsum": "Moments",
    "moments": "Moments",
    "min": "IntervalCounts",
    "max": "IntervalCounts",
    "quantiles": "IntervalCounts",
    "hist": "IntervalCounts",
    "set": "Count",
    "counts": "Count",
    "missing": "Count",
    "comoments": "CoMoments",
}
"""The aggregate in the cells of each operation's answer.

    describe   one cell a column: variable = the column's path, level = its kind ("number",
               "text", "truth", "date"), Records(records = rows, persons = rows with a value)
    sum        Moments of the values (`total` is the sum); `sqsum` of their squares
    len        rows, the missing ones among them
    moments    mean, var, std, t-tests: centred, merged by Chan's formula
    min, max, quantiles, hist
               rows on the universal public grid (`fedmed.grid`), or between params["edges"];
               where the server's policy is off, min and max are `Extremes`, exact
    set        one cell a value: level = its text; `counts` the same, with the rows of each
    missing    rows without a value
    comoments  two or more operands: their co-moments matrix, rows with all of them
A server's own operation releases what its decorator states.
"""


@dataclass(frozen=True)
class Ask:
    """One reduction.

    Fields:
        fragment: the fragment's name at the server
        op: a key of `RELEASES`, or an operation of the server's own
        rows: what is reduced; one expression, more for `comoments`
        by: columns that the rows are grouped by
        params: of the operation, such as {"q": [0.5]} or {"edges": [0, 1, 2]}
    """

    fragment: str
    op: str
    rows: tuple[Expression, ...]
    by: tuple[Expression, ...] = ()
    params: Mapping[str, Scalar | list[Scalar]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_names((self.fragment, self.op))

    @property
    def columns(self) -> tuple[Column, ...]:
        """Every column that is read, once, in the order of the expressions."""
        nodes = (node for e in (*self.rows, *self.by) for node in walk(e))
        return tuple(dict.fromkeys(node for node in nodes if isinstance(node, Column)))

    def __str__(self) -> str:
        grouped = f".groupby({', '.join(map(str, self.by))})" if self.by else ""
        return f"{', '.join(map(str, self.rows))}{grouped}.{self.op}()"


@dataclass(frozen=True)
class Asks:
    """Everything that is asked of one server at once; answered in one release.

    The release has one answer an ask, in their order (`Answer.analysis` is the position); its
    `labels` hold "version" (of the fragment that was read), "kind" (of what was reduced) and
    "columns" (kinds of the ask's columns, with commas, "" where no value tells one), and its
    `refusal` says why an ask alone was not answered. The first ask of a fragment in a request
    decides its version for all.
    """

    asks: tuple[Ask, ...]

    def to_json(self) -> str:
        """As text, for `messages.Request.study`."""
        return dumps({"asks": [_ask_to_plain(ask) for ask in self.asks]})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote; WireError for anything else."""
        try:
            plain = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise WireError("The request is no list of asks.") from error
        if not isinstance(plain, dict) or set(plain) != {"asks"}:
            raise WireError("The request is no list of asks.")
        if not isinstance(plain["asks"], list) or len(plain["asks"]) > MAX_ASKS:
            raise WireError(f"A request holds at most {MAX_ASKS} asks.")
        asks = cls(tuple(_ask_from_plain(one) for one in plain["asks"]))
        if sum(1 for ask in asks.asks for e in (*ask.rows, *ask.by) for _ in walk(e)) > MAX_NODES:
            raise WireError(f"The expressions of a request have at most {MAX_NODES} parts.")
        return asks


def _refuse(name: str) -> float:
    raise ValueError(name)


def _ask_to_plain(ask: Ask) -> dict[str, Any]:
    return {
        "fragment": ask.fragment,
        "op": ask.op,
        "rows": [to_plain(e) for e in ask.rows],
        "by": [to_plain(e) for e in ask.by],
        "params": dict(ask.params),
    }


def _ask_from_plain(plain: Any) -> Ask:
    if not isinstance(plain, dict) or set(plain) != {"fragment", "op", "rows", "by", "params"}:
        raise WireError("An ask has fragment, op, rows, by and params.")
    if not isinstance(plain["rows"], list) or not isinstance(plain["by"], list):
        raise WireError("An ask's rows and by are lists of expressions.")
    rows, by = (tuple(from_plain(e) for e in plain[key]) for key in ("rows", "by"))
    return Ask(plain["fragment"], plain["op"], rows, by, _params(plain["params"]))


def _params(plain: Any) -> dict[str, Scalar | list[Scalar]]:
    if not isinstance(plain, dict) or len(plain) > 20:
        raise WireError("An ask's params are a table.")
    for value in plain.values():
        items = value if isinstance(value, list) else [value]
        if len(items) > 10_000 or not all(_is_scalar(item) for item in items):
            raise WireError("A parameter is a number, text, or a list of them.")
    return plain


def _is_scalar(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, bool | int | str)
