"""The servers' answers to one query, side by side: what they hold and what is not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce
from typing import TYPE_CHECKING, Any

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.moments import Moments
from federated_analytics.aggregates.table import Key
from federated_analytics.errors import ShapeError
from federated_analytics.fedmed.batch import Query, Reply
from federated_analytics.fedmed.errors import AskFailed, Failure, WrongKind
from federated_analytics.fedmed.lazy import UNTOLD

if TYPE_CHECKING:
    from federated_analytics.messages import Answer

MISSING = "missing"
"""Name of the cells that count rows without a value; also the operation that asks for them."""
Group = tuple[str, ...]
"""Levels of what the rows are grouped by; () where they are not."""
Place = tuple[Group, str, str]
"""Group, variable and level of a cell. The variable is kept only where it is a column's path."""


@dataclass(frozen=True)
class Part:
    """One server's cells.

    Fields:
        withheld: rules by which it kept cells back, with "fewer than k" where it says so
        missing: rows without a value as the server says it: a number, or "fewer than 5"
        kind: of the values that are reduced; "" where no value tells it
        columns: the kind of each column that was read, so as well
    """

    server: str
    fragment: str
    cells: Mapping[Place, Aggregate]
    withheld: tuple[str, ...]
    missing: str
    version: str
    min_count: int
    kind: str = ""
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gathered:
    """Every part of a query; `failures` holds servers without one, where partial is allowed.

    Fields:
        kind: of what is reduced, the same at all servers; None where none tells it
    """

    parts: tuple[Part, ...]
    failures: tuple[Failure, ...]
    operation: str
    kind: str | None = None

    @property
    def servers(self) -> int:
        return len(self.parts) + len(self.failures)

    def merged(self, place: Place) -> Aggregate | None:
        """The cell of all parts; None where none has it."""
        cells = [part.cells[place] for part in self.parts if place in part.cells]
        if len({type(cell) for cell in cells}) > 1:
            names = " and ".join(sorted({type(cell).__name__ for cell in cells}))
            raise ShapeError(
                f"{names} cannot be merged.",
                where=self.operation,
                remedy="The servers answer the operation in different forms.",
            )
        if len(cells) > 1 and isinstance(cells[0], Moments):
            return pooled([cell for cell in cells if isinstance(cell, Moments)])
        return reduce(lambda a, b: a.merge(b), cells) if cells else None

    def places(self) -> Iterator[Any]:
        """Every place that a part has, once."""
        yield from dict.fromkeys(place for part in self.parts for place in part.cells)

    def decoded(self, group: Callable[[Group], Any], level: Callable[[str], Any]) -> Gathered:
        """The same with values in place of their texts: 1 and 1.0 are one group."""
        return replace(self, parts=tuple(_decoded(part, group, level) for part in self.parts))

    def lacking(self, place: Place) -> list[Part]:
        """Parts that kept something back and do not show this place: it may be what they kept."""
        return [p for p in self.parts if p.withheld and place not in p.cells]

    @property
    def marks(self) -> tuple[str, ...]:
        """What a reader must know of any number made of this."""
        found = []
        if self.failures:
            names = ", ".join(f"{f.server} {f.fragment!r}: {f.code}" for f in self.failures)
            found.append(f"partial: {len(self.parts)} of {self.servers} fragments; not {names}")
        untold = [p for p in self.parts if p.missing and not p.missing.isdigit()]
        if untold:
            names = ", ".join(f"{p.missing} at {p.server}" for p in untold)
            found.append(f"{UNTOLD}{self.missing}, and {names}")
        return tuple(found)

    @property
    def missing(self) -> int:
        return sum(int(p.missing) for p in self.parts if p.missing.isdigit())

    @property
    def versions(self) -> frozenset[tuple[str, str, str]]:
        return frozenset((p.server, p.fragment, p.version) for p in self.parts)

    def without(self, lacking: list[Part], failures: list[Failure]) -> Gathered:
        """The same with some parts gone, for partial answers."""
        kept = tuple(part for part in self.parts if part not in lacking)
        return replace(self, parts=kept, failures=(*self.failures, *failures))


def pooled(states: Sequence[Moments]) -> Moments:
    """All states at once, by the formulas of Chan et al. on fractions: rounded once, at the end.

    Whole numbers so have a whole sum, which merging two by two does not promise.
    """
    n = sum(state.n for state in states)
    if not n:
        return Moments.zero()
    means = [Fraction(state.mean) + Fraction(state.residual) for state in states]
    exact = sum((state.n * m for state, m in zip(states, means, strict=True)), Fraction()) / n
    squares = (
        Fraction(state.m2) + state.n * (m - exact) ** 2
        for state, m in zip(states, means, strict=True)
    )
    mean = float(exact)
    return Moments(n, mean, float(sum(squares, Fraction())), residual=float(exact - Fraction(mean)))


