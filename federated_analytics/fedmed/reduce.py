"""From the rows of an ask to aggregates, by group: what the policy then looks at."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
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
from federated_analytics.fedmed import dates, grid
from federated_analytics.fedmed.evaluate import Evaluation
from federated_analytics.fedmed.expression import Column
from federated_analytics.fedmed.fragments import DATE, NUMBER, TEXT, TRUTH, Fragment
from federated_analytics.fedmed.protocol import Ask
from federated_analytics.fedmed.rows import OtherRows, Rows, WrongKind, every_one, is_held, narrow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Table = dict[Key, Aggregate]
Groups = list[tuple[tuple[str, ...], "NDArray[np.int64] | None"]]
MAX_GROUPS = 10_000
MAX_PREPARED = 100
"""Levels of a column whose groups are found before they are asked for: 8 bytes a row."""
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
    """Some rows of an ask's operands, all of the same rows.

    Fields:
        chosen: their places among the rows; None where they are all
    """

    operands: tuple[Rows, ...]
    chosen: NDArray[np.int64] | None = None

    def numbers(self, position: int = 0) -> NDArray[np.float64]:
        """The values that are there, as float64."""
        import numpy as np

        rows = self.operands[position]
        if rows.kind not in (NUMBER, TRUTH):
            raise WrongKind(f"This is for numbers, not for {rows.kind}.")
        return np.asarray(self._there(rows), dtype=np.float64)

    def ordered(self) -> NDArray[np.float64]:
        """Numbers as `numbers` gives them; dates as days since 1970-01-01."""
        return dates.days(self.values()) if self.is_of_dates else self.numbers()

    @property
    def is_of_dates(self) -> bool:
        return self.operands[0].kind == DATE

    def values(self) -> Any:
        return self._there(self.operands[0])

    def moments(self) -> Moments:
        """Of the first operand; kept where they are of all its rows."""
        import numpy as np

        rows = self.operands[0]
        if rows.kind == TRUTH:
            there = self._there(rows)
            return moments_of_truth(len(there), int(np.count_nonzero(there)))
        if self.chosen is not None:
            return moments_of(self.ordered())
        if "moments" not in rows.kept:
            rows.kept["moments"] = moments_of(self.ordered())
        found: Moments = rows.kept["moments"]
        return found

    @property
    def rows(self) -> int:
        return len(self.operands[0]) if self.chosen is None else len(self.chosen)

    @property
    def missing(self) -> int:
        """Rows that lack a value of any operand."""
        return 0 if self._is_complete else self.rows - int(self.present.sum())

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which rows have a value of every operand."""
        import numpy as np

        if self._is_complete:
            return every_one(self.rows)
        lacking = [self._chosen(o.present) for o in self.operands if not o.is_complete]
        found: NDArray[np.bool_] = np.logical_and.reduce(lacking)
        return found

    @property
    def _is_complete(self) -> bool:
        return all(operand.is_complete for operand in self.operands)

    def _chosen(self, values: Any) -> Any:
        return values if self.chosen is None else values[self.chosen]

    def _there(self, rows: Rows) -> Any:
        values = self._chosen(rows.values)
        return values if rows.is_complete else values[self._chosen(rows.present)]


Reduce = Callable[[Ask, Part, bool], Iterator[tuple[str, Aggregate]]]


def described(fragment: Fragment) -> Table:
    """One cell a column: rows, and rows with a value."""
    evaluation = Evaluation(lambda name: fragment, "")
    found: Table = {}
    for path, kind in fragment.kinds.items():
        rows = evaluation.rows(Column(path))
        key = Key((), json.dumps(list(path)), kind, "describe")
        found[key] = Records(len(rows), rows.there, 1 if len(rows) else 0)
    return found


def prepare(fragment: Fragment) -> None:
    """Compute once a version what every question about a whole column begins with."""
    for path, kind in fragment.kinds.items():
        rows = Evaluation(lambda name: fragment, "").rows(Column(path))
        if kind in (NUMBER, TRUTH):
            moments = Part((rows,)).moments()
        if kind == NUMBER and rows.values.dtype.kind == "i" and rows.is_complete and moments.n:
            rows.kept["whole"] = narrow(rows.values, moments.least, moments.greatest)
        if kind in (TEXT, TRUTH) and len(_coded(rows)[1]) <= MAX_PREPARED:
            groups((rows,), len(rows))


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


