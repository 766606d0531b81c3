"""Hypothesis tests over all fragments, from merged moments and tables of counts.

>>> from federated_analytics import fedmed as fm
>>> data = fm.FedData([fm.Local({"a": [1, 2, 3, 4], "b": [3, 5, 4, 6]})])
>>> student = fm.stats.test.Student(alpha=0.05)
>>> round(student.pvalue(data["a"], data["b"]), 4), student.reject(data["a"], data["b"])
(0.071, False)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from federated_analytics.aggregates.moments import Moments
from federated_analytics.fedmed import finalize
from federated_analytics.fedmed.batch import Query, resolve
from federated_analytics.fedmed.errors import NotAnswered
from federated_analytics.fedmed.gathered import gather
from federated_analytics.fedmed.reductions import NUMERIC
from federated_analytics.fedmed.schema import check_kind

if TYPE_CHECKING:
    from federated_analytics.fedmed.data import FedData

MODES = ("two-tailed", "less", "greater")


@dataclass(frozen=True)
class TestResult:
    """Outcome of a test.

    Fields:
        statistic: t, χ² or the smaller rank sum, as SciPy's test of the same name gives it
        pvalue: of the null hypothesis, in the test's mode
        df: degrees of freedom; NaN where the test has none
    """

    __test__ = False  # not a test of pytest's

    statistic: float
    pvalue: float
    df: float = math.nan


class HypothesisTest(ABC):
    """Base of the tests.

    Args:
        alpha: `reject` says whether the p-value is below it.
        mode: the alternative: "two-tailed"; "less", that x1 is less than x2; "greater".
    """

    def __init__(self, alpha: float = 0.05, mode: str = "two-tailed") -> None:
        if mode not in MODES:
            raise ValueError(f"mode is one of {', '.join(MODES)}")
        if not 0 < alpha < 1:
            raise ValueError("alpha lies between 0 and 1")
        self.alpha, self.mode = alpha, mode

    @abstractmethod
    def result(self, x1: FedData, x2: FedData) -> TestResult:
        """Statistic, p-value and degrees of freedom. AskFailed where a server does not answer."""

    def statistic(self, x1: FedData, x2: FedData) -> float:
        return self.result(x1, x2).statistic

    def pvalue(self, x1: FedData, x2: FedData) -> float:
        return self.result(x1, x2).pvalue

    def reject(self, x1: FedData, x2: FedData) -> bool:
        """Whether the p-value is below alpha."""
        return self.pvalue(x1, x2) < self.alpha


class Student(HypothesisTest):
    """Student's t-test of two means, the variances equal.

    References: Student (1908), Biometrika 6:1
    """

    def result(self, x1: FedData, x2: FedData) -> TestResult:
        a, b = _moments(x1, x2)
        df = a.n + b.n - 2
        if df < 1 or not a.n or not b.n:
            return TestResult(math.nan, math.nan, df)
        pooled = (a.m2 + b.m2) / df
        return self._t(_difference(a, b), pooled * (1 / a.n + 1 / b.n), df)

    def _t(self, difference: float, squared_error: float, df: float) -> TestResult:
        if not squared_error > 0:
            t = math.copysign(math.inf, difference) if difference else math.nan
        else:
            t = difference / math.sqrt(squared_error)
        return TestResult(t, _tail(t, df, self.mode), df)


class Welch(Student):
    """Welch's t-test of two means, the variances not assumed equal.

    References: Welch (1947), Biometrika 34:28
    """

    def result(self, x1: FedData, x2: FedData) -> TestResult:
        a, b = _moments(x1, x2)
        if a.n < 2 or b.n < 2:
            return TestResult(math.nan, math.nan)
        u, v = a.variance / a.n, b.variance / b.n
        below = u**2 / (a.n - 1) + v**2 / (b.n - 1)
        # Without any variance the degrees of freedom are not defined; t is infinite or NaN.
        return self._t(_difference(a, b), u + v, (u + v) ** 2 / below if below else 1.0)


class Paired(Student):
    """Student's t-test of the differences x1 - x2, row by row; rows without both are left out."""

    def result(self, x1: FedData, x2: FedData) -> TestResult:
        (d,) = _moments(x1 - x2)
        if d.n < 2:
            return TestResult(math.nan, math.nan, d.n - 1)
        return self._t(d.mean + d.residual, d.variance / d.n, d.n - 1)


