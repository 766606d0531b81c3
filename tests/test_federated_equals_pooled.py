"""Every analysis, federated over 1, 2, 3 and 7 sites, equals pandas on all rows together."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from federated_analytics.aggregates.normal_equations import NormalEquations
from federated_analytics.analyses.base import analyses
from federated_analytics.omop.features import catalogue, fine_grid, public_edges
from federated_analytics.report.result import Result
from tests import pooled
from tests.sites import ask, load, sites, values

PERSONS = 900
BY = ["sex", "age_group"]
POPULATIONS = {
    "everyone": '[population]\nkind = "everyone"',
    "diabetes": f'[population]\nname = "diabetes"\nkind = "condition"\n'
    f"concepts = [{pooled.DIABETES}]\nprior_observation_days = 180",
}
PARTITIONS = [(1, False), (2, False), (3, True), (7, False)]
NUMERIC = ["age", "systolic_bp", "bmi", "hba1c", "outpatient_visits"]

Found = dict[tuple[str, ...], str]
Check = Callable[[Found, str, pd.DataFrame], int]


@cache
def tables() -> dict[str, pd.DataFrame]:
    return pooled.random_tables(20261123, PERSONS)


@cache
def frame(population: str) -> pd.DataFrame:
    persons = (
        pooled.everyone(tables())
        if population == "everyone"
        else pooled.first_diabetes(tables(), 180)
    )
    return pooled.with_features(tables(), persons)


@pytest.fixture(scope="module")
def partitions(database: str) -> dict[tuple[int, bool], list[str]]:
    """Schemas of each partition; all read the vocabulary of one schema."""
    load(database, "vocabulary", pooled.concept_tables())
    made: dict[tuple[int, bool], list[str]] = {}
    for count, empty in PARTITIONS:
        names = [f"site_{count}_{i}" for i in range(count)]
        for i, name in enumerate(names):
            load(database, name, pooled.part_of(tables(), i, count, empty=empty))
        made[count, empty] = names
    return made


def _key(kind: str, population: str, strata: object, *rest: str) -> tuple[str, ...]:
    levels = " ".join(f"{name}={level}" for name, level in strata)  # type: ignore[attr-defined]
    return (kind, population, levels, *rest)


def _close(text: str, expected: float) -> bool:
    if math.isnan(expected):
        return text == "NA"
    return math.isclose(float(text), expected, rel_tol=1e-12, abs_tol=1e-9)


def check_summary(found: Found, population: str, rows: pd.DataFrame) -> int:
    compared = 0
    for strata, group in pooled.groups(rows, BY).items():
        for name in NUMERIC:
            for estimate, expected in pooled.summary(group[name]).items():
                key = _key("summary", population, strata, name, "", estimate)
                if estimate == "mean" and group[name].notna().sum() == 0:
                    expected = math.nan
                assert _close(found[key], expected), (key, found[key], expected)
                compared += 1
            if f"{name}_records" in group:
                key = _key("summary", population, strata, name, "", "count_records")
                assert int(found[key]) == group[f"{name}_records"].sum(), key
    return compared


def check_counts(found: Found, population: str, rows: pd.DataFrame) -> int:
    expected = {strata: len(group) for strata, group in pooled.groups(rows, BY).items()}
    for strata, persons in expected.items():
        key = _key("counts", population, strata, "persons", "", "count")
        assert int(found[key]) == persons, key
    first = _key("counts", population, (), "attrition", "Persons in the database", "count")
    assert int(found[first]) == PERSONS
    if population == "diabetes":
        steps = {k[4]: int(v) for k, v in found.items() if k[3] == "attrition" and k[5] == "count"}
        assert list(steps.values()) == sorted(steps.values(), reverse=True)
        assert list(steps.values())[-1] == len(rows)
    return len(expected)


def check_histogram(found: Found, population: str, rows: pd.DataFrame) -> int:
    compared = 0
    for strata, group in pooled.groups(rows, BY).items():
        for name in ("systolic_bp", "hba1c"):
            edges = public_edges(catalogue()[name])
            known = group[name].dropna()
            expected = [((known >= a) & (known < b)).sum() for a, b in pairwise(edges)]
            for low, high, persons in zip(edges, edges[1:], expected, strict=False):
                level = f"[{low:g}, {high:g})"
                key = _key("histogram", population, strata, name, level, "count")
                assert int(found.get(key, 0)) == persons, key
                compared += 1
    return compared


def check_quantiles(found: Found, population: str, rows: pd.DataFrame) -> int:
    compared = 0
    labels = {0.05: "q05", 0.25: "q25", 0.5: "median", 0.75: "q75", 0.95: "q95"}
    for strata, group in pooled.groups(rows, BY).items():
        for name in ("systolic_bp", "bmi", "hba1c"):
            known = group[name].dropna()
            if known.empty:
                continue
            for probability, label in labels.items():
                key = _key("quantiles", population, strata, name, "")
                low, mid, high = (
                    float(found[(*key, label + suffix)]) for suffix in ("_lower", "", "_upper")
                )
                expected = float(np.quantile(known, probability))
                assert low - 1e-9 <= expected <= high + 1e-9, (key, label, low, expected, high)
                assert low <= mid <= high
                if len(known) > 200 and 0.2 < probability < 0.8:  # dense: a few steps apart
                    assert high - low <= 5 * fine_grid(catalogue()[name])[1] + 1e-9
                compared += 1
    return compared


def check_frequencies(found: Found, population: str, rows: pd.DataFrame) -> int:
    compared = 0
    for strata, group in pooled.groups(rows, BY).items():
        for name in ("sex", "hypertension"):
            for level, persons in group[name].value_counts().items():
                key = _key("frequencies", population, strata, name, str(level))
                assert int(found[(*key, "count")]) == persons, key
                assert _close(found[(*key, "percentage")], 100 * persons / len(group)), key
                compared += 1
    return compared


def check_top_concepts(found: Found, population: str, rows: pd.DataFrame) -> int:
    events = tables()["condition_occurrence"]
    events = events[events.person_id.isin(rows.person_id) & (events.condition_concept_id != 0)]
    expected = events.groupby("condition_concept_id").person_id.nunique()
    counts = {
        int(k[4]): int(v)
        for k, v in found.items()
        if k[0] == "top_concepts" and not k[2] and k[5] == "count"
    }
    assert counts == expected.to_dict()
    names = {k[3] for k in found if k[0] == "top_concepts"}
    assert "Type 2 diabetes mellitus" in names
    return len(counts)


HORIZON, GRID = 1_000, 90


def check_survival(found: Found, population: str, rows: pd.DataFrame) -> int:
    """Exits in each step, and Kaplan-Meier's estimate of the exact days between the bounds."""
    compared = 0
    steps = [0, *range(GRID, HORIZON, GRID), HORIZON]
    for name, exits in pooled.exits(tables(), rows).items():
        for strata, group in pooled.groups(exits, BY).items():
            key = _key("survival", population, strata, name, "")
            assert int(found[(*key, "count")]) == len(group), key
            for before, day in pairwise([-1, *steps]):
                here = group[(group.day > before) & (group.day <= day)]
                at = _key("survival", population, strata, name, f"day {day}")
                assert int(found[(*at, "events")]) == here.event.sum(), at
                assert int(found[(*at, "censored")]) == (~here.event).sum(), at
                assert int(found[(*at, "at_risk")]) == (group.day > day).sum(), at
                low, mid, high = (
                    float(found[(*at, f"survival{end}")]) for end in ("_lower", "", "_upper")
                )
                exact = pooled.kaplan_meier(group, day)
                assert low - 1e-9 <= exact <= high + 1e-9, (at, low, exact, high)
                assert low <= mid <= high
                compared += 1
    return compared