def groups(by: tuple[Rows, ...], size: int) -> Groups:
    """Each combination of levels with the places of its rows; None where there is no grouping."""
    if not by:
        return [((), None)]
    if len(by) > 1:
        return _grouped(by)
    if "groups" not in by[0].kept:
        by[0].kept["groups"] = _grouped(by)
    found: Groups = by[0].kept["groups"]
    return found


def _grouped(by: tuple[Rows, ...]) -> Groups:
    import numpy as np

    codes, levels = zip(*map(_coded, by), strict=True)
    sizes = [max(1, len(one)) for one in levels]
    combined = np.ravel_multi_index([np.maximum(code, 0) for code in codes], sizes)
    for code in codes:
        combined[code < 0] = -1
    if np.prod(np.array(sizes, dtype=np.float64)) < 2**15:
        combined = combined.astype(np.int16)  # a stable sort of these takes one pass
    order = np.argsort(combined, kind="stable")
    ordered = combined[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered.dtype.type(-1)))
    if len(starts) > MAX_GROUPS:
        raise BadParameter(
            f"There are more than {MAX_GROUPS} groups.", remedy="Group more coarsely."
        )
    ends = [*starts[1:], len(order)][: len(starts)]
    found: Groups = []
    for start, end in zip(starts, ends, strict=True):
        places = np.unravel_index(int(ordered[start]), sizes)
        names = tuple(one[int(place)] for one, place in zip(levels, places, strict=True))
        found.append((names, order[start:end]))
    return found


def _coded(rows: Rows) -> tuple[NDArray[Any], list[str]]:
    """The level of each row, -1 where there is none, and the levels as text; kept."""
    import numpy as np
    import pandas as pd

    if "codes" not in rows.kept:
        codes, unique = pd.factorize(rows.values)
        codes = narrow(np.where(rows.present, codes, -1), -1, len(unique))
        # An index of texts would be of Arrow's, which has no lone surrogates.
        values = unique if rows.kind == TEXT else pd.Index(unique)
        rows.kept["codes"] = codes, [text_of(value, rows.kind) for value in values]
    found: tuple[NDArray[Any], list[str]] = rows.kept["codes"]
    return found


def moments_of(values: NDArray[np.float64]) -> Moments:
    """Centred moments in two passes; the sum of whole numbers below 2^62 is exact.

    The second pass tells what rounding the mean has left: mean + residual has about twice the
    digits of one float (Chan, Golub & LeVeque 1983, American Statistician 37:242).
    """
    import numpy as np

    n = len(values)
    if not n:
        return Moments.zero()
    least, greatest = float(values.min()), float(values.max())
    extreme = max(abs(least), abs(greatest))
    whole = _whole_sum(values, extreme)
    mean = float(values.mean()) if whole is None else whole / n
    deviations = values - mean
    drift = float(deviations.sum())
    # Not by BLAS: its threads would wait for one another where requests share the cores.
    squares = float(np.square(deviations, out=deviations).sum())
    residual = drift / n if whole is None else float(Fraction(whole, n) - Fraction(mean))
    nonzero = n if least > 0 or greatest < 0 else int(np.count_nonzero(values))
    fewest = [nonzero]
    if (least, greatest) == (0.0, 1.0) and bool(((values == 0) | (values == 1)).all()):
        fewest.append(n - nonzero)
    return Moments(
        n,
        mean,
        max(0.0, squares - drift**2 / n),
        fewest=min((f for f in fewest if f), default=0),
        residual=residual,
        extreme=extreme,
        one_sign=least >= 0 or greatest <= 0,
        least=least,
        greatest=greatest,
    )


def moments_of_truth(n: int, true: int) -> Moments:
    """The moments of n zeros and ones, by their counts alone."""
    if not n:
        return Moments.zero()
    exact = Fraction(true, n)
    mean = float(exact)
    least, greatest = float(true == n), float(true > 0)
    sides = (true, n - true) if least < greatest else (true,)
    return Moments(
        n,
        mean,
        true * (n - true) / n,
        fewest=min((side for side in sides if side), default=0),
        residual=float(exact - Fraction(mean)),
        extreme=greatest,
        one_sign=True,
        least=least,
        greatest=greatest,
    )


