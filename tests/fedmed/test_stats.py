"""fm.stats against SciPy, NumPy and published numbers, over data that stand at three servers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from federated_analytics import fedmed as fm
from federated_analytics.fedmed import stats
from federated_analytics.fedmed.data import FedData
from federated_analytics.fedmed.errors import NotAnswered, WrongKind
from tests.fedmed.fake_site import FakeSite, FakeSource

# Student (1908): hours of sleep gained by ten patients under two drugs.
SLEEP = pd.DataFrame(
    {
        "first": [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
        "second": [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
    }
)
Federated = Callable[[pd.DataFrame], FedData]


def over_fake_sites(frame: pd.DataFrame, withhold: int = 1) -> FedData:
    parts = np.array_split(np.arange(len(frame)), 3)
    sites = [
        FakeSite({"f": frame.iloc[p].to_dict("list")}, withhold=withhold)  # type: ignore[arg-type]
        for p in parts
    ]
    return FedData([FakeSource(site, "f", f"s{i}") for i, site in enumerate(sites)])


@pytest.fixture
def sleep() -> FedData:
    return over_fake_sites(SLEEP)


def test_published_t_tests(sleep: FedData) -> None:
    """R's documentation of `sleep` prints these."""
    first, second = sleep["first"], sleep["second"]
    student = stats.test.Student().result(first, second)
    assert student.statistic == pytest.approx(-1.8608, abs=5e-5)
    assert (student.df, student.pvalue) == (18, pytest.approx(0.07919, abs=5e-6))
    welch = stats.test.Welch().result(first, second)
    assert welch.df == pytest.approx(17.776, abs=5e-4)
    assert welch.pvalue == pytest.approx(0.07939, abs=5e-6)
    paired = stats.test.Paired().result(first, second)
    assert paired.statistic == pytest.approx(-4.0621, abs=5e-5)
    assert (paired.df, paired.pvalue) == (9, pytest.approx(0.002833, abs=5e-7))


@pytest.mark.parametrize("mode", ["two-tailed", "less", "greater"])
def test_modes_equal_scipy(sleep: FedData, mode: str) -> None:
    alternative = "two-sided" if mode == "two-tailed" else mode
    x, y = SLEEP["first"], SLEEP["second"]
    a, b = sleep["first"], sleep["second"]
    expected = {
        stats.test.Student: scipy.stats.ttest_ind(x, y, alternative=alternative),
        stats.test.Welch: scipy.stats.ttest_ind(x, y, equal_var=False, alternative=alternative),
        stats.test.Paired: scipy.stats.ttest_rel(x, y, alternative=alternative),
    }
    for test, (statistic, pvalue) in expected.items():
        made = test(alpha=0.05, mode=mode)
        assert made.statistic(a, b) == pytest.approx(statistic, rel=1e-12)
        assert made.pvalue(a, b) == pytest.approx(pvalue, rel=1e-9)
        assert made.reject(a, b) is bool(pvalue < 0.05)


@pytest.mark.parametrize("mode", ["two-tailed", "less", "greater"])
def test_signed_ranks_equal_scipy(mode: str) -> None:
    draw = np.random.default_rng(7)
    frame = pd.DataFrame({"x": draw.integers(0, 9, 60), "y": draw.integers(1, 10, 60)})
    data = over_fake_sites(frame)
    alternative = "two-sided" if mode == "two-tailed" else mode
    expected = scipy.stats.wilcoxon(
        frame["x"], frame["y"], method="asymptotic", alternative=alternative
    )
    found = stats.test.Wilcoxon(mode=mode).result(data["x"], data["y"])
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.pvalue == pytest.approx(expected.pvalue, rel=1e-12)


def test_chi_square_equals_scipy() -> None:
    draw = np.random.default_rng(8)
    frame = pd.DataFrame({"x": draw.choice(list("abc"), 200), "y": draw.choice(list("de"), 200)})
    data = over_fake_sites(frame)
    table = pd.crosstab(frame["x"], frame["y"])
    expected = scipy.stats.chi2_contingency(table, correction=False)
    found = stats.test.ChiSquare().result(data["x"], data["y"])
    assert found.statistic == pytest.approx(expected.statistic, rel=1e-12)
    assert found.pvalue == pytest.approx(expected.pvalue, rel=1e-12)
    assert found.df == expected.dof


def test_no_test_on_a_table_with_holes() -> None:
    frame = pd.DataFrame({"x": list("aaaaaaab"), "y": list("cdcdcdcd")})
    data = over_fake_sites(frame, withhold=2)
    with pytest.raises(NotAnswered, match="Join rare categories"):
        stats.test.ChiSquare().pvalue(data["x"], data["y"])


def test_tests_of_too_little() -> None:
    data = over_fake_sites(pd.DataFrame({"x": [1.0, 1.0, 1.0], "y": [2.0, 2.0, 2.0]}))
    assert stats.test.Student().statistic(data["x"], data["y"]) == -math.inf
    assert stats.test.Student().pvalue(data["x"], data["y"]) == 0
    one = data[data["x"] > 5]
    assert math.isnan(stats.test.Student().pvalue(one["x"], one["y"]))
    assert stats.test.Student().reject(one["x"], one["y"]) is False
    with pytest.raises(ValueError, match="alpha"):
        stats.test.Student(alpha=95)
    with pytest.raises(ValueError, match="two-tailed"):
        stats.test.Welch(mode="both")


