"""Input that is hostile by its size, its depth or its age: refused at once, or answered."""

from __future__ import annotations

import json
import time

import pandas as pd
import pytest

from federated_analytics import wire
from federated_analytics.errors import FederatedAnalyticsError, StudyError
from federated_analytics.messages import Request
from federated_analytics.omop.database import database_url
from federated_analytics.omop.tables import Cdm
from federated_analytics.site import Site
from federated_analytics.study import Study
from tests import pooled
from tests.sites import OPEN, ask, load, sites, values

MEGABYTE = "x" * 2**20
HEAD = '[study]\nname = "x"\n'
COUNTS = '[[analysis]]\nkind = "counts"\n'


@pytest.fixture(scope="module")
def url(database: str) -> str:
    load(database, "vocabulary", pooled.concept_tables())
    tables = pooled.random_tables(5, 60)
    load(database, "usual", tables)
    old = {name: rows.copy() for name, rows in tables.items()}
    old["person"]["year_of_birth"] = 1811
    for name, column in (
        ("observation_period", "observation_period_start_date"),
        ("measurement", "measurement_date"),
    ):
        old[name][column] = pd.Timestamp("1823-05-06")
    old["observation_period"]["observation_period_end_date"] = pd.Timestamp("1861-01-01")
    load(database, "old", old)
    unmeasured = {**tables, "measurement": tables["measurement"].assign(value_as_number=None)}
    load(database, "unmeasured", unmeasured)
    return database


@pytest.mark.parametrize(
    "text",
    [
        HEAD + f'[[analysis]]\nkind = "{MEGABYTE}"\n',
        HEAD + f'[[analysis]]\nkind = "summary"\nfeatures = ["{MEGABYTE}"]\n',
        HEAD + f'[[analysis]]\nkind = "counts"\nby = ["{MEGABYTE}"]\n',
        HEAD + f'[population]\nkind = "{MEGABYTE}"\n' + COUNTS,
        HEAD + f"[{MEGABYTE}]\nx = 1\n" + COUNTS,
        f'[study]\nname = "{MEGABYTE}"\n' + COUNTS,
        HEAD + COUNTS + "x = " + "[" * 100_000 + "]" * 100_000 + "\n",
        HEAD + '[population]\nkind = "condition"\nconcepts = [1e999]\n' + COUNTS,
        HEAD + '[population]\nkind = "condition"\nconcepts = [1' + "0" * 100 + "]\n" + COUNTS,
        HEAD + '[population]\nkind = "condition"\nconcepts = []\n' + COUNTS,
        HEAD + '[[analysis]]\nkind = "histogram"\nfeatures = ["bmi"]\nedges = [1.0, nan, 2.0]\n',
        HEAD + COUNTS + MEGABYTE * 3,
    ],
    ids=lambda text: text[:60],
)
def test_a_hostile_study_is_refused_shortly(text: str) -> None:
    started = time.monotonic()
    with pytest.raises(StudyError) as refused:
        Study.parse(text)
    assert time.monotonic() - started < 5
    assert refused.value.code.isidentifier()
    assert len(str(refused.value)) < 2_000


def test_deep_json_is_refused() -> None:
    for text in ("[" * 10**6, '{"study":' * 10**5, '"' + MEGABYTE + '"'):
        with pytest.raises(FederatedAnalyticsError):
            Study.from_json(text)


def test_a_site_answers_a_hostile_request_with_a_short_refusal(url: str) -> None:
    site = Site(database_url(url), OPEN, Cdm("usual", "vocabulary"), name="usual")
    study = Study.parse(HEAD + COUNTS).to_json()
    deep = study.replace('"x"', "[" * 5_000 + "]" * 5_000, 1)
    long = study.replace('"x"', json.dumps(MEGABYTE), 1)
    for hostile in (deep, long, " ", "null", "[]"):
        body = site.answer(wire.encode_request(Request(hostile, 1, "run", 20.0)))
        refusal = wire.decode_release(body).refusal
        assert refusal is not None
        assert refusal.code == "invalid_study"
        assert len(body) < 2_000


def with_concepts(concepts: list[int]) -> str:
    return HEAD + f'[population]\nkind = "condition"\nconcepts = {concepts}\n' + COUNTS


def test_the_largest_concept_set_is_answered_and_a_larger_one_refused(url: str) -> None:
    others = range(10**7, 10**7 + 99_999)
    with pytest.raises(StudyError, match="at most 5000 items"):
        Study.parse(with_concepts([201826, *others]))
    where = sites(url, ["usual"], OPEN, "vocabulary")
    started = time.monotonic()
    many = values(ask(with_concepts([201826, *others[:4_999]]), where))
    assert time.monotonic() - started < 30
    key = ("counts", "population", "", "persons", "", "count")
    assert many[key] == values(ask(with_concepts([201826]), where))[key]
    assert int(many[key]) > 0


def test_dates_before_1900(url: str) -> None:
    study = HEAD + '[[analysis]]\nkind = "summary"\nfeatures = ["age", "bmi"]\n'
    old = values(ask(study, sites(url, ["old"], OPEN, "vocabulary")))
    observed = pooled.random_tables(5, 60)["observation_period"]["person_id"].nunique()
    assert old["summary", "everyone", "", "age", "", "count"] == str(observed)
    mean = float(old["summary", "everyone", "", "age", "", "mean"])
    assert 48.5 < mean < 50.5  # born in 1811, last seen on the first day of 1861
    assert int(old["summary", "everyone", "", "bmi", "", "count"]) > 0


def test_all_values_missing(url: str) -> None:
    study = HEAD + (
        '[[analysis]]\nkind = "summary"\nfeatures = ["bmi"]\n'
        '[[analysis]]\nkind = "quantiles"\nfeatures = ["bmi"]\n'
        '[[analysis]]\nkind = "histogram"\nfeatures = ["bmi"]\n'
    )
    found = values(ask(study, sites(url, ["unmeasured"], OPEN, "vocabulary")))
    persons = len(pooled.random_tables(5, 60)["person"])
    assert found["summary", "everyone", "", "bmi", "", "count"] == "0"
    assert found["summary", "everyone", "", "bmi", "", "count_missing"] == str(persons)
    assert found["summary", "everyone", "", "bmi", "", "mean"] == "NA"
    assert {v for k, v in found.items() if k[0] == "quantiles" and k[-1] == "median"} <= {"NA"}
    assert all(v in ("0", "NA") for k, v in found.items() if k[0] == "histogram")
