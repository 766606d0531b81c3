"""Survival curves: published numbers, scipy's Kaplan-Meier, bounds that hold, and R6."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from scipy.optimize import linprog
from scipy.stats import CensoredData, ecdf

from federated_analytics.aggregates.risk_table import RiskTable
from federated_analytics.aggregates.table import Key, Strata
from federated_analytics.analyses.survival import Survival, SurvivalQuery, _beside, _median
from federated_analytics.errors import StudyError
from federated_analytics.omop.features import catalogue
from federated_analytics.omop.frame import Frame, FrameColumn
from federated_analytics.omop.tables import Cdm
from federated_analytics.privacy.policy import Policy
from federated_analytics.study import Study
from tests import pooled
from tests.sites import ask, load, sites, values

# Weeks in remission of 42 children with leukaemia, + censored. Freireich et al. (1963), Blood
# 21:699; its Kaplan-Meier table as in Kleinbaum & Klein (2012), Survival Analysis, chapter 2.
MERCAPTOPURINE = "6 6 6 6+ 7 9+ 10 10+ 11+ 13 16 17+ 19+ 20+ 22 23 25+ 32+ 32+ 34+ 35+"
PLACEBO = "1 1 2 2 3 4 4 5 5 8 8 8 8 11 11 12 12 15 17 22 23"
PUBLISHED = {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}
PUBLISHED_INTERVAL = {6: (0.620, 0.952), 10: (0.503, 0.889), 23: (0.188, 0.680)}

Times = list[tuple[int, bool]]
"""(day, happened) of each person."""


def parsed(text: str) -> Times:
    return [(int(word.strip("+")), not word.endswith("+")) for word in text.split()]


def table(times: Times, edges: Sequence[int]) -> RiskTable:
    """The aggregate by a plain loop."""
    rows = []
    for day, happened in times:
        inside = [j for j in range(len(edges) - 1) if edges[j] < day <= edges[j + 1]]
        step = inside[0] if inside else len(edges) - 1
        event = happened and bool(inside)
        rows.append((step, step + 1, int(event), int(not event)))
    return RiskTable.of(rows)


def kaplan_meier(times: Times, day: int) -> float:
    """Survival after a day, by scipy."""
    events = [t for t, happened in times if happened]
    censored = [t for t, happened in times if not happened]
    if not events:
        return 1.0
    return float(ecdf(CensoredData(uncensored=events, right=censored)).sf.evaluate(day))


def random_times(rng: random.Random, persons: int, longest: int) -> Times:
    return [(rng.randint(0, longest), rng.random() < 0.5) for _ in range(persons)]


def daily(horizon: int) -> list[int]:
    return SurvivalQuery(horizon_days=horizon, grid_days=1).edges


def test_published_numbers() -> None:
    times = parsed(MERCAPTOPURINE)
    points = {p.day: p for p in table(times, daily(35)).curve(daily(35))}
    for week, survival in PUBLISHED.items():
        assert points[week].survival == pytest.approx(survival, abs=5e-4)
        assert points[week].lower == points[week].upper
    for week, interval in PUBLISHED_INTERVAL.items():
        assert points[week].confidence_interval() == pytest.approx(interval, abs=5e-4)
    assert (points[5].at_risk, points[6].at_risk, points[6].events) == (21, 17, 3)


def test_steps_of_a_day_give_kaplan_meier_itself() -> None:
    rng = random.Random(3)
    for _ in range(30):
        times = random_times(rng, rng.randint(1, 60), 40)
        for point in table(times, daily(30)).curve(daily(30)):
            expected = kaplan_meier(times, point.day)
            assert point.survival == pytest.approx(expected, abs=1e-12)
            assert point.lower == pytest.approx(expected, abs=1e-12)
            assert point.upper == pytest.approx(expected, abs=1e-12)


def test_confidence_interval_is_that_of_scipy() -> None:
    times = parsed(MERCAPTOPURINE) + parsed(PLACEBO)
    events = [t for t, happened in times if happened]
    censored = [t for t, happened in times if not happened]
    curve = ecdf(CensoredData(uncensored=events, right=censored)).sf
    interval = curve.confidence_interval(method="log-log")
    for point in table(times, daily(35)).curve(daily(35))[1:]:
        low, high = point.confidence_interval()
        assert low == pytest.approx(float(interval.low.evaluate(point.day)), abs=1e-12)
        assert high == pytest.approx(float(interval.high.evaluate(point.day)), abs=1e-12)


@pytest.mark.parametrize("k", [1, 3, 5, 11])
@pytest.mark.parametrize("grid_days", [1, 7, 30])
def test_the_exact_curve_lies_within_the_bounds(k: int, grid_days: int) -> None:
    """Over several sites that joined their steps each in its own way."""
    rng = random.Random(100 * k + grid_days)
    edges = SurvivalQuery(horizon_days=200, grid_days=grid_days).edges
    for _ in range(12):
        parts = [random_times(rng, rng.randint(60, 150), 300) for _ in range(rng.randint(1, 4))]
        guarded = [table(times, edges).guarded(k) for times in parts]
        merged = RiskTable.zero()
        for part in guarded:
            assert part is not None
            merged = merged.merge(part)
        everybody = list(itertools.chain.from_iterable(parts))
        assert merged.persons == len(everybody)
        points = merged.curve(edges)
        assert [p.day for p in points] == edges[1:]
        for point in points:
            expected = kaplan_meier(everybody, point.day)
            assert point.lower - 1e-12 <= expected <= point.upper + 1e-12
            assert point.lower <= point.survival <= point.upper
            if point.at_risk is not None:
                assert point.at_risk == sum(day > point.day for day, _ in everybody)


def test_bounds_are_reached() -> None:
    """One step with an event and a censoring: either may come first."""
    (_, point) = RiskTable(((1, 2, 1, 1), (2, 3, 0, 2))).curve([-1, 0, 30])
    assert point.upper == pytest.approx(3 / 4)
    assert point.lower == pytest.approx(2 / 3)
    assert point.lower < point.survival < point.upper


@pytest.mark.parametrize("k", [2, 5, 11])
def test_no_step_holds_fewer_than_k(k: int) -> None:
    rng = random.Random(k)
    for _ in range(100):
        edges = SurvivalQuery(horizon_days=rng.randint(5, 60), grid_days=rng.randint(1, 9)).edges
        exact = table(random_times(rng, rng.randint(0, 80), 70), edges)
        safe = exact.guarded(k)
        if safe is None:
            left = exact.persons - exact.events
            assert 0 < exact.events < k or 0 < left < k
            continue
        assert (safe.persons, safe.events) == (exact.persons, exact.events)
        assert not [n for n in safe.support if 0 < n < k]
        at_risk = [p.at_risk for p in safe.curve(edges) if p.at_risk is not None]
        assert not [n for n in at_risk if 0 < n < k]
        for kind in (2, 3):
            places = [row[:2] for row in safe.intervals if row[kind]]
            assert all(a[1] <= b[0] for a, b in itertools.pairwise(places))


def test_a_joined_step_does_not_end_where_the_last_of_it_left() -> None:
    """Steps of a day: the fifth event is on day 4, which the block's end must not tell."""
    counts = [(1, 1, 0), (2, 1, 0), (3, 1, 0), (4, 2, 9)]
    safe = RiskTable.of((day, day + 1, d, c) for day, d, c in counts).guarded(5)
    assert safe is not None
    assert safe.intervals == ((0, 8, 5, 0), (4, 5, 0, 9))


