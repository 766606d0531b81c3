"""Attacks 13, 14, 18: errors and sizes that depend on a value; injection; what logs say."""

from __future__ import annotations

import dataclasses
import json
import logging
import zlib
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest

from federated_analytics import wire
from federated_analytics.messages import Request
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


def test_nothing_that_is_read_by_others_holds_a_secret(
    tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Logs, standard output, refusals and releases of studies that fail in many ways."""
    caplog.set_level(logging.DEBUG)
    rows = pd.DataFrame({"person_id": range(40), "x": [float(i) for i in range(40)]})
    rows["text"] = ["usual"] * 38 + ["planted-secret"] * 2
    load(url, "flat_log", {"t": rows})
    one = guarded(tmp_path, url)
    object.__setattr__(one.site.site.cdm, "cdm_schema", "flat_log")
    said = []
    for question in (
        '[[analysis]]\nkind = "frequencies"\nfeatures = ["text"]\n',
        '[[analysis]]\nkind = "summary"\nfeatures = ["text"]\n',
        '[[analysis]]\nkind = "summary"\nfeatures = ["nowhere"]\n',
        '[[analysis]]\nkind = "counts"\nby = ["text"]\n',
    ):
        envelope = one.signed(FLAT + question)
        said.append(zlib.decompress(_release(one.site.answer(envelope))).decode())
    everything = "\n".join([*said, caplog.text, *capfd.readouterr()])
    password = url.split("@")[0].rsplit(":", 1)[-1]
    for secret in ("planted-secret", "SELECT ", f":{password}@", "psycopg.errors"):
        assert secret not in everything, secret
    told("18 log leak", "planted-secret", "not found", "-")


def _release(reply: bytes) -> bytes:
    from federated_analytics.signing import unverified_reply

    return unverified_reply(reply).release
