"""Databases that cannot answer: a stable code, a remedy, and nothing of what they said."""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Iterator

import pandas as pd
import psycopg
import pytest

from federated_analytics import wire
from federated_analytics.messages import Disclosure, Request
from federated_analytics.omop.database import database_url
from federated_analytics.omop.tables import Cdm
from federated_analytics.site import Site, answer
from federated_analytics.study import Study
from tests import pooled
from tests.sites import OPEN, ask, load, sites, values

STUDY = '[study]\nname = "x"\n[[analysis]]\nkind = "summary"\nfeatures = ["age", "bmi"]\n'
FLAT = '[study]\nname = "x"\n[population]\nkind = "table"\ntable = "t"\n'


@pytest.fixture(scope="module")
def url(database: str) -> str:
    load(database, "vocabulary", pooled.concept_tables())
    tables = pooled.random_tables(3, 120)
    load(database, "good", tables)
    load(database, "lacking", {k: v for k, v in tables.items() if k != "measurement"})
    source = pd.DataFrame({"cdm_source_name": ["x"], "cdm_version": ["v6.0"]})
    source["cdm_source_abbreviation"] = "x"
    load(database, "sixth", {**tables, "cdm_source": source})
    load(database, "fifth", {**tables, "cdm_source": source.assign(cdm_version="v5.3.1")})
    load(database, "empty", {k: v[:0] for k, v in tables.items()})
    flat = pd.DataFrame(
        {
            "person_id": [1, 2, 3, 4],
            "x": [1.0, float("nan"), float("inf"), 3.0],
            "word": list("abcd"),
        }
    )
    load(database, "flat", {"t": flat})
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE flat.t SET x = 'NaN' WHERE person_id = 2")
    load(database, "twice", {"t": pd.DataFrame({"person_id": [1, 1, 2], "x": [1.0, 2.0, 3.0]})})
    return database


