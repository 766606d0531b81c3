"""Reductions of a table's expressions, by group, in the database: aggregates come back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.co_moments import CoMoments
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.extremes import Extremes
from federated_analytics.aggregates.interval_counts import IntervalCounts
from federated_analytics.aggregates.moments import Moments
from federated_analytics.aggregates.records import Records
from federated_analytics.aggregates.table import Key
from federated_analytics.fedmed import grid
from federated_analytics.fedmed.fragments import DATE, NUMBER, TRUTH
from federated_analytics.fedmed.protocol import Ask
from federated_analytics.fedmed.reduce import (
    MAX_GROUPS,
    MISSING,
    BadParameter,
    Table,
    UnknownOperation,
    edges_of,
    moments_of_truth,
    text_of,
)
from federated_analytics.fedmed.rows import OtherRows, WrongKind
from federated_analytics.fedmed.sql.rows import Relation, Sql, SqlRows, number, ordered
from federated_analytics.fedmed.sql.table import Snapshot

Levels = tuple[str, ...]
Found = Iterator[tuple[Levels, str | None, Aggregate]]
"""Levels of a group, the value's level (None of the count of missing values), and the aggregate."""
_DOUBLES: postgresql.ARRAY[float] = postgresql.ARRAY(sa.Double())
_TINY = 1e-145
"""A deviation below is 0: its square would be below the smallest double, which is an error."""


def described(snapshot: Snapshot) -> Table:
    """One cell a column: rows, and rows with a value."""
    relation = snapshot.relation()
    values = [relation.column(path).value for path in relation.columns]
    counts: list[Sql] = [sa.func.count(), *map(sa.func.count, values)]
    query = sa.select(*counts).select_from(relation.rows())
    every, *there = list[int](snapshot.fetched(query)[0])
    return {
        Key((), json.dumps(list(path)), kind, "describe"): Records(every, n, 1 if every else 0)
        for (path, kind), n in zip(snapshot.kinds.items(), there, strict=True)
    }


def reduced(
    ask: Ask,
    snapshot: Snapshot,
    relation: Relation,
    operands: tuple[SqlRows, ...],
    by: tuple[SqlRows, ...],
    exact: bool,
) -> Table:
    """The cells of an ask, as `fedmed.reduce.reduced` finds them in memory.

    Raises:
        RequestRefused: the operation, a parameter or a kind does not fit.
    """
    method = REDUCTIONS.get(ask.op)
    if method is None:
        raise UnknownOperation(f"The server has no operation {ask.op[:60]!r} for a table.")
    for other in (*operands[1:], *by):
        if other.extent != operands[0].extent:
            raise OtherRows("The columns are not of the same rows.", where=str(ask)[:200])
    reduction = Reduction(ask, snapshot, relation, operands, by, exact)
    variable = ", ".join(map(str, ask.rows))
    found: Table = {}
    for levels, level, value in method(reduction):
        strata = tuple((str(e), one) for e, one in zip(ask.by, levels, strict=True))
        name = MISSING if level is None else ask.op
        found[Key(strata, variable, level or "", name)] = value
    return found


