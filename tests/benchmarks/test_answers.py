"""Floor, baseline and ours answer the same question: otherwise their seconds say nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from benchmarks import data, floor, measure, runs
from federated_analytics.databases.postgres import Cluster, temporary_cluster
from federated_analytics.local.processes import local_federation
from federated_analytics.omop.database import database_url
from federated_analytics.privacy.policy import Policy
from federated_analytics.site import Site
from federated_analytics.study import Study
from tests.sites import ask

PERSONS = 3_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with temporary_cluster() as server:
        data.fill(server.owner_url(), PERSONS, seed=1)
        yield server


@pytest.mark.parametrize("question", runs.QUESTIONS)
def test_ours_equals_the_floor(cluster: Cluster, question: str) -> None:
    url = cluster.reader_url()
    study = Study.from_run_config(runs.QUESTIONS[question], runs.ROOT)
    result = ask(study, [Site(database_url(url), Policy(min_sites=1), name="a")])
    expected = floor.pooled_means([url], question)
    assert len(expected) == 5
    for name, mean in runs.means(result).items():
        assert mean == pytest.approx(expected[name], rel=measure.TOLERANCE)
    assert set(runs.means(result)) == set(expected)


def test_every_question_has_a_floor_that_runs(cluster: Cluster) -> None:
    assert set(floor.STATEMENTS) == set(runs.QUESTIONS)
    for statements in floor.STATEMENTS.values():
        assert floor.seconds(cluster.reader_url(), statements) > 0


def test_the_data_have_the_size_asked_for(cluster: Cluster) -> None:
    with psycopg.connect(cluster.reader_url()) as connection:
        for table, most in (("person_summary", 1), ("person", 1), ("measurement", 5)):
            row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            assert row is not None
            assert 0.95 * most * PERSONS <= row[0] <= most * PERSONS


def test_means_that_differ_are_an_error() -> None:
    with pytest.raises(measure.AnswersDiffer, match="bmi"):
        measure.same("ours", {"bmi": 25.0}, {"bmi": 25.0001})
    with pytest.raises(measure.AnswersDiffer):
        measure.same("ours", {}, {"bmi": 25.0})


@pytest.mark.slow
@pytest.mark.federation
def test_both_apps_run_over_one_federation(cluster: Cluster, tmp_path: Path) -> None:
    configs: list[dict[str, str | int]] = [
        {"db-port": cluster.port, "site": name} for name in ("a", "b")
    ]
    expected = floor.pooled_means([cluster.reader_url()], "flat")
    with local_federation(configs, tmp_path) as federation:
        for one in (runs.baseline(federation), runs.ours(federation, "flat")):
            measure.same("a run", one.means, expected)
            assert len(one.bytes_sent) == 2
            assert 0 < max(one.bytes_sent) < 4_000
            assert {"SuperLink", "SuperNode", "ServerApp", "ClientApp"} <= set(one.peaks)
        assert len(one.site_seconds) == 2
        assert len(one.phases) == 5
