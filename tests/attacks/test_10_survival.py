"""Attack 10: a survival step of one event; dates shifted by a day between two questions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from federated_analytics.aggregates.risk_table import RiskTable
from federated_analytics.omop.database import database_url
from federated_analytics.omop.tables import Cdm
from federated_analytics.privacy.policy import Policy
from federated_analytics.site import Site
from tests import pooled
from tests.attacks.attacker import ask, cells, told
from tests.sites import load

DEATH_DAY = 100
STUDY = f"""
[study]
name = "x"
[population]
kind = "condition"
concepts = [{pooled.DIABETES}]
[[analysis]]
kind = "survival"
grid_days = 1
horizon_days = {{horizon}}
"""


@pytest.fixture(scope="module")
def url(database: str) -> str:
    start = pd.Timestamp("2015-01-01")
    ids = np.arange(1, 201)
    person = pd.DataFrame(
        {
            "person_id": ids,
            "gender_concept_id": 8507,
            "year_of_birth": 1950,
            "month_of_birth": 1,
            "day_of_birth": 1,
            "race_concept_id": 0,
        }
    )
    period = pd.DataFrame(
        {
            "observation_period_id": ids,
            "person_id": ids,
            "observation_period_start_date": start - pd.Timedelta(days=900),
            "observation_period_end_date": start + pd.Timedelta(days=1500),
        }
    )
    condition = pd.DataFrame(
        {
            "condition_occurrence_id": ids,
            "person_id": ids,
            "condition_concept_id": pooled.DIABETES,
            "condition_start_date": start,
        }
    )
    # One dies on day 100; the others after day 1,000.
    dead = [(1, start + pd.Timedelta(days=DEATH_DAY))]
    dead += [(int(i), start + pd.Timedelta(days=1000 + int(i))) for i in range(2, 60)]
    death = pd.DataFrame(dead, columns=["person_id", "death_date"])
    load(database, "vocabulary", pooled.concept_tables())
    load(
        database,
        "cdm",
        {
            "person": person,
            "observation_period": period,
            "condition_occurrence": condition,
            "death": death,
        },
    )
    return database


def day_of_the_first_death(url: str, **policy: Any) -> list[tuple[int, int]]:
    """The intervals before day 400 in which somebody dies, from two horizons a day apart."""
    site = Site(database_url(url), Policy(**policy), Cdm("cdm", "vocabulary"), name="a")
    found = set()
    for horizon in (400, 401):
        disclosure = ask(site, STUDY.format(horizon=horizon))
        assert disclosure.refusal is None, disclosure.refusal
        assert all(a.refusal is None for a in disclosure.answers), disclosure.answers
        for value in cells(disclosure).values():
            if isinstance(value, RiskTable):
                found |= {(low, high) for low, high, events, _ in value.intervals if events == 1}
    return sorted(found)


def test_one_persons_death_has_no_day(url: str) -> None:
    on = day_of_the_first_death(url)
    off = day_of_the_first_death(url, min_count=1, complementary=False)
    told("10 survival step", f"day {DEATH_DAY}", on or None, off)
    assert off
    assert all(low <= DEATH_DAY <= high and high - low <= 1 for low, high in off)
    assert not on