@dataclass(frozen=True)
class Reduction:
    """One ask of a table; its statements."""

    ask: Ask
    snapshot: Snapshot
    relation: Relation
    operands: tuple[SqlRows, ...]
    by: tuple[SqlRows, ...]
    exact: bool

    @property
    def kind(self) -> str:
        return self.operands[0].kind

    def numbers(self) -> tuple[SqlRows, ...]:
        """The operands as numbers between the bounds in which no sum or square overflows."""
        from federated_analytics.fedmed.sql.rows import SqlEvaluation

        for rows in self.operands:
            if rows.kind not in (NUMBER, TRUTH):
                raise WrongKind(f"This is for numbers, not for {rows.kind}.")
        evaluation = SqlEvaluation(self.relation, "", False)
        return tuple(self.relation.named(evaluation.held(number(o))) for o in self.operands)

    def ordered(self) -> SqlRows:
        """The first operand as `numbers` gives it; dates as days since 1970-01-01."""
        if self.kind != DATE:
            return self.numbers()[0]
        return self.relation.named(ordered(self.relation, self.operands[0]))

    def frame(self, values: Sequence[Sql]) -> sa.Subquery:
        """v0, v1, … and the groups by0, by1, … of the rows that have a group."""
        keys = [self.relation.named(one).value for one in self.by]
        labels = [v.label(f"v{i}") for i, v in enumerate(values)]
        labels += [key.label(f"by{i}") for i, key in enumerate(keys)]
        masks = [mask for _, mask in self.operands[0].where]
        query = sa.select(*labels).select_from(self.relation.rows())
        return query.where(*masks, *(key.is_not(None) for key in keys)).subquery("frame")

    def keys(self, frame: Any) -> list[Sql]:
        return [frame.c[f"by{i}"] for i in range(len(self.by))]

    def grouped(self, frame: sa.Subquery, more: Sequence[Sql], columns: Sequence[Sql]) -> Any:
        """Rows of a query by group, and by what `more` names: the group's levels, then the rest."""
        keys = self.keys(frame)
        query = sa.select(*keys, *more, *columns).select_from(frame)
        if keys or more:
            query = query.group_by(*keys, *more).limit(_limit(bool(more)))
        return self.split(self.snapshot.fetched(query))

    def split(self, rows: Sequence[Any]) -> list[tuple[Levels, tuple[Any, ...]]]:
        size = len(self.by)
        if len({tuple(row[:size]) for row in rows}) > MAX_GROUPS:
            raise BadParameter(
                f"There are more than {MAX_GROUPS} groups.", remedy="Group more coarsely."
            )
        return [
            (
                tuple(text_of(v, r.kind) for v, r in zip(row[:size], self.by, strict=True)),
                tuple(row[size:]),
            )
            for row in rows
        ]

    def counts(self) -> list[tuple[Levels, int, int]]:
        """Each group with its rows, and those with a value."""
        frame = self.frame([self.operands[0].value])
        columns = [sa.func.count(), sa.func.count(frame.c.v0)]
        return [(levels, *row) for levels, row in self.grouped(frame, [], columns)]


def _limit(finer: bool) -> int:
    return MAX_GROUPS * (20 if finer else 1) + 1


def _len(r: Reduction) -> Found:
    for levels, every, _ in r.counts():
        yield levels, "", Count(every)


def _missing(r: Reduction) -> Found:
    for levels, every, there in r.counts():
        yield levels, None, Count(every - there)


def _sum(r: Reduction) -> Found:
    if r.kind == TRUTH:
        yield from _truths(r)
        return
    is_of_dates = r.kind == DATE and r.ask.op == "moments"
    yield from _moments(r, (r.ordered() if is_of_dates else r.numbers()[0]).value)


def _truths(r: Reduction) -> Found:
    frame = r.frame([r.operands[0].value])
    value = frame.c.v0
    columns = [sa.func.count(), sa.func.count(value), sa.func.count().filter(value)]
    for levels, (every, there, true) in r.grouped(frame, [], columns):
        yield levels, "", moments_of_truth(there, true)
        yield levels, None, Count(every - there)


def _squares(r: Reduction) -> Found:
    from federated_analytics.fedmed.sql.rows import within_bounds

    value = r.numbers()[0].value
    square = SqlRows(sa.func.power(value, 2.0, type_=sa.Double()), NUMBER)
    yield from _moments(r, within_bounds(r.relation.named(square).value))


def _moments(r: Reduction, value: Sql) -> Found:
    for levels, every, there, _, states in _two_passes(r, [value], r.operands[0].value):
        yield levels, "", states[0]
        yield levels, None, Count(every - there)


def _co_moments(r: Reduction) -> Found:
    values = [rows.value for rows in r.numbers()]
    complete = sa.and_(*(value.is_not(None) for value in values))
    both: list[Sql] = [sa.type_coerce(sa.case((complete, value)), sa.Double()) for value in values]
    for levels, every, _, products, states in _two_passes(r, both, r.operands[0].value):
        yield levels, None, Count(every - states[0].n)
        if not states[0].n:
            yield levels, "", CoMoments.zero()
            continue
        upper, parts = products
        yield (
            levels,
            "",
            CoMoments(
                states[0].n,
                tuple(state.mean for state in states),
                upper,
                min((s.fewest for s in states if s.fewest), default=0),
                max(parts, *(s.largest_share() for s in states)),
            ),
        )