def test_functions_equal_numpy(sleep: FedData) -> None:
    x = SLEEP["first"].to_numpy()
    data = sleep["first"]
    assert stats.sum(data) == pytest.approx(x.sum())
    assert stats.len(data) == 10
    assert stats.sqsum(data) == pytest.approx((x**2).sum())
    assert stats.mean(data) == pytest.approx(x.mean())
    assert stats.var(data) == pytest.approx(x.var())
    assert stats.var(data, df=1) == pytest.approx(x.var(ddof=1))
    assert stats.std(data, df=1) == pytest.approx(x.std(ddof=1))
    assert stats.set(data) == set(x)


def test_variance_keeps_its_digits() -> None:
    """NIST's NumAcc4: mean 10,000,000.2 and standard deviation 0.1, exactly."""
    values = [10000000.2] + [10000000.1, 10000000.3] * 500
    data = over_fake_sites(pd.DataFrame({"x": values}))
    assert float(data["x"].std()) == pytest.approx(0.1, rel=1e-7)
    assert float(data["x"].mean()) == pytest.approx(10000000.2, rel=1e-15)


FEW: list[list[float]] = [
    [],
    [1.0],
    [1.0, 1.0],
    [2.0, 2.0, 2.0],
    [1.0, 4.0],
    [0.0, 0.0],
    [3.0, 1.0, 2.0],
    [-1.0, 1.0],
]


def same(found: float, expected: float) -> bool:
    return found == pytest.approx(float(expected), rel=1e-9, nan_ok=True)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("mode", ["two-tailed", "less", "greater"])
@pytest.mark.parametrize("x", FEW, ids=str)
@pytest.mark.parametrize("y", FEW, ids=str)
def test_tests_of_little_equal_scipy(x: list[float], y: list[float], mode: str) -> None:
    """None, one, or all values equal: SciPy's numbers, its infinities and its NaN."""
    alternative = "two-sided" if mode == "two-tailed" else mode
    a, b = (FedData([fm.Local(values)]) for values in (x, y))
    for test, equal in ((stats.test.Student, True), (stats.test.Welch, False)):
        expected = scipy.stats.ttest_ind(x, y, equal_var=equal, alternative=alternative)
        found = test(mode=mode).result(a, b)
        assert same(found.statistic, expected.statistic), (test, found, expected)
        assert same(found.pvalue, expected.pvalue), (test, found, expected)
        assert test(mode=mode).reject(a, b) is bool(expected.pvalue < 0.05)
    if len(x) == len(y):
        data = FedData([fm.Local({"x": x, "y": y})])
        expected = scipy.stats.ttest_rel(x, y, alternative=alternative)
        found = stats.test.Paired(mode=mode).result(data["x"], data["y"])
        assert same(found.statistic, expected.statistic)
        assert same(found.pvalue, expected.pvalue)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("mode", ["two-tailed", "less", "greater"])
@pytest.mark.parametrize("differences", [[], [0.0], [0.0, 0.0], [2.0], [-1.0, 0.0], [1.0, -1.0]])
def test_signed_ranks_of_little_equal_scipy(differences: list[float], mode: str) -> None:
    alternative = "two-sided" if mode == "two-tailed" else mode
    data = FedData([fm.Local({"x": differences, "y": [0.0] * len(differences)})])
    found = stats.test.Wilcoxon(mode=mode).result(data["x"], data["y"])
    expected = scipy.stats.wilcoxon(differences, method="asymptotic", alternative=alternative)
    assert same(found.statistic, expected.statistic), (found, expected)
    assert same(found.pvalue, expected.pvalue), (found, expected)


def test_chi_square_of_little() -> None:
    one = FedData([fm.Local({"x": ["a", "a", "a"], "y": ["c", "d", "d"]})])
    expected = scipy.stats.chi2_contingency([[1, 2]], correction=False)
    found = stats.test.ChiSquare().result(one["x"], one["y"])
    assert (found.statistic, found.pvalue, found.df) == expected[:3]
    nobody = one[one["x"] == "b"]
    none = stats.test.ChiSquare().result(nobody["x"], nobody["y"])
    assert math.isnan(none.statistic)
    assert math.isnan(none.pvalue)
    assert stats.test.ChiSquare().reject(nobody["x"], nobody["y"]) is False


def test_functions_are_the_methods() -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0, 2.0, 7.0], "y": [2.0, 2.0, 5.0, 9.0]})
    data = FedData([fm.Local(frame[:2]), fm.Local(frame[2:])])
    counts, edges = np.histogram(frame["x"], [0, 2, 5, 8])
    assert stats.hist(data["x"], [0, 2, 5, 8]).counts == tuple(counts)
    assert stats.hist(data["x"], 4).counts == tuple(np.histogram(frame["x"], 4)[0])
    assert stats.counts(data["x"]) == frame["x"].value_counts().to_dict()
    assert stats.round(data["x"], 2).sum() == (np.floor(frame["x"] / 2 + 0.5) * 2).sum()
    assert stats.pearson(data["x"], data["y"]) == pytest.approx(frame["x"].corr(frame["y"]))
    assert stats.cov(data["x"], data["y"]) == pytest.approx(frame["x"].cov(frame["y"]))
    expected = scipy.stats.wilcoxon(frame["x"], frame["y"], method="asymptotic")
    found = stats.wilcoxon(data["x"], data["y"])
    assert (found.statistic, found.pvalue) == pytest.approx((expected.statistic, expected.pvalue))
    assert len(edges) == 4


@pytest.mark.parametrize("test", ["Student", "Welch", "Paired", "Wilcoxon"])
def test_tests_of_dates_and_numbers_are_wrong(test: str) -> None:
    dates = pd.Series(pd.to_datetime(["2020-01-01", "2021-01-01"]))
    data = FedData([fm.Local({"x": dates, "y": [1.0, 2.0]})])
    with pytest.raises(WrongKind):
        getattr(stats.test, test)().pvalue(data["x"], data["y"])
