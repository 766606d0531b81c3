"""From the rows of an ask to aggregates, by group: what the policy then looks at."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.co_moments import CoMoments
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.extremes import Extremes
from federated_analytics.aggregates.interval_counts import IntervalCounts
from federated_analytics.aggregates.moments import Moments
from federated_analytics.aggregates.records import Records
from federated_analytics.aggregates.table import Key
from federated_analytics.errors import RequestRefused
from federated_analytics.fedmed import grid
from federated_analytics.fedmed.evaluate import OtherRows, Rows, WrongKind
from federated_analytics.fedmed.fragments import DATE, NUMBER, TEXT, TRUTH, Fragment
from federated_analytics.fedmed.protocol import Ask

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Table = dict[Key, Aggregate]
MAX_GROUPS = 10_000
MISSING = "missing"
"""The name of the cell that counts the rows without a value, beside each statistic's own."""


class UnknownOperation(RequestRefused):
    """A reduction that the server does not offer."""

    code = "unknown_operation"


class BadParameter(RequestRefused):
    """A parameter that a reduction cannot use."""

    code = "invalid_parameter"


@dataclass(frozen=True)
class Part:
    """Some rows of an ask's operands, all of the same rows."""

    operands: tuple[Rows, ...]
    chosen: Any

    def numbers(self, position: int = 0) -> NDArray[np.float64]:
        """The values that are there, as float64."""
        import numpy as np

        rows = self.operands[position]
        if rows.kind not in (NUMBER, TRUTH):
            raise WrongKind(f"This is for numbers, not for {rows.kind}.")
        return np.asarray(rows.values[self.chosen & rows.present], dtype=np.float64)

    def values(self) -> Any:
        rows = self.operands[0]
        return rows.values[self.chosen & rows.present]

    @property
    def rows(self) -> int:
        return int(self.chosen.sum())

    @property
    def missing(self) -> int:
        rows = self.operands[0]
        return int((self.chosen & ~rows.present).sum())


Reduce = Callable[[Ask, Part, bool], Iterator[tuple[str, Aggregate]]]


def described(fragment: Fragment) -> Table:
    """One cell a column: rows, and rows with a value."""
    found: Table = {}
    for keys, column in fragment.columns.items():
        key = Key((), json.dumps(list(keys)), fragment.kinds[keys], "describe")
        found[key] = Records(len(column), int(column.notna().sum()), 1 if len(column) else 0)
    return found


def reduced(ask: Ask, operands: tuple[Rows, ...], by: tuple[Rows, ...], exact: bool) -> Table:
    """The cells of an ask.

    Args:
        exact: no minimum count holds: smallest and largest values are themselves.

    Raises:
        RequestRefused: the operation, a parameter or a kind does not fit.
    """
    method = REDUCTIONS.get(ask.op)
    if method is None:
        raise UnknownOperation(f"The server has no operation {ask.op[:60]!r}.")
    for other in (*operands[1:], *by):
        if len(other) != len(operands[0]) or _differ(other.positions, operands[0].positions):
            raise OtherRows("The columns are not of the same rows.", where=str(ask)[:200])
    found: Table = {}
    variable = ", ".join(map(str, ask.rows))
    for levels, chosen in groups(by, len(operands[0])):
        strata = tuple((str(e), level) for e, level in zip(ask.by, levels, strict=True))
        part = Part(operands, chosen)
        for level, value in method(ask, part, exact):
            found[Key(strata, variable, level, ask.op)] = value
        if ask.op not in ("len", MISSING):
            found[Key(strata, variable, "", MISSING)] = Count(part.missing)
    return found