def test_the_bounds_are_narrow_at_sites_of_a_thousand() -> None:
    rng, edges = random.Random(1), SurvivalQuery().edges
    merged, exact = RiskTable.zero(), RiskTable.zero()
    for _ in range(3):
        times = [(int(rng.expovariate(1 / 1_500)), rng.random() < 0.5) for _ in range(1_000)]
        whole = table(times, edges)
        part = whole.guarded(5)
        assert part is not None
        merged, exact = merged.merge(part), exact.merge(whole)
    points = merged.curve(edges)
    assert sum(p.upper - p.lower for p in points) / len(points) < 0.015
    for point, reference in zip(points, exact.curve(edges), strict=True):
        assert point.survival == pytest.approx(reference.survival, abs=0.01)


def test_rounded_sums_from_the_start() -> None:
    exact = RiskTable(((0, 1, 7, 6), (1, 2, 7, 6), (2, 3, 7, 6)))
    rounded = exact.rounded(5)
    assert not [n for n in rounded.support if n % 5]
    assert (rounded.events, rounded.persons - rounded.events) == (20, 20)


# At sites, with PostgreSQL.

STRICT = Policy(min_count=5, min_sites=1, per_site=True, complementary=False)
INDEX = pd.Timestamp("2010-01-01")


def tables(times: Times, first_id: int = 1) -> dict[str, pd.DataFrame]:
    """Persons with diabetes on one day, who die or end their observation."""
    ids = np.arange(first_id, first_id + len(times))
    end = INDEX + pd.to_timedelta([day for day, _ in times], "D")
    died = np.array([happened for _, happened in times], dtype=bool)
    person = {"gender_concept_id": 8507, "year_of_birth": 1950, "month_of_birth": 1}
    person |= {"day_of_birth": 1, "race_concept_id": 0, "ethnicity_concept_id": 0}
    condition = {"condition_occurrence_id": ids, "person_id": ids}
    condition |= {"condition_concept_id": pooled.DIABETES, "condition_start_date": INDEX}
    observed = {"person_id": ids, "observation_period_start_date": INDEX - pd.Timedelta("400D")}
    return {
        "person": pd.DataFrame({"person_id": ids, **person}),
        "observation_period": pd.DataFrame({**observed, "observation_period_end_date": end}),
        "condition_occurrence": pd.DataFrame(condition),
        "death": pd.DataFrame({"person_id": ids[died], "death_date": end[died]}),
        **pooled.concept_tables(),
    }


