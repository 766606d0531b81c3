"""A service that is told to stop, or killed, in the middle of a study: what becomes of both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from federated_analytics import wire
from federated_analytics.omop.database import database_url
from federated_analytics.privacy.audit import Audit
from federated_analytics.privacy.ledger import Ledger
from federated_analytics.privacy.running import RunningStudies
from federated_analytics.signing import unverified_reply
from federated_analytics.site_service.socket_client import ask
from tests.site_service.fake_service import get, until
from tests.sites import load
from tests.test_guarded_site import COUNTS, KEYS, SITE, Asked, guarded
from tests.test_stopped_studies import active

SERVE = "from federated_analytics.cli import app; app()"


@pytest.fixture(scope="module")
def url(database: str) -> str:
    load(database, "flat", {"t": pd.DataFrame({"person_id": range(1, 201)})})
    engine = sa.create_engine(database_url(database))
    with engine.begin() as connection:  # a count of it takes 40 seconds
        view = "SELECT person_id FROM flat.t WHERE pg_sleep(0.2) IS NOT NULL"
        connection.execute(sa.text(f"CREATE VIEW flat.slow AS {view}"))
    engine.dispose()
    return database


@contextmanager
def served(folder: Path, url: str) -> Iterator[subprocess.Popen[str]]:
    public = {name: key.public.text for name, key in KEYS.items()}
    text = SITE.format(url=url, **public)
    limits = "answer_seconds = 0.2\nstop_seconds = 1"
    (folder / "site.toml").write_text(text.replace("answer_seconds = 30", limits))
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, "site", "serve", str(folder / "site.toml")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        while "listening" not in (line := process.stdout.readline()):
            assert line, "the service did not start"
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        process.stdout.close()


def code(folder: Path, envelope: bytes) -> str:
    reply = ask(f"unix:{folder / 'state' / 'site.sock'}", envelope, 10)
    refusal = wire.decode_release(unverified_reply(reply).release).refusal
    return refusal.code if refusal else "released"


def audited(folder: Path) -> list[str]:
    state = folder / "state"
    lines = Audit.open(state, Ledger.open(state)).lines()
    return [f"{line['decision']} {line.get('code', '')}".strip() for line in lines]


@pytest.fixture
def asked(tmp_path_factory: pytest.TempPathFactory, url: str) -> Asked:
    """Who signs: her own site is not asked."""
    return guarded(tmp_path_factory.mktemp("analyst"), url)


def test_what_does_not_finish_in_time_is_cancelled(tmp_path: Path, url: str, asked: Asked) -> None:
    slow = asked.signed(COUNTS.replace('"t"', '"slow"'))
    with served(tmp_path, url) as service:
        assert code(tmp_path, slow) == "working"
        until(lambda: active(url) == 1)
        until(lambda: "studies_working 1" in get(str(tmp_path / "state/site.sock"), "/metrics")[1])
        service.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert service.wait(10) == 0
        assert 0.9 < time.monotonic() - began < 6
    until(lambda: active(url) == 0)
    assert audited(tmp_path) == ["cancelled stopped"]
    assert RunningStudies.open_folder(tmp_path / "state").all() == []


def test_a_killed_service_forgets_and_answers_again(tmp_path: Path, url: str, asked: Asked) -> None:
    slow = asked.signed(COUNTS.replace('"t"', '"slow"'))
    running = RunningStudies
    with served(tmp_path, url) as service:
        assert code(tmp_path, slow) == "working"
        until(lambda: len(running.open_folder(tmp_path / "state").all()) == 1)
        service.kill()
        service.wait(10)
    assert audited(tmp_path) == []
    until(lambda: active(url) == 0, 10)
    with served(tmp_path, url):
        assert running.open_folder(tmp_path / "state").all() == []
        quick = asked.signed(COUNTS)
        until(lambda: code(tmp_path, quick) == "released")
    assert audited(tmp_path) == ["released"]
