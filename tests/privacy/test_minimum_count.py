"""R1, R6 and R7: what is withheld for small groups, and by which rule it is said to be."""

from __future__ import annotations

import pytest

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.normal_equations import NormalEquations
from federated_analytics.aggregates.risk_table import RiskTable
from federated_analytics.aggregates.table import Key
from federated_analytics.privacy.draft import Draft, Evidence
from federated_analytics.privacy.minimum_count import hold_minimum_count
from federated_analytics.site_rows import REASONS

WITHHELD: dict[str, tuple[Aggregate, str, int]] = {
    "few persons": (RiskTable(((0, 1, 2, 0), (3, 4, 0, 1))), "R1", 5),
    "few persons, the event later": (RiskTable(((0, 1, 0, 3), (3, 4, 1, 0))), "R1", 5),
    "few persons, no event": (RiskTable(((0, 1, 0, 3),)), "R1", 0),  # not 1 to 4 events
    "few events": (RiskTable(((0, 1, 2, 0), (3, 4, 0, 90))), "R6", 5),
    "few censored": (RiskTable(((0, 1, 80, 0), (3, 4, 0, 4))), "R6", 0),
    "saturated": (NormalEquations(19, (0.5, 1.0), (4.75, 2.0, 30.0)), "R7", 0),
    "few ones": (NormalEquations(400, (0.005, 1.0), (1.99, 2.0, 30.0), fewest=2), "R7", 0),
    "few rows": (NormalEquations(4, (0.5, 1.0), (1.0, 2.0, 30.0)), "R1", 5),
}


def held(value: Aggregate) -> Draft:
    key = Key((), "x")
    return hold_minimum_count(Draft.of(Evidence(0, "all", {key: value}, {}, frozenset())), 5)


@pytest.mark.parametrize("name", WITHHELD)
def test_the_rule_that_withheld_is_told(name: str) -> None:
    value, rule, below = WITHHELD[name]
    (why,) = held(value).withheld.values()
    assert (why.rule, why.below) == (rule, below)
    assert rule in REASONS


def test_steps_without_any_event_and_enough_ones_are_told() -> None:
    assert held(RiskTable(((3, 4, 0, 90),))).cells
    assert held(NormalEquations(400, (0.05, 1.0), (19.0, 2.0, 30.0), fewest=20)).cells