def study(extra: str = "") -> str:
    return (
        '[study]\nname = "survival"\n[population]\nname = "diabetes"\nkind = "condition"\n'
        f'concepts = [{pooled.DIABETES}]\n[[analysis]]\nkind = "survival"\n{extra}\n'
    )


@pytest.mark.parametrize("count", [1, 3])
def test_published_numbers_through_sites(database: str, count: int) -> None:
    times = parsed(MERCAPTOPURINE)
    names = [f"leukaemia_{count}_{i}" for i in range(count)]
    for i, name in enumerate(names):
        load(database, name, tables(times[i::count]))
    found = values(ask(study("horizon_days = 35\ngrid_days = 1"), sites(database, names)))
    of = {key[4:]: text for key, text in found.items() if key[3] == "death"}
    for week, survival in PUBLISHED.items():
        assert float(of[f"day {week}", "survival"]) == pytest.approx(survival, abs=5e-4)
    assert of["", "count"] == "21"
    assert of["", "count_events"] == "9"
    assert float(of["", "median_survival"]) == 23
    assert float(of["", "median_survival_lower"]) == 23
    assert float(of["", "median_survival_upper"]) == 23


def test_what_counts_as_an_event(database: str) -> None:
    """Records before, on and after the index date; a record after the end; a death before."""
    times: Times = [(500, False)] * 6
    data = tables(times)
    rows = {1: -10, 2: 0, 3: 50, 4: 600, 5: 0}  # person: day of hypertension
    events = pd.DataFrame(
        {
            "condition_occurrence_id": [101, 102, 103, 104, 105, 106],
            "person_id": [*rows, 5],
            "condition_concept_id": pooled.HYPERTENSION,
            "condition_start_date": INDEX + pd.to_timedelta([*rows.values(), 90], "D"),
        }
    )
    data["condition_occurrence"] = pd.concat([data["condition_occurrence"], events])
    data["death"] = pd.DataFrame({"person_id": [6], "death_date": [INDEX - pd.Timedelta("5D")]})
    load(database, "records", data)
    asked = 'features = ["death", "hypertension"]\nhorizon_days = 400\ngrid_days = 100\n'
    for extra, persons, happened in (("", 3, 1), ("exclude_prior = false", 6, 2)):
        found = values(ask(study(asked + extra), sites(database, ["records"])))
        of = {key[3:]: text for key, text in found.items() if key[0] == "survival"}
        assert of["death", "", "count"] == "6"
        assert of["death", "", "count_events"] == "0"
        assert of["hypertension", "", "count"] == str(persons)
        assert of["hypertension", "", "count_events"] == str(happened)
        assert of["hypertension", "day 100", "events"] == str(happened)