def check_linear_regression(found: Found, population: str, rows: pd.DataFrame) -> int:
    """Coefficients by least squares on the rows; of a column that is constant, none."""
    compared = 0
    places = [("(intercept)", ""), ("age", ""), ("sex", "Male"), ("hypertension", "Yes")]
    for strata, group in pooled.groups(rows, BY).items():
        whole = group[(group.sex != "Unknown") & group.age.notna()]
        key = _key("linear_regression", population, strata, "outpatient_visits", "", "count")
        assert int(found[key]) == len(whole), key
        ones = (np.ones(len(whole)), whole.age, whole.sex == "Male", whole.hypertension == "Yes")
        x = np.column_stack(ones).astype(float)
        kept = [i for i in range(len(places)) if not i or len(np.unique(x[:, i])) > 1]
        if not len(whole) or np.linalg.matrix_rank(x[:, kept]) < len(kept):
            continue
        beta = np.full(len(places), math.nan)
        y = whole.outpatient_visits.to_numpy(float)
        beta[kept] = np.linalg.lstsq(x[:, kept], y, rcond=None)[0]
        for (variable, level), expected in zip(places, beta, strict=True):
            key = _key("linear_regression", population, strata, variable, level, "coefficient")
            if math.isnan(expected):
                assert found[key] == "NA", key
            else:
                assert math.isclose(float(found[key]), expected, rel_tol=1e-8, abs_tol=1e-8), key
            compared += 1
    return compared


