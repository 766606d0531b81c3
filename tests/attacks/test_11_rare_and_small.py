"""Attacks 11 and 12: a rare concept by its descendants; a small site; a site that answers alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from federated_analytics.couriers import InProcessCourier
from federated_analytics.errors import TooFewSites
from federated_analytics.federation import Terms, run_study
from federated_analytics.omop.database import database_url
from federated_analytics.omop.tables import Cdm
from federated_analytics.privacy.policy import Policy
from federated_analytics.site import Site
from federated_analytics.study import Study
from tests import pooled
from tests.attacks.attacker import HEAD, ask, persons, site, told
from tests.sites import load

COMMON, RARE, SECRET = 320128, 999_001, 3
TOP = '[study]\nname = "x"\n[[analysis]]\nkind = "top_concepts"\ndomain = "condition"\ntop = 200\n'


@pytest.fixture(scope="module")
def url(database: str) -> str:
    tables = pooled.random_tables(3, 100)
    ids = np.arange(1, 101)
    concepts = [COMMON] * 97 + [RARE] * SECRET
    tables["condition_occurrence"] = pd.DataFrame(
        {
            "condition_occurrence_id": ids,
            "person_id": ids,
            "condition_concept_id": concepts,
            "condition_start_date": pd.Timestamp("2015-01-01"),
        }
    )
    load(database, "vocabulary", pooled.concept_tables())
    load(database, "cdm", tables)
    load(database, "flat", {"few": pd.DataFrame({"person_id": range(3), "x": [1.0, 2.0, 3.0]})})
    load(database, "flat2", {"few": pd.DataFrame({"person_id": range(90), "x": [5.0] * 90})})
    return database


def rare(url: str, **policy: Any) -> int | None:
    """Persons with the rare concept: as listed, or everybody less those with the common one."""
    one = Site(database_url(url), Policy(**policy), Cdm("cdm", "vocabulary"), name="a")
    disclosure = ask(one, TOP)
    found = {
        c.key.variable if c.key.name == "concept" else c.key.name: c.value.persons  # type: ignore[attr-defined]
        for c in disclosure.answers[0].cells
    }
    if str(RARE) in found:
        return int(found[str(RARE)])
    if "persons" in found and str(COMMON) in found:
        return int(found["persons"] - found[str(COMMON)])
    return None


def test_a_rare_concept_is_not_counted(url: str) -> None:
    on, off = rare(url), rare(url, min_count=1, complementary=False)
    told("11 rare concept", SECRET, on, off)
    assert off == SECRET
    assert on is None


def test_a_small_site_says_nothing(url: str) -> None:
    study = HEAD.format(table="few") + '[[analysis]]\nkind = "counts"\n'
    on, off = (
        persons(ask(site(url, "flat"), study)),
        persons(ask(site(url, "flat", min_count=1), study)),
    )
    told("12 small site", 3, on.get(()), off[()])
    assert off[()] == 3
    assert not on


def test_a_site_that_answers_alone_is_not_shown(url: str) -> None:
    """The server lets only one site's answer through: its numbers would be that site's own."""
    study = Study.parse(
        HEAD.format(table="few") + '[[analysis]]\nkind = "summary"\nfeatures = ["x"]\n'
    )

    def mean(**policy: Any) -> str | None:
        one = site(url, "flat2", **policy)
        courier = InProcessCourier({"a": one.answer, "b": lambda body: b"dropped"})
        try:
            result = run_study(study, courier, Terms(min_sites=1, deadline_seconds=30))
        except TooFewSites:
            return None
        rows = [r for r in result.rows if (r.cdm_name, r.estimate_name) == ("pooled", "mean")]
        return rows[0].estimate_value

    on, off = mean(), mean(min_sites=1)
    told("12 a site that answers alone", "5.0", on, off)
    assert off == "5.0"
    assert on is None
