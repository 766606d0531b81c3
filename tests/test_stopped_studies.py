"""A study that nobody waits for, that is cancelled, or whose service ends, ends in the database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from federated_analytics import wire
from federated_analytics.messages import Disclosure, Request
from federated_analytics.omop.database import database_url
from federated_analytics.signing import request_hash, sign
from federated_analytics.site_commands.site import app
from federated_analytics.study import Study
from tests.sites import load
from tests.test_guarded_site import COUNTS, DP, FEATURE, FLAT, KEYS, SUMMARY, Asked, guarded

SLOW = COUNTS.replace('"t"', '"slow"')
SLOW_SUMMARY = SUMMARY.replace('"t"', '"slow"')


@pytest.fixture(scope="module")
def url(database: str) -> str:
    rows = pd.DataFrame({"person_id": range(1, 201), "x": [float(i % 100) for i in range(200)]})
    load(database, "flat", {"t": rows})
    engine = sa.create_engine(database_url(database))
    with engine.begin() as connection:  # a count of it takes 40 seconds
        connection.execute(
            sa.text(
                "CREATE VIEW flat.slow AS SELECT person_id, x FROM flat.t "
                "WHERE pg_sleep(0.2) IS NOT NULL"
            )
        )
        connection.execute(
            sa.text(
                "CREATE VIEW flat.fast AS SELECT person_id, x FROM flat.t "
                "WHERE pg_sleep(0.004) IS NOT NULL"
            )
        )
    engine.dispose()
    return database


@pytest.fixture
def one(tmp_path: Path, url: str) -> Asked:
    return impatient(guarded(tmp_path, url), 60)


def impatient(one: Asked, abandon_seconds: float) -> Asked:
    service = one.site.config.service.model_copy(update={"answer_seconds": 0.1})
    one.site.config = one.site.config.model_copy(update={"service": service})
    one.site.works.abandon_seconds = abandon_seconds
    return one


def active(url: str) -> int:
    """Statements of ours that the database works on."""
    engine = sa.create_engine(database_url(url), poolclass=sa.NullPool)
    with engine.connect() as connection:
        return int(
            connection.execute(
                sa.text(
                    "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' "
                    "AND application_name = 'federated_analytics' "
                    "AND datname = current_database()"
                )
            ).scalar_one()
        )


def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)


def until_active(url: str, statements: int = 1) -> None:
    until(lambda: active(url) == statements)


def until_ended(one: Asked, url: str) -> None:
    """The service and its database work on nothing: a count of `slow` would take 40 seconds."""
    until(lambda: not any(one.site.counts().values()))
    until(lambda: not active(url))


def code(disclosure: Disclosure) -> str:
    return disclosure.refusal.code if disclosure.refusal else "released"


@pytest.mark.parametrize("policy", ["", DP], ids=["exact", "noise"])
def test_a_study_that_nobody_asks_for_is_cancelled(tmp_path: Path, url: str, policy: str) -> None:
    one = impatient(guarded(tmp_path, url, policy), 60)
    envelope = one.signed(SLOW_SUMMARY)
    assert code(one.send(envelope)) == "working"
    until_active(url)
    one.site.works.abandon_seconds = 0.3
    until_ended(one, url)
    assert one.audited() == ["cancelled abandoned"]
    assert one.lines()[0]["analyst"] == "ann"
    assert not list(one.site.state.ledger.charges())
    assert code(one.send(envelope)) == "working", "it is begun again for who asks after all"
    one.site.stop(0)


def test_a_study_that_is_asked_for_goes_on(tmp_path: Path, url: str) -> None:
    one = impatient(guarded(tmp_path, url), 1.5)
    envelope = one.signed(SLOW)
    for _ in range(15):
        assert code(one.send(envelope)) == "working"
        time.sleep(0.1)
    until_active(url)
    assert one.audited() == []
    one.site.stop(0)


def test_an_analyst_who_waits_has_not_gone(tmp_path: Path, url: str) -> None:
    one = guarded(tmp_path, url)  # she waits for 30 seconds
    one.site.works.abandon_seconds = 0.3
    asking = threading.Thread(target=one.send, args=(one.signed(SLOW),))
    asking.start()
    until_active(url)
    time.sleep(1)
    assert active(url)
    one.site.stop(0)
    asking.join(5)
    assert one.audited()[0] == "cancelled stopped"


def test_the_operator_cancels(one: Asked, url: str, tmp_path: Path) -> None:
    def command(*words: str) -> str:
        state = ["--state", str(tmp_path / "site.toml")]
        result = CliRunner().invoke(app, [*words, *state])
        return result.output + str(result.exception or "")

    envelope = one.signed(SLOW)
    assert code(one.send(envelope)) == "working"
    until(lambda: "asked by ann" in command("running"))
    request = request_hash(envelope)
    assert command("running").startswith(request[:12])
    assert "No study that runs" in command("cancel", "ffff")
    assert "No study that runs" in command("cancel", request[:2])
    until_active(url)
    assert "cancelled: x" in command("cancel", request[:8], "--reason", "Maintenance.")
    until_ended(one, url)
    for _ in range(2):  # who asks again is not served after all
        refusal = one.send(envelope).refusal
        assert refusal is not None
        assert refusal.code == "cancelled_by_operator"
        assert "Maintenance." in refusal.message
    (line,) = one.lines()
    assert (line["decision"], line["code"]) == ("cancelled", "cancelled")
    assert line["reason"] == "Maintenance."
    assert line["by"]
    until(lambda: "no study runs" in command("running"))


def test_a_study_has_its_time_and_no_more(one: Asked, url: str) -> None:
    study = Study.parse(SLOW)
    request = wire.encode_request(Request(study.to_json(), 1, "r", 1.0))
    envelope = sign(request, KEYS["ann"], project="p", study=study.digest, code="c" * 64)
    one.send(envelope)
    until_ended(one, url)
    assert code(one.send(envelope)) == "database_timeout"


def test_many_short_statements_have_no_more_time(one: Asked, url: str) -> None:
    """Each analysis takes 0.8 seconds, and the study may take 1."""
    quick = FLAT.replace('"t"', '"fast"') + "".join(
        f'[[analysis]]\nkind = "counts"\nby = ["s{i}"]\n' for i in range(5)
    )
    text = FEATURE + "".join(
        f'[strata.s{i}]\nfeature = "x"\nbreaks = [{i + 1}]\n' for i in range(5)
    )
    study = Study.parse(quick + text)
    request = wire.encode_request(Request(study.to_json(), 1, "r", 1.0))
    envelope = sign(request, KEYS["ann"], project="p", study=study.digest, code="c" * 64)
    one.send(envelope)
    until_ended(one, url)
    assert code(one.send(envelope)) == "database_timeout"
    assert one.audited() == ["refused database_timeout"]


def test_no_more_studies_work_at_once_than_may(one: Asked, url: str) -> None:
    envelopes = [one.signed(SLOW, run=str(i)) for i in range(4)]
    assert {code(one.send(e)) for e in envelopes} == {"working"}
    until_active(url, 2)
    assert one.site.counts() == {"working": 2, "waiting": 2}
    one.site.works.abandon_seconds = 0.1
    until_ended(one, url)
    assert one.audited() == ["cancelled abandoned"] * 4
    one.site.works.abandon_seconds = 60
    quick = one.signed(COUNTS)
    until(lambda: code(one.send(quick)) == "released")


def test_a_service_that_ends_cancels_and_begins_nothing(one: Asked, url: str) -> None:
    envelope = one.signed(SLOW)
    one.send(envelope)
    until_active(url)
    began = time.monotonic()
    one.site.stop(0.3)
    assert time.monotonic() - began < 5
    until_ended(one, url)
    assert one.audited() == ["cancelled stopped"]
    assert code(one.send(envelope)) == "site_busy"
    assert one.code(COUNTS) == "site_busy"


def test_a_service_that_ends_lets_a_study_finish(one: Asked) -> None:
    envelope = one.signed(COUNTS)
    one.send(envelope)
    one.site.stop(20)
    assert one.audited() == ["released"]
    assert code(one.send(envelope)) == "released"


def test_a_cancel_never_hits_the_next_study(tmp_path: Path, url: str) -> None:
    one = guarded(tmp_path, url)
    for turn in range(6):
        slow = one.signed(SLOW, run=f"s{turn}")
        asking = threading.Thread(target=one.send, args=(slow,))
        asking.start()
        until_active(url)
        stop = one.site.works.stop_of(request_hash(slow))
        assert stop is not None
        stop.ask("abandoned")
        asking.join(10)
        for again in range(3):
            assert one.code(COUNTS, run=f"{turn}/{again}") == "released"