@pytest.fixture
def role(url: str) -> Iterator[str]:
    """URL of a role that may read all but `good.measurement`, and create no temporary table."""
    name = f"role_{secrets.token_hex(4)}"
    with psycopg.connect(url, autocommit=True) as connection:
        database = connection.info.dbname
        connection.execute(f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'top-secret'")
        connection.execute(f"GRANT USAGE ON SCHEMA good, vocabulary TO {name}")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA good, vocabulary TO {name}")
        yield (
            database_url(url)
            .set(drivername="postgresql", username=name, password="top-secret")
            .render_as_string(hide_password=False)
        )
        connection.execute(f"DROP OWNED BY {name}")
        connection.execute(f"DROP ROLE {name}")


def told(url: str, schema: str, study: str = STUDY) -> tuple[Disclosure, str]:
    site = Site(database_url(url), OPEN, Cdm(schema, "vocabulary"), name=schema)
    body = site.answer(wire.encode_request(Request(Study.parse(study).to_json(), 1, "run", 20.0)))
    return wire.decode_release(body), zlib.decompress(body).decode()


def refused_with(disclosure: Disclosure) -> str:
    refusals = [disclosure.refusal, *(a.refusal for a in disclosure.answers)]
    found = [r for r in refusals if r is not None]
    assert found
    assert all(r.code and r.message and r.remedy for r in found)
    return found[0].code


@pytest.mark.parametrize(
    ("schema", "study", "code"),
    [
        ("lacking", STUDY, "missing_table"),
        ("nowhere", STUDY, "missing_table"),
        ("sixth", STUDY, "unsupported_cdm"),
        ("flat", FLAT + '[[analysis]]\nkind = "summary"\nfeatures = ["word"]\n', "not_numeric"),
        ("flat", FLAT + '[[analysis]]\nkind = "summary"\nfeatures = ["wrod"]\n', "missing_column"),
        ("good", FLAT + '[[analysis]]\nkind = "summary"\nfeatures = ["x"]\n', "missing_table"),
        (
            "twice",
            FLAT + '[[analysis]]\nkind = "summary"\nfeatures = ["x"]\n',
            "several_rows_a_person",
        ),
        (
            "good",
            '[study]\nname = "x"\n[population]\nkind = "cohort"\ncohort_definition_id = 9\n'
            '[[analysis]]\nkind = "counts"\n',
            "missing_table",
        ),
    ],
)
def test_what_is_missing_is_named(url: str, schema: str, study: str, code: str) -> None:
    disclosure, text = told(url, schema, study)
    assert refused_with(disclosure) == code
    for word in ("SELECT", "psycopg", "127.0.0.1", "relation", "omop:"):
        assert word not in text


def test_wrong_password_and_closed_port(url: str) -> None:
    wrong = database_url(url).set(password="guess")
    disclosure, text = told(wrong.render_as_string(hide_password=False), "good")
    assert refused_with(disclosure) == "database_refused"
    assert "guess" not in text
    closed = database_url(url).set(port=1)
    disclosure, _ = told(closed.render_as_string(hide_password=False), "good")
    assert refused_with(disclosure) == "database_unreachable"


def test_a_missing_grant(url: str, role: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        name = database_url(role).username
        connection.execute(f"REVOKE SELECT ON good.measurement FROM {name}")
    disclosure, text = told(role, "good")
    assert refused_with(disclosure) == "missing_grant"
    assert "top-secret" not in text


def test_a_role_without_temporary_tables_gives_the_same_answers(url: str, role: str) -> None:
    study = (
        f'[study]\nname = "x"\n[population]\nkind = "condition"\nconcepts = [{pooled.DIABETES}]\n'
        '[[analysis]]\nkind = "summary"\nfeatures = ["age", "bmi", "hba1c"]\nby = ["sex"]\n'
        '[[analysis]]\nkind = "counts"\n'
    )
    usual, limited = (
        values(ask(study, sites(u, ["good"], OPEN, "vocabulary"))) for u in (url, role)
    )
    assert usual == limited
    assert len(usual) > 30


def test_version_5_3_is_read(url: str) -> None:
    disclosure, _ = told(url, "fifth")
    assert disclosure.refusal is None


def test_nobody(url: str) -> None:
    """A concept that nobody has, and an empty site: zeros, not an error."""
    study = (
        '[study]\nname = "x"\n[population]\nkind = "drug"\nconcepts = [1503297]\n'
        '[[analysis]]\nkind = "counts"\n'
    )
    found = values(ask(STUDY, sites(url, ["empty"], OPEN, "vocabulary")))
    assert found["summary", "everyone", "", "bmi", "", "count"] == "0"
    assert found["summary", "everyone", "", "bmi", "", "mean"] == "NA"
    disclosure, _ = told(url, "good", study)
    assert refused_with(disclosure) == "missing_table"  # this site keeps no drug_exposure
    study = study.replace("drug", "condition").replace("1503297", "4274025")
    found = values(ask(study, sites(url, ["good"], OPEN, "vocabulary")))
    assert found["counts", "population", "", "persons", "", "count"] == "0"


def test_nan_and_infinity_are_missing(url: str) -> None:
    study = FLAT + '[[analysis]]\nkind = "summary"\nfeatures = ["x"]\n'
    found = values(ask(study, sites(url, ["flat"])))
    assert found["summary", "table", "", "x", "", "count"] == "2"
    assert found["summary", "table", "", "x", "", "count_missing"] == "2"
    assert float(found["summary", "table", "", "x", "", "mean"]) == 2.0


@pytest.mark.parametrize(
    "name",
    ['x"; DROP TABLE flat.sentinel; --', "x') OR 1=1 --", "../../etc/passwd", "x%s", "é" * 60],
)
def test_hostile_names_are_names(url: str, name: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS flat.sentinel (x int)")
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        for study in (
            FLAT + f'[[analysis]]\nkind = "summary"\nfeatures = ["{quoted}"]\n',
            FLAT + f'[[analysis]]\nkind = "counts"\nby = ["{quoted}"]\n',
            FLAT.replace('"t"', f'"{quoted}"') + '[[analysis]]\nkind = "counts"\n',
        ):
            disclosure, _ = told(url, "flat", study)
            assert refused_with(disclosure) in ("missing_column", "missing_table")
        assert connection.execute("SELECT to_regclass('flat.sentinel')").fetchone() != (None,)


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({}, "invalid_config"),
        ({"db-prot": 5433}, "invalid_config"),
        ({"db-port": "five"}, "invalid_config"),
        ({"db-port": 5433, "db-url": "postgresql://h/d"}, "invalid_config"),
        ({"db-url": "mysql://root:secret@h/d"}, "invalid_config"),
        ({"db-url": "not a url secret"}, "invalid_config"),
        ({"db-url-env": "NO_SUCH_VARIABLE"}, "invalid_config"),
        ({"db-url-file": "/nonexistent"}, "invalid_config"),
        ({"db-port": 5433, "policy": "/nonexistent"}, "invalid_policy"),
    ],
)
def test_node_configs_that_cannot_be_used(config: dict[str, object], code: str) -> None:
    body = answer(config, b"")
    assert refused_with(wire.decode_release(body)) == code
    assert b"secret" not in zlib.decompress(body)
