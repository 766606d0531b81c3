"""A server of fragments without a policy: answers from pandas, for tests of the client alone."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd

from federated_analytics import wire
from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.interval_counts import IntervalCounts
from federated_analytics.aggregates.moments import Moments
from federated_analytics.aggregates.records import Records
from federated_analytics.aggregates.table import Cell, Key
from federated_analytics.fedmed.batch import Channel, Fault
from federated_analytics.fedmed.expression import Apply, Column, Constant, Expression, Filter
from federated_analytics.fedmed.protocol import Ask, Asks
from federated_analytics.messages import Answer, Refusal, Withheld
from federated_analytics.privacy.policy import Policy

_OPS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "pow": operator.pow,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "and": operator.and_,
    "or": operator.or_,
    "neg": operator.neg,
    "abs": operator.abs,
    "not": operator.inv,
}


@dataclass(eq=False)
class FakeSite:
    """Fragments by name, each a dict of lists; `requests` counts what came in.

    Fields:
        withhold: groups smaller than this are withheld
        fault: given in place of any answer
    """

    fragments: dict[str, Mapping[str, list[Any]]] = field(default_factory=dict)
    withhold: int = 1
    name: str = ""
    version: str = "1"
    fault: Fault | None = None
    asked: list[Asks] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return 10.0

    def exchange(self, requests: Mapping[str, bytes]) -> Mapping[str, bytes | Fault]:
        return {name: self.fault or self.answer(body) for name, body in requests.items()}

    def answer(self, body: bytes) -> bytes:
        request = wire.decode_request(body)
        assert request.kind == "fedmed"
        asks = Asks.from_json(request.study)
        self.asked.append(asks)
        answers = tuple(self._answer(i, ask) for i, ask in enumerate(asks.asks))
        policy = Policy(preset="strict", min_count=1)
        release = policy.release(
            [],
            answers=answers,
            site=self.name,
            study="",
            round=1,
            version="",
            database="",
            synthetic=False,
            seconds=0.0,
        )
        return wire.encode_release(release)

    def _answer(self, position: int, ask: Ask) -> Answer:
        held = self.fragments.get(ask.fragment)
        if held is None:
            refusal = Refusal("unknown_fragment", "", "There is no such fragment.", "")
            return Answer(position, "", (), (), {}, refusal)
        frame = pd.DataFrame(dict(held))
        if ask.op == "describe":
            cells = tuple(
                Cell(
                    Key((), json.dumps([name]), _kind(frame[name]), "describe"),
                    Records(len(frame), int(frame[name].notna().sum())),
                )
                for name in frame
            )
            return Answer(position, "", cells, (), {"version": "1"})
        rows = [pd.Series(self._evaluate(e, frame)) for e in ask.rows]
        by = [pd.Series(self._evaluate(e, frame)) for e in ask.by]
        missing = str(int(rows[0].isna().sum()))
        cells, withheld = [Cell(Key((), "", "", "missing"), Count(int(missing)))], []
        if ask.op in ("len", "missing"):
            cells = []
        for levels, part in _groups(rows[0], by):
            strata = tuple((str(e), level) for e, level in zip(ask.by, levels, strict=True))
            for level, value in _reduced(ask, part, rows):
                key = Key(strata, str(ask.rows[0]), level, ask.op)
                if 0 < len(part) < self.withhold:
                    withheld.append(Withheld(Key((), "-", "", ask.op), "R1", self.withhold))
                else:
                    cells.append(Cell(key, value))
        labels = {"version": self.version}
        return Answer(position, "", tuple(cells), tuple(withheld), labels)

    def _evaluate(self, expression: Expression, frame: pd.DataFrame) -> Any:
        if isinstance(expression, Column):
            source = frame
            if expression.fragment:
                source = pd.DataFrame(dict(self.fragments[expression.fragment]))
            return source[expression.path[0]] if expression.path else source.iloc[:, 0]
        if isinstance(expression, Constant):
            return expression.value
        if isinstance(expression, Filter):
            mask = self._evaluate(expression.mask, frame)
            return self._evaluate(expression.rows, frame)[mask]
        assert isinstance(expression, Apply)
        arguments = [self._evaluate(a, frame) for a in expression.arguments]
        return _OPS[expression.name](*arguments)


def _kind(column: pd.Series) -> str:
    if column.dtype == bool:
        return "truth"
    return "number" if pd.api.types.is_numeric_dtype(column) else "text"


def _groups(rows: pd.Series, by: list[pd.Series]) -> list[tuple[tuple[str, ...], pd.Series]]:
    if not by:
        return [((), rows)]
    grouped = rows.groupby([key.map(str).where(key.notna()) for key in by])
    return [(level, part) for level, part in grouped]


def _reduced(ask: Ask, part: pd.Series, rows: list[pd.Series]) -> list[tuple[str, Aggregate]]:
    if ask.op == "len":
        return [("", Count(len(part)))]
    if ask.op == "missing":
        return [("", Count(int(part.isna().sum())))]
    if ask.op in ("set", "counts"):
        return [(str(level), Count(int(n))) for level, n in part.value_counts().items()]
    values = part.dropna().astype(float)
    if ask.op == "sqsum":
        values = values**2
    if ask.op in ("sum", "moments", "sqsum"):
        return [("", moments(values.tolist()))]
    if ask.op == "hist":
        edges = np.array(ask.params["edges"], dtype=float)
        counts, _ = np.histogram(values, edges)
        intervals = ((i, i + 1, int(n)) for i, n in enumerate(counts))
        return [("", IntervalCounts.of(intervals))]
    raise AssertionError(ask.op)


def moments(values: list[float]) -> Moments:
    """Exact but for one rounding of each number."""
    if not values:
        return Moments.zero()
    exact = sum(map(Fraction, values), Fraction()) / len(values)
    m2 = sum(((Fraction(v) - exact) ** 2 for v in values), Fraction())
    residual = float(exact - Fraction(float(exact)))
    return Moments(len(values), float(exact), float(m2), residual=residual)


@dataclass(frozen=True)
class FakeSource:
    """A fragment of a fake site."""

    channel: Channel
    fragment: str
    server: str = "fake"
