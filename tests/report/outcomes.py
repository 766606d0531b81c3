"""Survival curves and regressions of the simulated persons, in the rows that the analyses write."""

from __future__ import annotations

import math
import random
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.normal_equations import NormalEquations, pair_positions
from federated_analytics.aggregates.risk_table import RiskTable
from federated_analytics.aggregates.table import Key
from federated_analytics.analyses.base import Context, Estimate, Merged, analyses
from federated_analytics.analyses.linear_regression import LinearRegressionQuery
from federated_analytics.analyses.survival import SurvivalQuery
from federated_analytics.omop.features import catalogue
from federated_analytics.report.figures import Figure
from federated_analytics.report.result import Row, pair
from federated_analytics.report.tables import Table
from tests.report.persons import Person

SVG = "{http://www.w3.org/2000/svg}"
EVERYONE = "Everyone"
Strata = tuple[tuple[str, str], ...]
SURVIVAL = SurvivalQuery(features=("death",), by=("sex",), horizon_days=1_825, grid_days=73)
REGRESSION = LinearRegressionQuery(
    outcome="systolic_bp",
    features=("age", "sex", "smoking", "bmi", "hypertension"),
    levels={"smoking": ("Never", "Former", "Current")},
    by=("sex",),
)
FEATURES = dict(catalogue()) | {
    "smoking": catalogue()["race"].model_copy(update={"name": "smoking"}),
}


def texts(figure: Figure) -> list[str]:
    """All texts that a figure shows."""
    return ["".join(e.itertext()) for e in ET.fromstring(figure.svg).iter(f"{SVG}text")]


def cells_of(table: Table, label: str) -> tuple[str, ...]:
    """The texts in a table's row."""
    return next(line.cells for line in table.lines if line.label == label and line.cells)


def exits(persons: Iterable[Person]) -> list[tuple[int, bool]]:
    """Day of leaving follow-up and whether with the event; older persons die earlier."""
    found = []
    for person in persons:
        draw = random.Random(repr(list(person.values())))
        death = draw.expovariate(math.exp(0.07 * (float(person["age"] or 0) - 70)) / 3_000)
        end = draw.uniform(100, 3_000)
        found.append((int(min(death, end)), death <= end))
    return found


def risk_table(persons: Iterable[Person]) -> RiskTable:
    """Exits in the steps of `SURVIVAL`'s grid."""
    edges = SURVIVAL.edges
    intervals = []
    for day, died in exits(persons):
        step = next((i for i, edge in enumerate(edges[1:]) if day <= edge), len(edges) - 1)
        happened = died and day <= SURVIVAL.horizon_days
        intervals.append((step, step + 1, int(happened), int(not happened)))
    return RiskTable.of(intervals)


def columns(person: Person) -> list[float] | None:
    """Age, male, former and current smoker, body mass index, hypertension, and the outcome."""
    age, bmi, pressure = (person[name] for name in ("age", "bmi", "systolic_bp"))
    if age is None or bmi is None or pressure is None or person["sex"] == "Unknown":
        return None
    texts = (("sex", "Male"), ("smoking", "Former"), ("smoking", "Current"))
    flags = [float(person[name] == level) for name, level in texts]
    return [float(age), *flags, float(bmi), float(person["hypertension"] == "Yes"), float(pressure)]


def equations(persons: Iterable[Person]) -> NormalEquations:
    """The normal equations of the persons with every value."""
    rows = np.array([row for person in persons if (row := columns(person)) is not None])
    if not len(rows):
        return NormalEquations.zero()
    centred = rows - rows.mean(0)
    products = centred.T @ centred
    places = pair_positions(rows.shape[1])
    return NormalEquations(
        len(rows), tuple(rows.mean(0)), tuple(float(products[i, j]) for i, j in places)
    )


class Place(Protocol):
    """Where rows stand: result_id, cdm_name, group_name, group_level."""

    place: tuple[int, str, str, str]


def by_sex(persons: Sequence[Person]) -> Iterator[tuple[Strata, list[Person]]]:
    """All, and those of each sex."""
    yield (), list(persons)
    for sex in sorted({str(person["sex"]) for person in persons}):
        yield (("sex", sex),), [person for person in persons if person["sex"] == sex]


def sites_of(place: Place) -> int:
    return 3 if place.place[1] == "pooled" else 1


def survival(place: Place, persons: list[Person]) -> list[Row]:
    """Rows of the survival analysis; steps are joined until each holds five."""
    cells: dict[Key, Merged] = {}
    for strata, group in by_sex(persons):
        table = risk_table(group).guarded(5)
        key = Key(strata, "death", "", "risk_table")
        cells[key] = Merged(table, sites_of(place), 0 if table else 5)
    return rows_of(place.place, SURVIVAL, cells)


def regression(place: Place, persons: list[Person]) -> list[Row]:
    """Rows of the regression; groups below 70 persons are withheld."""
    cells: dict[Key, Merged] = {}
    for strata, group in by_sex(persons):
        state = equations(group)
        values: dict[str, Aggregate | None] = {
            "equations": state if state.n >= 70 else None,
            "missing": Count(len(group) - state.n) if state.n >= 70 else None,
        }
        for name, value in values.items():
            cells[Key(strata, "systolic_bp", "", name)] = Merged(
                value, sites_of(place), 0 if value else 5
            )
    return rows_of(place.place, REGRESSION, cells)


def rows_of(place: tuple[int, str, str, str], query: Any, cells: Mapping[Key, Merged]) -> list[Row]:
    """The rows that an analysis writes of its cells."""
    context = Context(FEATURES, {}, pooled=place[1] == "pooled")
    return [_row(place, e) for e in analyses()[query.kind].finalize(query, cells, context)]


def _row(place: tuple[int, str, str, str], estimate: Estimate) -> Row:
    strata = pair([n for n, _ in estimate.strata], [x for _, x in estimate.strata])
    more = pair([n for n, _ in estimate.additional], [x for _, x in estimate.additional])
    value = (estimate.name, estimate.type, estimate.value)
    return Row(*place, *strata, estimate.variable, estimate.level, *value, *more)