def _decoded(part: Part, group: Callable[[Group], Any], level: Callable[[str], Any]) -> Part:
    cells: dict[Any, Aggregate] = {}
    for (levels, variable, text), value in part.cells.items():
        place = group(levels), variable, level(text)
        cells[place] = cells[place].merge(value) if place in cells else value
    return replace(part, cells=cells)


def gather(query: Query) -> Gathered:
    """A query's answers, asked for when they are not there yet.

    Raises:
        AskFailed: a server gave none, and the query is not partial; or no server did.
        WrongKind: the servers' values are of different kinds, so that nothing is one number.
    """
    query.resolve()
    failures = [reply for reply in query.replies if isinstance(reply, Failure)]
    if any(failure.code == WrongKind.code for failure in failures):
        query.explain()
    if failures and (not query.partial or len(failures) == len(query.replies)):
        raise AskFailed(failures, len(query.replies))
    parts = [
        _part(reply, query, i) for i, reply in enumerate(query.replies) if isinstance(reply, Reply)
    ]
    operation = str(query.asks[0]) if query.asks else ""
    return Gathered(tuple(parts), tuple(failures), operation, _kind(parts, query))


def _kind(parts: Sequence[Part], query: Query) -> str | None:
    """What all parts were made of. WrongKind where a column, or what was made, differs."""
    from federated_analytics.fedmed.schema import one_kind

    servers = [part.server for part in parts]
    for kinds in zip(*(part.columns for part in parts), strict=False):
        one_kind([kind or None for kind in kinds], servers, str(query.asks[0]))
    return one_kind([part.kind or None for part in parts], servers, str(query.asks[0]))


def _part(reply: Reply, query: Query, position: int) -> Part:
    source, answer, op = query.sources[position], reply.answer, query.asks[position].op
    cells: dict[Place, Aggregate] = {}
    for cell in answer.cells:
        if op != MISSING and cell.key.name == MISSING:
            continue
        levels = tuple(level for _, level in cell.key.strata)
        cells[levels, cell.key.variable if op == "describe" else "", cell.key.level] = cell.value
    withheld = [w for w in answer.withheld if op == MISSING or w.key.name != MISSING]
    return Part(
        source.server,
        source.fragment,
        cells,
        tuple(f"{w.rule}, fewer than {w.below}" if w.below else w.rule for w in withheld),
        _missing(answer) if op not in ("len", MISSING) else "",
        answer.labels.get("version", ""),
        reply.min_count,
        answer.labels.get("kind", "") if _tells_kind(op, cells) else "",
        tuple(answer.labels.get("columns", "").split(",")) if op != "describe" else (),
    )


def _tells_kind(op: str, cells: Mapping[Place, Aggregate]) -> bool:
    """Whether there is a value: a column without any fits every kind, and rows have none.

    Where no value is between a histogram's edges there may be others.
    """
    if op in ("describe", "len", MISSING):
        return False
    return op == "hist" or any(any(cell.support) for cell in cells.values())


def _missing(answer: Answer) -> str:
    """Rows without a value, from the cells that count them beside each statistic's own."""
    counts = [c.value.persons for c in answer.cells if _counts_missing(c.key, c.value)]  # type: ignore[attr-defined]
    kept = [w for w in answer.withheld if w.key.name == MISSING]
    if not kept:
        return str(sum(counts)) if counts else answer.labels.get("missing", "0")
    below = max(w.below for w in kept)
    some = f"fewer than {below}" if below and len(kept) == 1 else "some"
    return f"{sum(counts)} and {some}" if sum(counts) else some


def _counts_missing(key: Key, value: Aggregate) -> bool:
    return key.name == MISSING and isinstance(value, Count)


def whole(gathered: Gathered, partial: bool) -> Gathered:
    """For one number without groups: a part that kept it back fails as a server does.

    Raises:
        AskFailed: a part is withheld, and the query is not partial; or all are.
    """
    lacking = [part for part in gathered.parts if part.withheld]
    if not lacking:
        return gathered
    failures = [
        Failure(
            part.server,
            part.fragment,
            gathered.operation,
            "withheld",
            f"The server's policy keeps the number back ({'; '.join(sorted(set(part.withheld)))}).",
            f"Ask for rows of at least {part.min_count} persons, or ask less finely.",
        )
        for part in lacking
    ]
    if not partial or len(lacking) == len(gathered.parts):
        raise AskFailed(failures, gathered.servers)
    return gathered.without(lacking, failures)