def test_a_step_with_one_event_is_joined(database: str) -> None:
    """R6: nothing that leaves differs between an event on day 10 and one on day 20."""
    answers = []
    for day in (10, 20):
        times = [(day, True), *[(100 + d, True) for d in range(9)], *[(300, False)] * 40]
        load(database, f"one_event_{day}", tables(times))
        asked = sites(database, [f"one_event_{day}"], STRICT)
        result = ask(study("horizon_days = 200\ngrid_days = 10"), asked)
        answers.append({k: v for k, v in values(result).items() if k[0] == "survival"})
    assert answers[0] == answers[1]
    assert answers[0]["survival", "diabetes", "", "death", "", "count_events"] == "10"


def test_a_few_events_in_all_are_withheld(database: str) -> None:
    load(database, "few_events", tables([(10, True)] * 3 + [(300, False)] * 40))
    found = values(ask(study(), sites(database, ["few_events"], STRICT)))
    of = {key[4:]: text for key, text in found.items() if key[3] == "death"}
    assert of["", "count"] == "<5"
    assert of["", "count_events"] == of["", "median_survival"] == "-"
    assert not [key for key in of if key[0].startswith("day")]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ('features = ["age"]', "numeric"),
        ("horizon_days = 36525\ngrid_days = 1", "grid_days = 74"),
        ("grid_days = 0", "grid_days"),
        ("grid = 5", "grid"),
    ],
)
def test_what_cannot_be_asked(extra: str, said: str) -> None:
    with pytest.raises(StudyError) as error:
        Study.parse(study(extra))
    assert said in f"{error.value.message} {error.value.remedy} {error.value.where}"