CASES: dict[str, tuple[str, Check]] = {
    "summary": (f"features = {NUMERIC}", check_summary),
    "counts": ("", check_counts),
    "histogram": ('features = ["systolic_bp", "hba1c"]', check_histogram),
    "quantiles": ('features = ["systolic_bp", "bmi", "hba1c"]', check_quantiles),
    "frequencies": ('features = ["sex", "hypertension"]', check_frequencies),
    "top_concepts": ("top = 100", check_top_concepts),
    "survival": (
        f'features = ["death", "hypertension"]\nhorizon_days = {HORIZON}\ngrid_days = {GRID}',
        check_survival,
    ),
    "linear_regression": (
        'outcome = "outpatient_visits"\nfeatures = ["age", "sex", "hypertension"]',
        check_linear_regression,
    ),
}
PAIRS = [(k, p) for k in CASES for p in POPULATIONS if (k, p) != ("survival", "everyone")]
"""Everyone has no index date from which survival could be counted."""


def test_every_analysis_has_a_case() -> None:
    assert sorted(CASES) == sorted(analyses())


def study(population: str) -> str:
    blocks = [
        f'[[analysis]]\nkind = "{kind}"\n{extra}\nby = {BY}\n'
        for kind, (extra, _) in CASES.items()
        if (kind, population) in PAIRS
    ]
    return '[study]\nname = "pooled"\n' + POPULATIONS[population] + "\n" + "\n".join(blocks)


@pytest.fixture(
    scope="module", params=PARTITIONS, ids=lambda p: f"{p[0]} sites{' one empty' * p[1]}"
)
def asked(
    request: pytest.FixtureRequest, database: str, partitions: dict[tuple[int, bool], list[str]]
) -> dict[str, Result]:
    members = sites(database, partitions[request.param], vocabulary="vocabulary")
    with pytest.MonkeyPatch.context() as patch:
        # R7 would withhold what a site of a few persons has to say, whatever the policy.
        patch.setattr(NormalEquations, "guarded", lambda self, min_count: self)
        return {name: ask(study(name), members) for name in POPULATIONS}


@pytest.mark.parametrize(("kind", "population"), PAIRS)
def test_federated_equals_pooled(asked: dict[str, Result], kind: str, population: str) -> None:
    compared = CASES[kind][1](values(asked[population]), population, frame(population))
    assert compared > 2