def _two_passes(
    r: Reduction, values: Sequence[Sql], first: Sql
) -> Iterator[tuple[Levels, int, int, Any, list[Moments]]]:
    """Means, then centred sums, in one statement (Chan, Golub & LeVeque 1983).

    Yields a group's levels, its rows, those for which `first` is there, the products of all pairs
    of values with the largest share of one square, and the moments of each value.
    """
    size = len(values)
    frame = r.frame([*values, first])
    keys = r.keys(frame)
    columns = [frame.c[f"v{i}"] for i in range(size)]
    means = [
        sa.func.count().label("rows"),
        sa.func.count(frame.c[f"v{size}"]).label("there"),
        *(column for i, v in enumerate(columns) for column in _first_pass(i, v)),
    ]
    once = sa.select(*keys, *means).select_from(frame)
    once = once.group_by(*keys).limit(_limit(False)) if keys else once
    held = once.cte("once")
    same = [key == held.c[f"by{i}"] for i, key in enumerate(keys)]
    away = [_deviation(v, held.c[f"mean{i}"]).label(f"d{i}") for i, v in enumerate(columns)]
    deviations = (
        sa.select(*keys, *away)
        .select_from(frame.join(held, sa.and_(*same) if same else sa.true()))
        .offset(sa.literal_column("0"))
        .subquery("away")
    )
    d = [deviations.c[f"d{i}"] for i in range(size)]
    pairs = [(i, j) for i in range(size) for j in range(i, size)]
    sums = [
        *(sa.func.sum(one).label(f"s{i}") for i, one in enumerate(d)),
        *(sa.func.sum(d[i] * d[j]).label(f"p{i}_{j}") for i, j in pairs),
        *(sa.func.max(sa.func.abs(one)).label(f"m{i}") for i, one in enumerate(d)),
    ]
    places = [deviations.c[f"by{i}"] for i in range(len(keys))]
    twice = sa.select(*places, *sums).group_by(*places).subquery("twice")
    agree = [held.c[f"by{i}"] == twice.c[f"by{i}"] for i in range(len(keys))]
    rest = [c for c in (*held.c, *twice.c) if not c.name.startswith("by")]
    query = sa.select(*(held.c[f"by{i}"] for i in range(len(keys))), *rest).select_from(
        held.outerjoin(twice, sa.and_(*agree) if agree else sa.true())
    )
    names = [c.name for c in rest]
    for levels, row in r.split(r.snapshot.fetched(query)):
        found = dict(zip(names, row, strict=True))
        states = [_state(found, i) for i in range(size)]
        yield levels, found["rows"], found["there"], _products(found, states, pairs), states


def _first_pass(i: int, v: Sql) -> Iterator[Sql]:
    is_whole = sa.and_(v == sa.func.trunc(v), sa.func.abs(v) < 2.0**53)
    whole = sa.case((is_whole, sa.cast(v, sa.BigInteger())))
    yield sa.func.count(v).label(f"n{i}")
    yield sa.func.min(v).label(f"least{i}")
    yield sa.func.max(v).label(f"greatest{i}")
    yield sa.func.avg(v).label(f"mean{i}")
    yield sa.func.count().filter(v != 0).label(f"nonzero{i}")
    yield sa.func.count().filter(v.in_([0.0, 1.0])).label(f"truths{i}")
    yield sa.func.count(whole).label(f"wholes{i}")
    yield sa.func.sum(whole).label(f"total{i}")


def _deviation(value: Sql, mean: Sql) -> Sql:
    away = value - mean
    tiny = sa.func.abs(away) < _TINY
    return sa.type_coerce(sa.case((tiny, 0.0), else_=away), sa.Double())