def test_the_same_without_temporary_tables(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    load(database, "read_only", tables(parsed(MERCAPTOPURINE)))
    asked = sites(database, ["read_only"])
    text = study('features = ["death", "hypertension"]\nby = ["sex"]\nhorizon_days = 35')
    expected = values(ask(text, asked))
    monkeypatch.setattr(
        "federated_analytics.execution.may_create_temporary", lambda connection: False
    )
    assert values(ask(text, asked)) == expected


@pytest.mark.parametrize("grid_days", [1, 7, 30])
def test_counted_sets_count_what_they_say(grid_days: int) -> None:
    """Each count that the rules hear of is that of the persons whom its days and event name."""
    rng = random.Random(grid_days)
    query = SurvivalQuery(horizon_days=100, grid_days=grid_days)
    frame = Frame(sa.table("frame"), {"death": column_of("death")}, {}, Cdm())
    for k in (1, 5):
        times = random_times(rng, 200, 150)
        state = table(times, query.edges).guarded(k)
        assert state is not None
        found = list(Survival().counted_sets(query, frame, Key((), "death"), state))
        assert len(found) > 2
        for persons, of in found:
            named = dict(of)
            low, high = named["death:day"]
            happened = named.get("death:event by day 100")
            here = [
                day
                for day, event in times
                if float(low) <= day < float(high)
                and happened in (None, "Yes" if event and day <= 100 else "No")
            ]
            assert persons == len(here), of


def column_of(name: str) -> FrameColumn:
    empty = sa.literal_column("0")
    return FrameColumn(catalogue()[name], empty, None, empty)


def test_a_median_that_is_not_reached_has_no_number() -> None:
    times = [(100, False)] * 30 + [(40, True)] * 10
    edges = SurvivalQuery(horizon_days=90, grid_days=30).edges
    points = table(times, edges).curve(edges)
    assert points[-1].survival == pytest.approx(0.75)
    assert all(np.isnan(_median(points)))


def test_the_median_lies_within_its_bounds() -> None:
    rng = random.Random(9)
    query = SurvivalQuery(horizon_days=300, grid_days=30)
    for _ in range(40):
        times = random_times(rng, 150, 200)
        exact = next((d for d in range(301) if kaplan_meier(times, d) <= 0.5), None)
        guarded = table(times, query.edges).guarded(5)
        assert guarded is not None
        _, low, high = _median(guarded.curve(query.edges))
        if exact is not None:
            assert low <= exact
            assert np.isnan(high) or exact <= high


def test_days_on_the_edges_of_steps(database: str) -> None:
    """Day 0 is a step of its own; a step holds its last day, the horizon included."""
    happened: Times = [(day, True) for day in (0, 1, 30, 31, 60, 61, 75, 76, 400)]
    times: Times = [*happened, (0, False), (30, False), (75, False), (76, False)]
    load(database, "edges", tables(times))
    text = study("horizon_days = 75\ngrid_days = 30")
    found = values(ask(text, sites(database, ["edges"])))
    of = {key[4:]: text for key, text in found.items() if key[3] == "death"}
    expected = {0: (1, 1, 11), 30: (2, 1, 8), 60: (2, 0, 6), 75: (2, 1, 3)}
    days = {int(key[0].removeprefix("day ")) for key in of if key[0]}
    assert days == set(expected)
    for day, numbers in expected.items():
        names = ("events", "censored", "at_risk")
        assert tuple(int(of[f"day {day}", name]) for name in names) == numbers, day


def equations_of(
    query: SurvivalQuery, states: dict[Strata, RiskTable]
) -> tuple[np.ndarray, list[int]]:
    """What an attacker knows of (sex, step, kind): sums that are released, and steps of nobody."""
    steps = len(query.edges)
    rows: list[np.ndarray] = []
    right: list[int] = []
    for strata, state in states.items():
        sexes = [s for s in (0, 1) if not strata or strata[0][1] == "FM"[s]]
        empty = np.zeros((2, steps, 2), dtype=bool)
        empty[sexes] = True
        for low, high, *exits in state.intervals:
            for kind in (0, 1):
                if exits[kind]:
                    row = np.zeros((2, steps, 2))
                    row[sexes, low:high, kind] = 1
                    empty[sexes, low:high, kind] = False
                    rows.append(row.ravel())
                    right.append(exits[kind])
        rows.append(empty.ravel().astype(float))
        right.append(0)
    return np.array(rows), right


def pinned(query: SurvivalQuery, times: list[Times], *, beside: bool) -> int:
    """Steps of one sex with 1 to 4 exits that linear programming tells to be of 1 to 4."""
    both = list(itertools.chain(*times))
    women, men = (("sex", "F"),), (("sex", "M"),)
    exact = {(): both, women: times[0], men: times[1]}
    raw = {strata: table(of, query.edges).intervals for strata, of in exact.items()}
    states = _beside(raw) if beside else {strata: RiskTable(rows) for strata, rows in raw.items()}
    safe = {strata: state.guarded(5) for strata, state in states.items()}
    known, right = equations_of(query, {k: v for k, v in safe.items() if v is not None})
    found = 0
    for s, strata in enumerate((women, men)):
        for low, _, *exits in raw[strata][:12]:
            for kind in (0, 1):
                if 0 < exits[kind] < 5:
                    aim = np.zeros((2, len(query.edges), 2))
                    aim[s, low, kind] = 1
                    least = linprog(aim.ravel(), A_eq=known, b_eq=right).fun
                    most = -linprog(-aim.ravel(), A_eq=known, b_eq=right).fun
                    found += least > 0.5 and most < 4.5
    return found


def test_the_rest_of_a_total_tells_no_finer_steps() -> None:
    """R6 by strata: everybody less the women must not give the men in steps that were joined."""
    rng, query = random.Random(1), SurvivalQuery(horizon_days=900)
    times = [random_times(rng, 700, 2_000) for _ in range(2)]
    assert pinned(query, times, beside=True) == 0
    assert pinned(query, times, beside=False) > 0
