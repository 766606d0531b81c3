"""Linear regression: certified and pooled answers at 1, 2, 3 and 7 sites, and R7."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from scipy.stats import t as student

from federated_analytics.aggregates.normal_equations import NormalEquations, least_squares
from federated_analytics.aggregates.table import Key
from federated_analytics.analyses.linear_regression import LinearRegression, LinearRegressionQuery
from federated_analytics.errors import ShapeError, StudyError
from federated_analytics.omop.features import catalogue
from federated_analytics.omop.frame import Frame, FrameColumn
from federated_analytics.omop.tables import Cdm
from federated_analytics.privacy.policy import Policy
from federated_analytics.study import Study
from tests.sites import ask, load, sites, values

SITES = (1, 2, 3, 7)

# NIST StRD, linear regression, https://www.itl.nist.gov/div898/strd/: Longley (1967), JASA 62:819.
LONGLEY = """
60323 83.0 234289 2356 1590 107608 1947
61122 88.5 259426 2325 1456 108632 1948
60171 88.2 258054 3682 1616 109773 1949
61187 89.5 284599 3351 1650 110929 1950
63221 96.2 328975 2099 3099 112075 1951
63639 98.1 346999 1932 3594 113270 1952
64989 99.0 365385 1870 3547 115094 1953
63761 100.0 363112 3578 3350 116219 1954
66019 101.2 397469 2904 3048 117388 1955
67857 104.6 419180 2822 2857 118734 1956
68169 108.4 442769 2936 2798 120445 1957
66513 110.8 444546 4681 2637 121950 1958
68655 112.6 482704 3813 2552 123366 1959
69564 114.2 502601 3931 2514 125368 1960
69331 115.7 518173 4806 2572 127852 1961
70551 116.9 554894 4007 2827 130081 1962
"""
LONGLEY_COLUMNS = ["employed", "deflator", "gnp", "unemployed", "army", "population", "year"]
CERTIFIED = {
    "(intercept)": (-3482258.63459582, 890420.383607373),
    "deflator": (15.0618722713733, 84.9149257747669),
    "gnp": (-0.358191792925910e-01, 0.334910077722432e-01),
    "unemployed": (-2.02022980381683, 0.488399681651699),
    "army": (-1.03322686717359, 0.214274163161675),
    "population": (-0.511041056535807e-01, 0.226073200069370),
    "year": (1829.15146461355, 455.478499142212),
}
CERTIFIED_SD, CERTIFIED_R2 = 304.854073561965, 0.995479004577296


def unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longley has 16 persons and 7 parameters, which R7 withholds at any site."""
    monkeypatch.setattr(NormalEquations, "guarded", lambda self, min_count: self)


def asked(table: str, outcome: str, features: list[str], extra: str = "") -> str:
    return (
        f'[study]\nname = "fit"\n[population]\nkind = "table"\ntable = "{table}"\n'
        f'[[analysis]]\nkind = "linear_regression"\noutcome = "{outcome}"\n'
        f"features = {features}\n{extra}\n"
    )


def split(url: str, name: str, rows: pd.DataFrame, count: int) -> list[str]:
    """Schemas of `count` sites, each with a part of the rows as a table `people`."""
    schemas = [f"{name}_{count}_{i}" for i in range(count)]
    rows = rows.assign(person_id=range(len(rows)))
    for i, schema in enumerate(schemas):
        load(url, schema, {"people": rows[rows.person_id % count == i]})
    return schemas


