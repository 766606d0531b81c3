"""Attacks 13, 14, 18: errors and sizes that depend on a value; injection; what logs say."""

from __future__ import annotations

import dataclasses
import json
import logging
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.sql.compiler import IdentifierPreparer

from federated_analytics import execution, wire
from federated_analytics.aggregates.table import Key
from federated_analytics.analyses.counts import Counts
from federated_analytics.errors import WireError
from federated_analytics.messages import Request, Withheld
from federated_analytics.omop import flat
from federated_analytics.omop.frame import Frame
from federated_analytics.privacy import policy
from federated_analytics.privacy.draft import Withholding
from federated_analytics.study import Study
from tests.attacks.attacker import HEAD, site, told
from tests.sites import load
from tests.test_guarded_site import guarded

FLAT = HEAD.format(table="t")
HOSTILE = [
    "'; DROP TABLE flat.sentinel; --",
    '" UNION SELECT 1 --',
    "../../../etc/passwd",
    "x\x00y",
    "%s %(x)s {x} $1",
    "\u202e\u0000\uffff",
    "x" * 2**20,
    "[" * 5_000,
]


@pytest.fixture(scope="module")
def url(database: str) -> str:
    for schema, value in (("zero", 0.0), ("nine", 9.0)):
        rows = pd.DataFrame({"person_id": range(40), "x": [float(i) for i in range(40)]})
        rows["secret"] = [1.0] * 38 + [value, value]
        rows["text"] = ["a"] * 38 + [f"{value}", f"{value}"]
        load(database, schema, {"t": rows})
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS flat")
        connection.execute("CREATE TABLE IF NOT EXISTS flat.sentinel (x int)")
    return database


def answer(url: str, schema: str, study: str, **policy: Any) -> bytes:
    request = Request(Study.parse(study).to_json(), 1, "run", 60.0)
    body = site(url, schema, **policy).answer(wire.encode_request(request))
    disclosure = wire.decode_release(body)
    timeless = dataclasses.replace(disclosure, seconds=0.0, database="")
    return json.dumps(wire.to_plain(timeless)).encode()