def groups(by: tuple[Rows, ...], size: int) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each combination of levels with its rows; all rows where nothing is grouped by."""
    import numpy as np
    import pandas as pd

    if not by:
        yield (), np.ones(size, dtype=bool)
        return
    codes, levels = [], []
    present = np.ones(size, dtype=bool)
    for rows in by:
        present &= rows.present
        code, unique = pd.factorize(pd.Series(rows.values))
        codes.append(code)
        levels.append([_text(value, rows.kind) for value in unique])
    sizes = [max(1, len(one)) for one in levels]
    combined = np.ravel_multi_index([np.maximum(code, 0) for code in codes], sizes)
    found = np.unique(combined[present])
    if len(found) > MAX_GROUPS:
        raise BadParameter(
            f"There are more than {MAX_GROUPS} groups.", remedy="Group more coarsely."
        )
    for group in found:
        places = np.unravel_index(group, sizes)
        names = tuple(one[int(place)] for one, place in zip(levels, places, strict=True))
        yield names, present & (combined == group)


def moments_of(values: NDArray[np.float64]) -> Moments:
    """Centred moments; the sum of whole numbers below 2^63 is exact, of others to 2^-64."""
    import numpy as np

    n = len(values)
    if not n:
        return Moments.zero()
    mean, residual = _mean(values)
    least, greatest = float(values.min()), float(values.max())
    deviations = values - mean
    # Two passes; the second sum is what rounding the mean has left (Chan et al. 1983).
    m2 = float(deviations @ deviations) - float(deviations.sum()) ** 2 / n
    nonzero = int(np.count_nonzero(values))
    fewest = [nonzero]
    if (least, greatest) == (0.0, 1.0) and bool(((values == 0) | (values == 1)).all()):
        fewest.append(n - nonzero)
    return Moments(
        n,
        mean,
        max(0.0, m2),
        fewest=min((f for f in fewest if f), default=0),
        residual=residual,
        extreme=max(abs(least), abs(greatest)),
        one_sign=least >= 0 or greatest <= 0,
        least=least,
        greatest=greatest,
    )


def _mean(values: NDArray[np.float64]) -> tuple[float, float]:
    """The mean as two floats whose sum has about twice the digits of one."""
    import numpy as np

    n = len(values)
    largest = max(abs(float(values.min())), abs(float(values.max())))
    if largest * n < 2**62 and bool((values == np.trunc(values)).all()):
        exact = Fraction(int(values.astype(np.int64).sum()), n)
        mean = float(exact)
        return mean, float(exact - Fraction(mean))
    total = values.sum(dtype=np.longdouble)
    mean = float(total / n)
    return mean, float((values.astype(np.longdouble) - np.longdouble(mean)).sum() / n)


def _sum(ask: Ask, part: Part, exact: bool) -> Iterator[tuple[str, Aggregate]]:
    yield "", moments_of(part.numbers())


def _squares(ask: Ask, part: Part, exact: bool) -> Iterator[tuple[str, Aggregate]]:
    yield "", moments_of(part.numbers() ** 2)


def _len(ask: Ask, part: Part, exact: bool) -> Iterator[tuple[str, Aggregate]]:
    yield "", Count(part.rows)


def _missing(ask: Ask, part: Part, exact: bool) -> Iterator[tuple[str, Aggregate]]:
    yield "", Count(part.missing)


def _extremes(ask: Ask, part: Part, exact: bool) -> Iterator[tuple[str, Aggregate]]:
    values = part.numbers()
    if not exact:
        yield from _intervals(ask, part, exact)
    elif len(values):
        yield "", Extremes(len(values), float(values.min()), float(values.max()))
    else:
        yield "", Extremes.zero()


def _intervals(ask: Ask, part: Part, exact: bool) -> Iterator[tuple[str, Aggregate]]:
    import numpy as np

    found, counts = np.unique(grid.indices(part.numbers()), return_counts=True)
    triples = zip(found.tolist(), counts.tolist(), strict=True)
    yield "", IntervalCounts.of(((i, i + 1, n) for i, n in triples), grid.bins())


def _histogram(ask: Ask, part: Part, exact: bool) -> Iterator[tuple[str, Aggregate]]:
    import numpy as np

    edges = ask.params.get("edges")
    fits = isinstance(edges, list) and len(edges) > 1
    if not fits or not all(isinstance(e, int | float) and not isinstance(e, bool) for e in edges):  # type: ignore[union-attr]
        raise BadParameter("edges is a list of at least two numbers.", where="edges")
    rising = np.array(edges, dtype=np.float64)
    if (np.diff(rising) <= 0).any():
        raise BadParameter("The edges rise.", where="edges")
    counts, _ = np.histogram(part.numbers(), rising)
    triples = ((i, i + 1, int(n)) for i, n in enumerate(counts))
    yield "", IntervalCounts.of(triples, len(rising) - 1)


def _levels(ask: Ask, part: Part, exact: bool) -> Iterator[tuple[str, Aggregate]]:
    import pandas as pd

    found = pd.Series(part.values()).value_counts()
    if len(found) > MAX_GROUPS:
        raise BadParameter(
            f"There are more than {MAX_GROUPS} values.", remedy="Ask for a histogram."
        )
    for value, count in found.items():
        yield _text(value, part.operands[0].kind), Count(int(count))


def _co_moments(ask: Ask, part: Part, exact: bool) -> Iterator[tuple[str, Aggregate]]:
    import numpy as np

    present = part.chosen.copy()
    for rows in part.operands:
        if rows.kind not in (NUMBER, TRUTH):
            raise WrongKind(f"This is for numbers, not for {rows.kind}.")
        present &= rows.present
    n = int(present.sum())
    if not n:
        yield "", CoMoments.zero()
        return
    matrix = np.stack([rows.values[present].astype(np.float64) for rows in part.operands])
    each = [moments_of(row) for row in matrix]
    means = matrix.mean(axis=1)
    centred = matrix - means[:, None]
    centred -= centred.mean(axis=1)[:, None]
    products = centred @ centred.T
    upper = products[np.triu_indices(len(matrix))]
    squares = centred**2
    totals = squares.sum(axis=1)
    parts = squares.max(axis=1) / np.where(totals > 0, totals, 1.0)
    yield (
        "",
        CoMoments(
            n,
            tuple(map(float, means)),
            tuple(map(float, upper)),
            min((m.fewest for m in each if m.fewest), default=0),
            max(float(parts.max()), *(m.largest_share() for m in each)),
        ),
    )


REDUCTIONS: Mapping[str, Reduce] = {
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


def _differ(a: Any, b: Any) -> bool:
    import numpy as np

    if a is b:
        return False
    return a is None or b is None or not np.array_equal(a, b)


def _text(value: Any, kind: str) -> str:
    """A level as text: whole numbers without a point, dates as ISO 8601."""
    if kind == NUMBER:
        number = float(value)
        return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)
    if kind == TRUTH:
        return str(bool(value))
    if kind == DATE:
        return str(value.isoformat())
    assert kind == TEXT
    return str(value)
