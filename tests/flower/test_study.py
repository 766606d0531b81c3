"""A study through a SuperLink and two SuperNodes, as an analyst starts it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from federated_analytics.errors import FederatedAnalyticsError
from federated_analytics.local.processes import CONNECTION, LocalFederation, free_port
from federated_analytics.payload import MARK
from federated_analytics.report.result import Result
from federated_analytics.study import Study
from federated_analytics.submit import NoSuperLink, RunFailed, submit
from tests.flower.conftest import (
    Federate,
    Hospitals,
    flwr_run,
    numbers,
    participation,
)
from tests.pooled import DIABETES
from tests.sites import OPEN, ask, sites

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("flower")]

STUDY = Study.parse(f"""
[study]
name = "Everything in one round"
[[population]]
name = "everyone"
kind = "everyone"
[[population]]
name = "diabetes"
kind = "condition"
concepts = [{DIABETES}]
[[analysis]]
kind = "counts"
by = ["sex"]
[[analysis]]
kind = "summary"
features = ["age", "bmi", "hba1c"]
by = ["sex", "age_group"]
[[analysis]]
kind = "quantiles"
features = ["systolic_bp"]
[[analysis]]
kind = "histogram"
features = ["bmi"]
[[analysis]]
kind = "frequencies"
features = ["sex", "hypertension"]
[[analysis]]
kind = "top_concepts"
domain = "condition"
""")


@pytest.fixture(scope="module")
def federation(hospitals: Hospitals, federate: Federate) -> LocalFederation:
    return federate([hospitals.node(0), hospitals.node(1)])


def test_through_flower_equals_in_process(
    federation: LocalFederation, hospitals: Hospitals
) -> None:
    shown: list[str] = []
    through = submit(STUDY, superlink=federation.address, on_line=shown.append)
    here = ask(STUDY, sites(hospitals.url, ["site_0", "site_1"], OPEN, "vocabulary"), 2)
    renamed = {"site_0": "hospital-a", "site_1": "hospital-b"}
    expected = [tuple(renamed.get(text, text) for text in row) for row in numbers(here)]
    assert len(expected) > 500
    assert numbers(through) == sorted(expected)
    assert through.study_toml == here.study_toml
    found = participation(through)
    assert {name: p["status"] for name, p in found.items()} == {
        "hospital-a": "answered",
        "hospital-b": "answered",
    }
    assert not any(MARK in line for line in shown)
    assert any("hospital-a answered" in line for line in shown)


def test_the_readmes_command(federation: LocalFederation, root: Path, tmp_path: Path) -> None:
    ran = flwr_run(
        federation, root, f"selected-features='age,bmi' results-dir='{tmp_path / 'results'}'"
    )
    assert ran.status == 0, ran.text
    assert "2 of 2 sites answered" in ran.text
    assert re.search(r"^\s*Age", ran.text, re.MULTILINE), ran.text
    assert MARK not in ran.text
    written = sorted(p.name for p in (tmp_path / "results").iterdir())
    assert {"report.html", "result.csv", "result.json"} <= set(written)
    result = Result.load(tmp_path / "results" / "result.csv")
    assert {row.variable_name for row in result.select(result_type="summary").rows} == {
        "age",
        "bmi",
    }


@pytest.mark.parametrize(
    ("run_config", "code", "says"),
    [
        ("selected-features='age,bmj'", "unknown_feature", "'bmi'"),
        ("min-sites='x'", "invalid_config", "min-sites"),
        ("feature-aggregation='mean,modus'", "invalid_config", "no aggregation 'modus'"),
    ],
)
def test_a_run_config_that_cannot_be_used_fails_the_run(
    federation: LocalFederation,
    root: Path,
    tmp_path: Path,
    run_config: str,
    code: str,
    says: str,
) -> None:
    folder = tmp_path / "results"
    ran = flwr_run(federation, root, f"{run_config} results-dir='{folder}'")
    said = ran.error or ran.text
    assert f"{code}: " in ran.error or "min-sites" in run_config, ran.text
    assert says in said, ran.text
    assert "round 1" not in ran.text
    assert "Traceback" not in ran.text
    assert not folder.exists()


def test_a_study_that_a_site_cannot_answer_still_ends(federation: LocalFederation) -> None:
    study = Study.parse(
        '[study]\nname = "A table that nobody has"\n[population]\nkind = "table"\n'
        'table = "no_such_table"\n[[analysis]]\nkind = "counts"\n'
    )
    with pytest.raises(FederatedAnalyticsError) as caught:
        submit(study, superlink=federation.address, deadline_seconds=60)
    assert "no_such_table" not in str(caught.value.__cause__ or "")
    assert caught.value.code in ("too_few_sites", "missing_table")


def test_more_sites_than_there_are(federation: LocalFederation) -> None:
    with pytest.raises(RunFailed, match="2 of 2 sites answered; at least 3 must") as caught:
        submit(STUDY, superlink=federation.address, min_sites=3)
    assert caught.value.code == "too_few_sites"


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


def test_without_any_supernode_the_run_says_so(federate: Federate, root: Path) -> None:
    empty = federate([])
    ran = flwr_run(empty, root, "wait-seconds=3 results-dir=''")
    assert ran.error.startswith("error no_sites: No site is connected."), ran.text
    assert "flwr supernode list" in ran.error
