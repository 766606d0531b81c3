"""Studies through a real SuperLink and SuperNodes equal the same studies in this process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from federated_analytics.connections import NoSuperLink
from federated_analytics.databases.postgres import Cluster
from federated_analytics.federation import Event
from federated_analytics.local.processes import (
    CONNECTION,
    LocalFederation,
    free_port,
    local_federation,
)
from federated_analytics.local.program import program
from federated_analytics.report.result import Result
from federated_analytics.running import run
from federated_analytics.study import Study
from federated_analytics.submit import RunFailed, submit
from tests.flower.conftest import NAMES, Flwr, flwr_run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("flower")]

STUDY = Study.parse(
    """
    [study]
    name = "Äpfel & <b>Birnen</b> \\"quoted\\""
    [[analysis]]
    kind = "counts"
    by = ["sex"]
    [[analysis]]
    kind = "summary"
    features = ["age", "bmi", "systolic_bp"]
    by = ["sex", "age_group"]
    [[analysis]]
    kind = "quantiles"
    features = ["bmi"]
    """
)


def pooled_rows(result: Result) -> list[tuple[str | None, ...]]:
    return sorted(
        (
            row.group_level,
            row.strata_name,
            row.strata_level,
            row.variable_name,
            str(row.variable_level),
            row.estimate_name,
            row.estimate_value,
        )
        for row in result.rows
        if row.cdm_name == "pooled"
    )


@pytest.mark.federation
def test_a_submitted_study_equals_the_same_in_process(
    federation: LocalFederation, hospitals: list[Cluster]
) -> None:
    events: list[Event] = []
    result = submit(STUDY, superlink=federation.address, on_progress=events.append)
    here = run(STUDY, sites=[c.reader_url() for c in hospitals])
    assert len(pooled_rows(here)) > 100
    assert pooled_rows(result) == pooled_rows(here)
    assert {e.kind for e in events} >= {"start", "sent", "answered", "done"}
    assert events[-1].answered == events[-1].total == 2
    assert result.study_toml == STUDY.to_toml()


def test_selected_features_on_the_command_line(flwr: Flwr, federation: LocalFederation) -> None:
    outcome = flwr("selected-features='age,bmi' results-dir='selected'")
    assert outcome.code == 0, outcome.text
    for said in ("Age", "Body mass index", "hospital-a", "hospital-b", "2 of 2 sites answered"):
        assert said in outcome.text
    folder = federation.folder / "selected"
    written = Result.load(folder / "result.csv")
    assert {row.variable_name for row in written.rows} >= {"age", "bmi"}
    assert (folder / "report.html").stat().st_size > 10_000
    assert not [p for p in folder.iterdir() if p.name.startswith((".", "tmp"))]


@pytest.mark.parametrize(
    ("run_config", "said"),
    [
        ("selected-features='age,bmii'", ("unknown_feature", "bmi")),
        ("study='studies/nothing.toml'", ("error invalid_study", "studies/")),
        ("min-sites=0", ("error invalid_config", "min-sites")),
        ("feature-aggregation='mean,modus'", ("error invalid_config", "no aggregation 'modus'")),
    ],
)
def test_a_wrong_run_config_ends_the_run_before_anything_is_sent(
    flwr: Flwr, tmp_path: Path, run_config: str, said: tuple[str, ...]
) -> None:
    outcome = flwr(f"{run_config} results-dir='{tmp_path}/results'")
    assert not (tmp_path / "results").exists()
    assert all(word in outcome.text for word in said), outcome.text
    assert "asking" not in outcome.text
    assert "Traceback" not in outcome.text


def test_a_study_file_of_the_app(flwr: Flwr, federation: LocalFederation) -> None:
    outcome = flwr("study='studies/everyone.toml' results-dir=''")
    assert "2 of 2 sites answered" in outcome.text, outcome.text
    assert not (federation.folder / "results").exists()


def test_a_table_that_no_site_has(federation: LocalFederation) -> None:
    study = Study.parse(
        '[study]\nname = "A table that nobody has"\n[population]\nkind = "table"\n'
        'table = "no_such_table"\n[[analysis]]\nkind = "counts"\n'
    )
    result = submit(study, superlink=federation.address, deadline_seconds=60)
    codes = {r.cdm_name: r.estimate_value for r in result.rows if r.estimate_name == "code"}
    assert codes == dict.fromkeys(NAMES, "missing_table")
    assert not [row for row in result.rows if row.variable_name == "persons"]


def test_nothing_listens_at_an_address() -> None:
    with pytest.raises(NoSuperLink) as caught:
        submit(STUDY, superlink=f"127.0.0.1:{free_port()}")
    assert caught.value.code == "no_superlink"
    assert "SuperLink" in caught.value.remedy


def test_an_unknown_connection_names_the_known_ones(
    federation: LocalFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLWR_HOME", federation.environment["FLWR_HOME"])
    with pytest.raises(NoSuperLink, match="no connection 'elsewhere'") as caught:
        submit(STUDY, superlink="elsewhere")
    assert CONNECTION in caught.value.remedy
    with pytest.raises(NoSuperLink) as caught:
        submit(STUDY, superlink="local-deploymnet")
    assert f"Did you mean '{CONNECTION}'?" in caught.value.remedy


def test_without_any_supernode_the_run_says_so(app: Path, tmp_path: Path) -> None:
    with local_federation([], tmp_path) as empty:
        outcome = flwr_run(empty, app, "wait-seconds=3 results-dir=''")
    assert "error no_sites: No site is connected." in outcome.text
    assert "flwr supernode list" in outcome.text


def test_an_error_of_the_study_reaches_the_analyst(federation: LocalFederation) -> None:
    with pytest.raises(RunFailed) as caught:
        submit(STUDY, superlink=federation.address, min_sites=3, deadline_seconds=60)
    assert caught.value.code == "too_few_sites"
    assert "2 of 2 sites answered" in str(caught.value)


@pytest.mark.federation
def test_the_result_of_a_run_is_not_printed_when_it_is_returned(
    federation: LocalFederation,
) -> None:
    lines: list[str] = []
    submit(STUDY, superlink=federation.address, on_line=lines.append)
    assert not [line for line in lines if len(line) > 400]
    assert not (federation.folder / "results").exists()


def test_the_working_directory_is_the_superlinks(federation: LocalFederation) -> None:
    assert not Path("selected").exists()


def test_an_interrupted_command_stops_its_run(federation: LocalFederation, tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text(STUDY.to_toml())
    analyst = subprocess.Popen(
        [program("federated-analytics"), "run", str(file), "--superlink", federation.address],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert analyst.stderr is not None
    run_id = ""
    for line in analyst.stderr:
        if found := re.search(r"run (\d+) started on", line):
            run_id = found[1]
        if "one message" in line:
            break
    analyst.send_signal(signal.SIGINT)
    said = analyst.stderr.read()
    assert analyst.wait(60) != 0
    assert "Traceback" not in said
    listed = subprocess.run(
        [program("flwr"), "ls", CONNECTION, "--run-id", run_id, "--format", "json"],
        env={**os.environ, **federation.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(listed.stdout)["runs"][0]["status"] == "finished:stopped"
    assert not (tmp_path / "results").exists()
