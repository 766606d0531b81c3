"""What breaks in a federation, broken: processes are killed, databases stopped, frozen, locked."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from federated_analytics.databases.postgres import Cluster, temporary_cluster
from federated_analytics.federation import Event
from federated_analytics.local.processes import LocalFederation
from federated_analytics.report.result import Result
from federated_analytics.study import Study
from federated_analytics.submit import RunFailed, submit
from tests import pooled
from tests.answers import participation
from tests.flower.conftest import flwr_run
from tests.sites import load

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("flower")]

STUDY = Study.parse(
    """
    [study]
    name = "Body mass index"
    [[analysis]]
    kind = "summary"
    features = ["age", "bmi"]
    """
)
A, B, TWIN = "hospital-a", "hospital-b", "hospital-c"
"""Twin: a second SuperNode on the database of hospital-a."""
POLICY = "min_count = 1\nmin_sites = 1\nper_site = true\ncomplementary = false\ndominance = 1.0\n"
DEADLINE_SECONDS = 40
"""Enough for a sound site on a busy machine with two cores, where a process starts slowly."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The PostgreSQL server of hospital-b alone, which may be stopped."""
    with temporary_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def federation(
    database: str, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalFederation]:
    folder = tmp_path_factory.mktemp("faults")
    policy = folder / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    tables = pooled.random_tables(7, 300)
    configs: list[dict[str, str | int]] = []
    own = cluster.owner_url("postgres")
    for position, (name, url) in enumerate(((A, database), (B, own))):
        rows = pooled.part_of(tables, position, 2, empty=False)
        load(url, "cdm", {**rows, **pooled.concept_tables()})
        configs.append({"db-url": url, "cdm-schema": "cdm", "policy": str(policy), "site": name})
    running = LocalFederation(configs, folder)
    try:
        running.start()
        yield running
    finally:
        running.stop()


def ask(
    federation: LocalFederation, *, min_sites: int = 1, seconds: int = DEADLINE_SECONDS
) -> Result:
    return submit(
        STUDY, superlink=federation.address, min_sites=min_sites, deadline_seconds=seconds
    )


def missing_site(result: Result) -> dict[str, str]:
    """The participation of the one site that did not answer; hospital-a did, with numbers."""
    found = participation(result)
    assert found.pop(A)["status"] == "answered"
    assert len(found) == 1, found
    shown = {row.cdm_name for row in result.select(result_type="summary").rows}
    assert shown == {"pooled", A}
    (site, missing), *_ = found.items()
    assert missing["remedy"]
    return {**missing, "site": site}


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A process that hangs: it keeps its connections and says nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def locked(cluster: Cluster) -> Iterator[None]:
    """A table that nobody else can read, as while a hospital loads its data."""
    with psycopg.connect(cluster.owner_url("postgres")) as connection:
        connection.execute("LOCK TABLE cdm.person IN ACCESS EXCLUSIVE MODE")
        yield


def test_a_stopped_database(federation: LocalFederation, cluster: Cluster) -> None:
    cluster.stop()
    try:
        missing = missing_site(ask(federation))
    finally:
        cluster.start()
    assert missing["site"] == B
    assert (missing["status"], missing["code"]) == ("refused", "database_unreachable")
    assert str(cluster.port) not in str(missing)


def test_a_database_that_hangs(federation: LocalFederation, cluster: Cluster) -> None:
    postmaster = cluster.pid()
    assert postmaster is not None
    with frozen(postmaster):
        missing = missing_site(ask(federation))
    assert missing["site"] == B
    assert missing["status"] == "refused"
    assert missing["code"] in ("database_unreachable", "database_timeout")


@pytest.mark.federation
def test_a_supernode_that_hangs_is_not_waited_for_after_the_deadline(
    federation: LocalFederation,
) -> None:
    started = time.monotonic()
    with frozen(federation.supernodes[1].pid):
        missing = missing_site(ask(federation))
    assert missing["status"] == "no_answer"
    assert "deadline-seconds" in missing["remedy"]
    assert float(missing["seconds"]) >= DEADLINE_SECONDS - 1
    assert time.monotonic() - started < DEADLINE_SECONDS + 60


def test_a_killed_supernode_is_named(federation: LocalFederation) -> None:
    federation.supernodes[1].kill()
    try:
        missing = missing_site(ask(federation))
    finally:
        federation.start_supernode(1)
    assert (missing["status"], missing["code"]) == ("no_answer", "no_answer")


@pytest.mark.federation
def test_a_killed_supernode_that_is_needed_fails_the_run(
    federation: LocalFederation, app: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "results"
    run_config = f"selected-features='age' deadline-seconds={DEADLINE_SECONDS} wait-seconds=3"
    federation.supernodes[1].kill()
    try:
        outcome = flwr_run(federation, app, f"{run_config} results-dir='{folder}'")
    finally:
        federation.start_supernode(1)
    assert "error too_few_sites: " in outcome.text, outcome.text
    assert "sites answered; at least 2 must." in outcome.text, outcome.text
    if "asking 2 sites" in outcome.text:  # else the SuperLink had missed its heartbeats already
        assert "no_answer (The site did not answer before the deadline." in outcome.text
    assert not folder.exists()
    assert participation(ask(federation, min_sites=2))[B]["status"] == "answered"


def test_two_supernodes_on_one_database_are_said_to_be(federation: LocalFederation) -> None:
    federation.node_configs = [
        *federation.node_configs,
        {**federation.node_configs[0], "site": TWIN},
    ]
    twin = federation.start_supernode(2)
    try:
        found = participation(ask(federation, min_sites=3))
    finally:
        twin.stop()
    assert {found[name]["status"] for name in (A, B, TWIN)} == {"answered"}
    assert f"same database as {A}" in found[TWIN]["note"]
    assert "note" not in found[A]
    assert "note" not in found[B]


@pytest.mark.federation
def test_a_superlink_that_dies_in_a_run(federation: LocalFederation, cluster: Cluster) -> None:
    sent = threading.Event()
    failure: list[BaseException] = []

    def on_progress(event: Event) -> None:
        if event.kind == "sent":
            sent.set()

    def study() -> None:
        try:
            submit(STUDY, superlink=federation.address, on_progress=on_progress)
        except BaseException as error:
            failure.append(error)

    analyst = threading.Thread(target=study, daemon=True)
    assert federation.superlink is not None
    with locked(cluster):
        analyst.start()
        assert sent.wait(90)
        federation.superlink.kill()
        analyst.join(90)
    assert not analyst.is_alive(), "the analyst's command hangs"
    assert isinstance(failure[0], RunFailed), failure
    assert failure[0].code == "run_failed"
    assert "SuperLink went away" in str(failure[0])

    # A SuperLink without --database knows no SuperNode after its restart: it answers them 401,
    # and they end; whatever started them starts them again.
    federation.start_superlink()
    for position in (0, 1):
        federation.supernodes[position].stop()
        federation.start_supernode(position)
    found = participation(ask(federation, min_sites=2))
    assert {p["status"] for p in found.values()} == {"answered"}