class ChiSquare(HypothesisTest):
    """Pearson's χ² of independence of two columns of categories; two-tailed alone.

    Raises:
        NotAnswered: a policy keeps a cell of the table back; join rare categories first.

    References: Pearson (1900), Philosophical Magazine 50:157
    """

    def result(self, x1: FedData, x2: FedData) -> TestResult:
        from scipy.stats import chi2

        table = _table(x1, x2)
        down, across = _margins(table)
        n = sum(down.values())
        if not n:
            return TestResult(math.nan, math.nan)
        df = (len(down) - 1) * (len(across) - 1)
        if df < 1:
            return TestResult(0.0, 1.0, 0)
        statistic = 0.0
        for i, row in down.items():
            for j, column in across.items():
                expected = row * column / n
                statistic += (table.get((i, j), 0) - expected) ** 2 / expected
        return TestResult(statistic, float(chi2.sf(statistic, df)), df)


class Wilcoxon(HypothesisTest):
    """Wilcoxon's signed-rank test of the differences x1 - x2, row by row.

    Zero differences are left out, tied ones share their rank, and the p-value is of the normal
    approximation with the correction for ties, as of SciPy's method="approx".

    Raises:
        NotAnswered: a policy keeps a difference back that too few rows have; round both columns
            (`x.operator("round", 0)`) so that differences repeat.

    References: Wilcoxon (1945), Biometrics Bulletin 1:80
    """

    def result(self, x1: FedData, x2: FedData) -> TestResult:
        from scipy.stats import norm

        differences = x1 - x2
        query = differences._query("counts", "counts", wants=NUMERIC)
        check_kind("The test", NUMERIC, gather(query).kind, str(differences._rows[0]))
        counts = _complete(finalize.levels(query, float))
        positive, negative, variance = _signed_ranks({k[0]: n for k, n in counts.items()})
        if not variance:  # there is no difference, or nobody
            return TestResult(0.0 if counts else math.nan, math.nan)
        z = (positive - (positive + negative) / 2) / math.sqrt(variance)
        tails = {"less": norm.cdf(z), "greater": norm.sf(z), "two-tailed": 2 * norm.sf(abs(z))}
        is_two = self.mode == "two-tailed"
        statistic = min(positive, negative) if is_two else positive
        return TestResult(statistic, float(tails[self.mode]))


def _signed_ranks(counts: Mapping[float, int]) -> tuple[float, float, float]:
    """Rank sums of positive and negative differences, and the variance of either."""
    sizes: dict[float, list[int]] = {}
    for value, n in counts.items():
        if value:
            sizes.setdefault(abs(value), [0, 0])[value < 0] += n
    positive = negative = ties = 0.0
    ranked = 0
    for size in sorted(sizes):
        above, below = sizes[size]
        rank = ranked + (above + below + 1) / 2
        positive += above * rank
        negative += below * rank
        ties += (above + below) ** 3 - (above + below)
        ranked += above + below
    return positive, negative, ranked * (ranked + 1) * (2 * ranked + 1) / 24 - ties / 48


def _moments(*columns: FedData) -> list[Moments]:
    """Moments of each column, asked together."""
    queries = [column._query("mean", "moments", wants=NUMERIC) for column in columns]
    resolve(queries)
    found = []
    for column, query in zip(columns, queries, strict=True):
        state, gathered = finalize.state(query)
        check_kind("The test", NUMERIC, gathered.kind, str(column._rows[0]))
        found.append(finalize.as_moments(state))
    return found


def _difference(a: Moments, b: Moments) -> float:
    return (a.mean - b.mean) + (a.residual - b.residual)


def _tail(t: float, df: float, mode: str) -> float:
    from scipy.stats import t as student

    if math.isnan(t) or math.isnan(df):
        return math.nan
    if mode == "less":
        return float(student.cdf(t, df))
    return float(student.sf(t, df) if mode == "greater" else 2 * student.sf(abs(t), df))


def _table(x1: FedData, x2: FedData) -> dict[tuple[Any, ...], int]:
    """Rows that have both, by pair of levels."""
    grouped = x1.groupby(x1, x2)
    query: Query = grouped._data._query("len", "len", by=grouped._keys)
    table = finalize.groups(query, finalize.rows, ("x1", "x2"), "rows", tuple)
    return _complete(table)


def _complete(table: Any) -> dict[tuple[Any, ...], int]:
    """The rows of a table of which no server kept anything back."""
    kept = [mark for mark in table.marks if mark.startswith("not shown")]
    if kept:
        raise NotAnswered(
            "The test needs every count, and a policy keeps some back.",
            remedy="Join rare categories, or round the values, so that each stands on enough rows.",
        )
    return {key: int(values[0]) for key, values in table.value.rows.items() if values[0]}


def _margins(table: Mapping[tuple[Any, ...], int]) -> tuple[dict[Any, int], dict[Any, int]]:
    down: dict[Any, int] = {}
    across: dict[Any, int] = {}
    for (i, j), n in table.items():
        down[i] = down.get(i, 0) + n
        across[j] = across.get(j, 0) + n
    return down, across