def _whole_sum(values: NDArray[np.float64], extreme: float) -> int | None:
    """The exact sum of whole numbers; None of others, or of such that may overflow."""
    import numpy as np

    if extreme * len(values) >= 2**62:
        return None
    if not all(bool((some == np.trunc(some)).all()) for some in (values[:100], values)):
        return None
    return int(values.astype(np.int64).sum())


def _sum(ask: Ask, part: Part, exact: bool) -> Iterator[tuple[str, Aggregate]]:
    kind = part.operands[0].kind
    if kind not in (NUMBER, TRUTH) and not (kind == DATE and ask.op == "moments"):
        raise WrongKind(f"This is for numbers, not for {kind}.")
    yield "", part.moments()


def _squares(ask: Ask, part: Part, exact: bool) -> Iterator[tuple[str, Aggregate]]:
    squares = part.numbers() ** 2
    yield "", moments_of(squares[is_held(squares)])


def _len(ask: Ask, part: Part, exact: bool) -> Iterator[tuple[str, Aggregate]]:
    yield "", Count(part.rows)


def _missing(ask: Ask, part: Part, exact: bool) -> Iterator[tuple[str, Aggregate]]:
    yield "", Count(part.missing)


def _extremes(ask: Ask, part: Part, exact: bool) -> Iterator[tuple[str, Aggregate]]:
    values = part.ordered()
    if not exact:
        yield from _intervals(ask, part, exact)
    elif len(values):
        yield "", Extremes(len(values), float(values.min()), float(values.max()))
    else:
        yield "", Extremes.zero()


def _intervals(ask: Ask, part: Part, exact: bool) -> Iterator[tuple[str, Aggregate]]:
    import numpy as np

    public = grid.MONTHS if part.is_of_dates else grid.NUMBERS
    found, counts = np.unique(public.indices(part.ordered()), return_counts=True)
    triples = zip(found.tolist(), counts.tolist(), strict=True)
    yield "", IntervalCounts.of(((i, i + 1, n) for i, n in triples), public.bins)


def edges_of(ask: Ask) -> list[float]:
    """The edges of a histogram, of dates in days since 1970; BadParameter where they are none."""
    edges = ask.params.get("edges")
    fits = isinstance(edges, list) and len(edges) > 1
    if not fits or not all(isinstance(e, int | float) and not isinstance(e, bool) for e in edges):  # type: ignore[union-attr]
        raise BadParameter("edges is a list of at least two numbers.", where="edges")
    rising = [float(edge) for edge in edges]  # type: ignore[union-attr]
    if any(b <= a for a, b in pairwise(rising)):
        raise BadParameter("The edges rise.", where="edges")
    return rising


def _histogram(ask: Ask, part: Part, exact: bool) -> Iterator[tuple[str, Aggregate]]:
    import numpy as np

    edges = edges_of(ask)
    counts, _ = np.histogram(part.ordered(), np.array(edges))
    triples = ((i, i + 1, int(n)) for i, n in enumerate(counts))
    yield "", IntervalCounts.of(triples, len(edges) - 1)


def _levels(ask: Ask, part: Part, exact: bool) -> Iterator[tuple[str, Aggregate]]:
    import pandas as pd

    values = part.values()
    found = pd.Series(values, dtype=values.dtype).value_counts()
    if len(found) > MAX_GROUPS:
        raise BadParameter(
            f"There are more than {MAX_GROUPS} values.", remedy="Ask for a histogram."
        )
    for value, count in found.items():
        yield text_of(value, part.operands[0].kind), Count(int(count))


def _co_moments(ask: Ask, part: Part, exact: bool) -> Iterator[tuple[str, Aggregate]]:
    import numpy as np

    for rows in part.operands:
        if rows.kind not in (NUMBER, TRUTH):
            raise WrongKind(f"This is for numbers, not for {rows.kind}.")
    places = slice(None) if part.chosen is None else part.chosen
    present = part.present
    n = int(present.sum())
    if not n:
        yield "", CoMoments.zero()
        return
    matrix = np.stack([rows.values[places][present].astype(np.float64) for rows in part.operands])
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


def text_of(value: Any, kind: str) -> str:
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