def _state(found: Mapping[str, Any], i: int) -> Moments:
    n = found[f"n{i}"]
    if not n:
        return Moments.zero()
    least, greatest = float(found[f"least{i}"]), float(found[f"greatest{i}"])
    shift = found[f"s{i}"]
    if found[f"wholes{i}"] == n:
        exact = Fraction(int(found[f"total{i}"]), n)
    else:
        exact = Fraction(found[f"mean{i}"]) + Fraction(shift) / n
    mean = float(exact)
    fewest = [found[f"nonzero{i}"]]
    if (least, greatest) == (0.0, 1.0) and found[f"truths{i}"] == n:
        fewest.append(n - found[f"nonzero{i}"])
    return Moments(
        n,
        mean,
        max(0.0, found[f"p{i}_{i}"] - shift**2 / n),
        fewest=min((f for f in fewest if f), default=0),
        residual=float(exact - Fraction(mean)),
        extreme=max(abs(least), abs(greatest)),
        one_sign=least >= 0 or greatest <= 0,
        least=least,
        greatest=greatest,
    )


def _products(
    found: Mapping[str, Any], states: Sequence[Moments], pairs: Sequence[tuple[int, int]]
) -> tuple[tuple[float, ...], float]:
    n = states[0].n
    if not n:
        return (), 0.0
    shifts = [found[f"s{i}"] for i in range(len(states))]
    upper = tuple(found[f"p{i}_{j}"] - shifts[i] * shifts[j] / n for i, j in pairs)
    squares = [found[f"m{i}"] ** 2 / (found[f"p{i}_{i}"] or 1.0) for i in range(len(states))]
    return upper, max(squares)


def _extremes(r: Reduction) -> Found:
    if not r.exact:
        yield from _intervals(r)
        return
    frame = r.frame([r.ordered().value])
    value = frame.c.v0
    columns = [f(value) for f in (sa.func.count, sa.func.min, sa.func.max)]
    for levels, (every, n, *ends) in r.grouped(frame, [], [sa.func.count(), *columns]):
        yield levels, "", Extremes(n, *ends) if n else Extremes.zero()
        yield levels, None, Count(every - n)


def _intervals(r: Reduction) -> Found:
    public = grid.MONTHS if r.kind == DATE else grid.NUMBERS
    yield from _bucketed(r, public.edges, public.bins, first=0)


def _histogram(r: Reduction) -> Found:
    edges = edges_of(r.ask)
    yield from _bucketed(r, edges, len(edges) - 1, first=1)


def _bucketed(r: Reduction, edges: Sequence[float], bins: int, first: int) -> Found:
    """Rows by the number of edges that are not above the value, less `first`."""
    value = r.ordered().value
    listed = sa.cast(sa.literal(list(edges), _DOUBLES), _DOUBLES)
    bucket: Sql = sa.func.width_bucket(value, listed, type_=sa.Integer())
    if first:  # a histogram's last bin holds its upper edge, too
        bucket = sa.case((value == edges[-1], bins), else_=bucket)
    frame = r.frame([sa.type_coerce(bucket, sa.Integer())])
    held: dict[Levels, list[tuple[int, int, int]]] = {}
    place = frame.c.v0
    for levels, (index, n) in r.grouped(frame, [place], [sa.func.count()]):
        if index is not None and 0 <= index - first < bins:
            held.setdefault(levels, []).append((index - first, index - first + 1, n))
    for levels, every, there in r.counts():
        yield levels, "", IntervalCounts.of(held.get(levels, []), bins)
        yield levels, None, Count(every - there)


def _levels(r: Reduction) -> Found:
    frame = r.frame([r.operands[0].value])
    value = frame.c.v0
    seen: dict[Levels, int] = {}
    for levels, (one, n) in r.grouped(frame, [value], [sa.func.count()]):
        if one is None:
            continue
        seen[levels] = seen.get(levels, 0) + 1
        if seen[levels] > MAX_GROUPS:
            raise BadParameter(
                f"There are more than {MAX_GROUPS} values.", remedy="Ask for a histogram."
            )
        yield levels, text_of(one, r.kind), Count(n)
    yield from _missing(r)


REDUCTIONS: Mapping[str, Callable[[Reduction], Found]] = {
    "sum": _sum,
    "moments": _sum,
    "sqsum": _squares,
    "len": _len,
    "missing": _missing,
    "min": _extremes,
    "max": _extremes,
    "quantiles": _intervals,
    "hist": _histogram,
    "set": _levels,
    "counts": _levels,
    "comoments": _co_moments,
}