@pytest.mark.parametrize("count", SITES)
def test_certified_values(database: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longley's data, which are nearly collinear, to 8 digits."""
    unguarded(monkeypatch)
    rows = pd.DataFrame(np.array(LONGLEY.split(), float).reshape(16, 7), columns=LONGLEY_COLUMNS)
    schemas = split(database, "longley", rows, count)
    study = asked("people", "employed", LONGLEY_COLUMNS[1:])
    found = by_place(values(ask(study, sites(database, schemas))))
    for name, (coefficient, se) in CERTIFIED.items():
        assert float(found[name, "", "coefficient"]) == pytest.approx(coefficient, rel=1e-8)
        assert float(found[name, "", "se"]) == pytest.approx(se, rel=1e-8)
    assert float(found["employed", "", "residual_sd"]) == pytest.approx(CERTIFIED_SD, rel=1e-8)
    assert float(found["employed", "", "r_squared"]) == pytest.approx(CERTIFIED_R2, rel=1e-10)


def by_place(found: Mapping[tuple[str, ...], str]) -> dict[tuple[str, str, str], str]:
    return {(k[3], k[4], k[5]): text for k, text in found.items() if k[0] == "linear_regression"}


def random_rows(seed: int, persons: int) -> pd.DataFrame:
    """Numbers far from 0, a yes/no column, categories, and missing values in each."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(
        {
            "age": rng.integers(18, 95, persons).astype(float),
            "platelets": rng.normal(1e7, 3.0, persons),
            "smoker": rng.random(persons) < 0.3,
            "region": rng.choice(["North", "South", "West", "Elsewhere"], persons),
        }
    )
    noise = rng.normal(0, 5, persons)
    rows["pressure"] = 90 + 0.4 * rows.age - 2 * (rows.platelets - 1e7) + 6 * rows.smoker + noise
    rows["smoker"] = rows.smoker.astype(object)
    for name in rows.columns:
        rows.loc[rng.random(persons) < 0.04, name] = None
    return rows


def textbook(rows: pd.DataFrame) -> tuple[pd.DataFrame, float, int]:
    """Coefficients with se, interval and p, r squared and persons, by numpy on all rows."""
    whole = rows.dropna()
    whole = whole[whole.region != "Elsewhere"]
    x = np.column_stack(
        [
            np.ones(len(whole)),
            whole.age,
            whole.platelets - 1e7,
            whole.smoker.astype(float),
            whole.region == "North",
            whole.region == "West",
        ]
    ).astype(float)
    y = whole.pressure.to_numpy(float)
    beta, *_ = np.linalg.lstsq(x, y, rcond=None)
    residual = y - x @ beta
    degrees = len(y) - x.shape[1]
    covariance = residual @ residual / degrees * np.linalg.inv(x.T @ x)
    se = np.sqrt(np.diag(covariance))
    half = student.ppf(0.975, degrees) * se
    p = 2 * student.sf(np.abs(beta / se), degrees)
    table = pd.DataFrame(
        {"coefficient": beta, "se": se, "conf_low": beta - half, "conf_high": beta + half}
    ).assign(p_value=p)
    table.index = pd.Index(["", "age", "platelets", "smoker", "North", "West"])
    return table, 1 - residual @ residual / ((y - y.mean()) ** 2).sum(), len(y)


@pytest.mark.parametrize("count", SITES)
def test_federated_equals_pooled(database: str, count: int) -> None:
    rows = random_rows(5, 900)
    # The types of columns with gaps: booleans as such, texts as texts.
    expected, r_squared, n = textbook(rows)
    schemas = split(database, "pressure", rows, count)
    for schema in schemas:
        as_boolean(database, schema)
    features = ["age", "platelets", "smoker", "region"]
    levels = 'levels = { region = ["South", "North", "West"] }'
    study = asked("people", "pressure", features, levels)
    found = by_place(values(ask(study, sites(database, schemas))))
    places = {
        "age": ("age", ""),
        "platelets": ("platelets", ""),
        "smoker": ("smoker", "Yes"),
        "North": ("region", "North"),
        "West": ("region", "West"),
    }
    for name, (variable, level) in places.items():
        for estimate, value in expected.loc[name].items():
            text = found[variable, level, str(estimate)]
            assert float(text) == pytest.approx(value, rel=1e-7, abs=1e-12), (name, estimate)
    assert found["pressure", "", "count"] == str(n)
    assert found["pressure", "", "count_missing"] == str(900 - n)
    assert float(found["pressure", "", "r_squared"]) == pytest.approx(r_squared, rel=1e-10)


def as_boolean(url: str, schema: str) -> None:
    import psycopg
    from psycopg import sql

    change = "ALTER TABLE {} ALTER COLUMN smoker TYPE boolean USING smoker::boolean"
    with psycopg.connect(url) as connection:
        connection.execute(sql.SQL(change).format(sql.Identifier(schema, "people")))


STRICT = Policy(min_count=5, min_sites=1, per_site=True, complementary=False)


def fit(database: str, name: str, rows: pd.DataFrame, extra: str = "") -> dict[object, str]:
    """What a strict site answers for y on every other column."""
    (schema,) = split(database, name, rows, 1)
    features = [column for column in rows.columns if column != "y"]
    study = asked("people", "y", features, extra)
    return dict(by_place(values(ask(study, sites(database, [schema], STRICT)))))


def noisy(persons: int) -> pd.DataFrame:
    rng = np.random.default_rng(persons)
    return pd.DataFrame({"x": rng.normal(10, 2, persons), "y": rng.normal(100, 9, persons)})


def withheld(found: Mapping[object, str]) -> bool:
    return found["(intercept)", "", "coefficient"] == "-" and found["y", "", "r_squared"] == "-"


def test_a_saturated_model_is_withheld(database: str) -> None:
    """R7: two parameters need 20 persons."""
    assert not withheld(fit(database, "persons_20", noisy(20)))
    assert withheld(fit(database, "persons_19", noisy(19)))


@pytest.mark.parametrize(
    ("name", "ones", "lets"),
    [
        ("one", 1, False),
        ("four", 4, False),
        ("five", 5, True),
        ("nobody", 0, True),
        ("all_but_four", 96, False),
        ("all_but_five", 95, True),
    ],
)
def test_an_indicator_of_few_is_withheld(database: str, name: str, ones: int, lets: bool) -> None:
    """R7: also as numbers, which is how a flat table may hold a yes and no, with other values."""
    who = np.arange(100) < ones
    for kind, column in (("number", who * 3.0 + 1.0), ("text", np.where(who, "a", "b"))):
        levels = 'levels = { group = ["b", "a"] }' if kind == "text" else ""
        found = fit(database, f"{kind}_{name}", noisy(100).assign(group=column), levels)
        assert withheld(found) is not lets, kind
        if not ones:
            level = "a" if kind == "text" else ""
            assert found["group", level, "coefficient"] == "NA"


def test_a_product_of_two_indicators_on_few_is_withheld(database: str) -> None:
    i = np.arange(100)
    for both, lets in ((3, False), (8, True)):
        rows = noisy(100).assign(a=np.where(i < 30, "1", "0"), b=np.where(i >= 30 - both, "1", "0"))
        rows.loc[90:, "b"] = "0"
        levels = 'levels = { a = ["0", "1"], b = ["0", "1"] }'
        assert withheld(fit(database, f"product_{both}", rows, levels)) is not lets


def test_a_reference_level_of_few_is_withheld(database: str) -> None:
    group = np.repeat(["b", "c", "d"], 33)
    for few, lets in ((3, False), (6, True)):
        rows = noisy(99 + few).assign(group=[*group, *["a"] * few])
        levels = 'levels = { group = ["a", "b", "c", "d"] }'
        assert withheld(fit(database, f"reference_{few}", rows, levels)) is not lets


def test_columns_that_follow_from_others_have_no_coefficient() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(50, 2))
    found = least_squares(state_of(np.column_stack([x, x @ [2, -1], np.full(50, 3.5), x[:, 0]])))
    assert [math.isnan(c) for c in found.coefficients] == [False, False, False, True, True]
    assert found.coefficients[:2] == pytest.approx((0, 1), abs=1e-12)
    assert found.degrees == 47


def state_of(columns: np.ndarray) -> NormalEquations:
    """The normal equations of columns, the last as the outcome."""
    means = columns.mean(axis=0)
    products = (columns - means).T @ (columns - means)
    upper = products[np.triu_indices(len(means))]
    return NormalEquations(len(columns), tuple(means.tolist()), tuple(upper.tolist()))


def test_rounded_counts_of_indicators_are_multiples() -> None:
    rng = np.random.default_rng(2)
    binary = (rng.random((83, 2)) < 0.4).astype(float)
    exact = state_of(np.column_stack([binary, rng.normal(5, 1, (83, 2))]))
    exact = NormalEquations(exact.n, exact.means, exact.products, indicators=(0, 1))
    rounded = exact.rounded(5)
    assert rounded.n == 85
    for i, j in ((0, 0), (0, 1), (1, 1)):
        together = rounded.product(i, j) + rounded.n * rounded.means[i] * rounded.means[j]
        assert together == pytest.approx(5 * round(together / 5), abs=1e-9)
        assert abs(together - exact.count(i, j)) <= 2.5
    assert rounded.product(2, 3) / 84 == pytest.approx(exact.product(2, 3) / 82)


def test_different_columns_do_not_merge() -> None:
    with pytest.raises(ShapeError):
        state_of(np.ones((3, 2))).merge(state_of(np.ones((3, 3))))
    with pytest.raises(ShapeError):
        NormalEquations(3, (1.0, 2.0), (1.0,))


CDM = '[study]\nname = "fit"\n[[analysis]]\nkind = "linear_regression"\n'


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ('outcome = "sex"\nfeatures = ["age"]', "outcome"),
        ('outcome = "age"\nfeatures = ["age"]', "covariate"),
        ('outcome = "age"\nfeatures = ["bmi", "bmi"]', "twice"),
        ('outcome = "age"\nfeatures = ["race"]', "levels"),
        ('outcome = "age"\nfeatures = ["bmi"]\nlevels = { sex = ["Male", "Female"] }', "levels"),
        ('outcome = "age"\nfeatures = ["sex"]\nlevels = { sex = ["Male"] }', "levels"),
        ('features = ["age"]', "outcome"),
        ('outcome = ["age"]\nfeatures = ["bmi"]', "outcome"),
    ],
)
def test_what_cannot_be_asked(extra: str, said: str) -> None:
    with pytest.raises(StudyError) as error:
        Study.parse(CDM + extra)
    assert said in f"{error.value.message} {error.value.remedy} {error.value.where}"


def test_a_study_reads_back_as_itself() -> None:
    study = Study.parse(CDM + 'outcome = "age"\nfeatures = ["bmi", "sex"]')
    assert Study.from_json(study.to_json()).to_json() == study.to_json()


def test_a_column_that_one_person_dominates_is_withheld(database: str) -> None:
    """R3: one bill that makes up nearly all of a sum."""
    rows = noisy(100).assign(bill=1.0)
    rows.loc[::2, "bill"] = 2.0
    rows.loc[7, "bill"] = 5.0
    assert not withheld(fit(database, "bills", rows))
    rows.loc[7, "bill"] = 1e6
    assert withheld(fit(database, "one_bill", rows))


def test_numbers_that_are_not_finite_are_missing(database: str) -> None:
    rows = noisy(100)
    rows.loc[3, "x"], rows.loc[4, "y"], rows.loc[5, "x"] = math.inf, -math.inf, math.nan
    found = fit(database, "infinite", rows)
    assert (found["y", "", "count"], found["y", "", "count_missing"]) == ("97", "<5")
    assert math.isfinite(float(found["x", "", "coefficient"]))


def test_counted_sets_are_those_of_the_indicators() -> None:
    query = LinearRegressionQuery(
        outcome="age", features=("sex", "hypertension", "bmi"), levels={"sex": ("Male", "Female")}
    )
    names = ("sex", "hypertension", "bmi", "age")
    empty = sa.literal_column("0")
    columns = {name: FrameColumn(catalogue()[name], empty, None, empty) for name in names}
    frame = Frame(sa.table("frame"), columns, {}, Cdm())
    rng = np.random.default_rng(4)
    rows = np.column_stack([rng.random((90, 2)) < 0.4, rng.normal(size=(90, 2))]).astype(float)
    found = LinearRegression().counted_sets(query, frame, Key((), "age"), state_of(rows))
    counts = {frozenset(dict(of).items()): persons for persons, of in found}
    everybody = ("age+bmi+hypertension+sex:complete", "Yes")
    woman, ill = ("sex", "Female"), ("hypertension", "Yes")
    assert counts == {
        frozenset({everybody}): 90,
        frozenset({everybody, woman}): int(rows[:, 0].sum()),
        frozenset({everybody, ill}): int(rows[:, 1].sum()),
        frozenset({everybody, woman, ill}): int((rows[:, 0] * rows[:, 1]).sum()),
    }