QUESTIONS = [
    '[[analysis]]\nkind = "summary"\nfeatures = ["secret"]\n',
    '[[analysis]]\nkind = "frequencies"\nfeatures = ["text"]\n',
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_two_databases_that_differ_in_two_persons_answer_alike(url: str, question: str) -> None:
    """Nothing of the answer, not even its length or an error, depends on the hidden value."""
    off = {"min_count": 1, "complementary": False, "dominance": 1.0}
    same = answer(url, "zero", FLAT + question) == answer(url, "nine", FLAT + question)
    open_ = answer(url, "zero", FLAT + question, **off) == answer(
        url, "nine", FLAT + question, **off
    )
    words = ["alike" if x else "differs" for x in (same, open_)]
    told("13 error oracle", "differs", *words)
    assert not open_
    assert same


def strings(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where strings stand in nested dicts and lists."""
    if isinstance(value, str):
        return [path]
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [found for key, inner in items for found in strings(inner, (*path, key))]


def replaced(value: Any, path: tuple[Any, ...], text: str) -> Any:
    if not path:
        return text
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], text)
    return copy


STUDY = json.loads(
    Study.parse(
        FLAT
        + '[feature.x]\nrange = [0, 50]\nstep = 1\n[strata.g]\nfeature = "x"\nbreaks = [0, 20]\n'
        + '[[analysis]]\nkind = "summary"\ntitle = "t"\nfeatures = ["x"]\nby = ["g"]\n'
    ).to_json()
)


@pytest.mark.parametrize("path", strings(STUDY), ids=lambda p: ".".join(map(str, p)))
def test_every_string_of_a_request_is_only_text(url: str, path: tuple[Any, ...]) -> None:
    one = site(url, "zero")
    for text in HOSTILE:
        body = one.answer(
            wire.encode_request(Request(json.dumps(replaced(STUDY, path, text)), 1, "run", 30.0))
        )
        disclosure = wire.decode_release(body)
        refusals = [disclosure.refusal, *(a.refusal for a in disclosure.answers)]
        for refusal in filter(None, refusals):
            assert refusal.code != "site_failed", (path, text[:40])
        assert len(body) < 20_000
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT to_regclass('flat.sentinel')").fetchone() != (None,)


INJECTED = 'x" * 0 + (SELECT max(secret) FROM nine.t) + 0 * "x'
"""A column's name that reads another table where names are put into SQL as they are."""


def injected(url: str) -> float | str:
    """The mean of a column of that name, or the code of the refusal."""
    feature = INJECTED.replace('"', '\\"')
    study = Study.parse(FLAT + f'[[analysis]]\nkind = "summary"\nfeatures = ["{feature}"]\n')
    request = Request(study.to_json(), 1, "run", 60.0)
    disclosure = wire.decode_release(site(url, "zero").answer(wire.encode_request(request)))
    (result,) = disclosure.answers
    if result.refusal is not None:
        return result.refusal.code
    return next(c.value.mean for c in result.cells if c.key.name == "moments")


def test_a_name_reads_no_other_table(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two things stand in the way: names are looked up first, and quoted; either is enough."""
    on = injected(url)
    known = flat.column_types

    def any_column(*place: Any) -> dict[str, str]:
        return {**known(*place), INJECTED: "double precision"}

    with monkeypatch.context() as patched:
        patched.setattr(IdentifierPreparer, "_escape_identifier", lambda self, value: value)
        unquoted = injected(url)
        patched.setattr(flat, "column_types", any_column)
        off = injected(url)
    with monkeypatch.context() as patched:
        patched.setattr(flat, "column_types", any_column)
        unchecked = injected(url)
    told("14 injection into a name", 9, on, off)
    assert off == pytest.approx(9.0)
    assert on == unquoted == "missing_column"
    assert isinstance(unchecked, str)


SECRET = "planted-secret"


@pytest.fixture(scope="module")
def leaky(url: str) -> str:
    """A database in which two persons share a text that nobody else has."""
    rows = pd.DataFrame({"person_id": range(40), "x": [float(i) for i in range(40)]})
    rows["text"] = ["usual"] * 38 + [SECRET] * 2
    load(url, "flat_log", {"t": rows})
    return url


def said(folder: Path, url: str) -> str:
    """Everything that a site replies to studies that fail in many ways."""
    folder.mkdir()
    one = guarded(folder, url)
    object.__setattr__(one.site.site.cdm, "cdm_schema", "flat_log")
    questions = (
        '[[analysis]]\nkind = "frequencies"\nfeatures = ["text"]\n',
        '[[analysis]]\nkind = "summary"\nfeatures = ["text"]\n',
        '[[analysis]]\nkind = "summary"\nfeatures = ["nowhere"]\n',
        '[[analysis]]\nkind = "counts"\nby = ["text"]\n',
    )
    replies = [one.site.answer(one.signed(FLAT + question)) for question in questions]
    return "\n".join(zlib.decompress(_release(reply)).decode() for reply in replies)


def test_nothing_that_is_read_by_others_holds_a_secret(
    tmp_path: Path,
    leaky: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Logs, standard output, refusals and releases, also where the database fails."""
    caplog.set_level(logging.DEBUG)
    failing = "CAST(concat(text, 'x') AS double precision)"

    def broken(self: Counts, query: Any, frame: Frame) -> list[Any]:
        return [sa.select(sa.literal_column(failing)).select_from(frame.relation)]

    monkeypatch.setattr(Counts, "select", broken)
    on = "\n".join([said(tmp_path / "on", leaky), caplog.text, *capfd.readouterr()])
    password = leaky.split("@")[0].rsplit(":", 1)[-1]
    secrets = (SECRET, "SELECT ", f":{password}@", "psycopg.errors")
    for secret in secrets:
        assert secret not in on, secret
    # A site that names every cell that it withholds, and hands on what its database says.
    monkeypatch.setattr(policy, "withheld_places", _named)
    monkeypatch.setattr(execution, "explained", lambda error: WireError(str(error)[:280]))
    off = said(tmp_path / "off", leaky)
    found = [secret for secret in secrets if secret in off]
    told("18 log leak", SECRET, "not found", ", ".join(found))
    assert {SECRET, "psycopg.errors"} <= set(found)


def _named(cells: Any, withheld: Mapping[Key, Withholding], public: Any) -> tuple[Withheld, ...]:
    return tuple(Withheld(key, why.rule, why.below) for key, why in withheld.items())


def _release(reply: bytes) -> bytes:
    from federated_analytics.signing import unverified_reply

    return unverified_reply(reply).release
