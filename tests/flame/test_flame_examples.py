"""The three examples, by the commands of their page, against fits and counts that are not ours."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from federated_analytics.flame.local_run import LocalRun, RunOptions
from federated_analytics.omop.tables import Cdm

EXAMPLES = Path(__file__).parents[2] / "examples" / "flame"
SITES = ("north", "south", "west")


def result_of(script: str, data: Path, place: Path) -> dict[str, Any]:
    options = RunOptions(
        EXAMPLES / script,
        [*SITES, "hub"],
        "hub",
        place / "out",
        data=data,
        store=place / "store",
        limit=60,
    )
    ended = LocalRun(options).run()
    assert ended.succeeded, (ended, [f.read_text() for f in (place / "out" / "logs").iterdir()])
    [line] = (place / "out" / "submissions.jsonl").read_text().splitlines()
    found = json.loads(line)
    assert found["node"] == "hub"
    result: dict[str, Any] = json.loads(found["text"])
    return result


def pooled() -> pd.DataFrame:
    return pd.concat(pd.read_csv(EXAMPLES / "data" / site / "cohort.csv") for site in SITES)


def test_the_mean_is_that_of_the_pooled_rows(tmp_path: Path) -> None:
    result = result_of("mean.py", EXAMPLES / "data", tmp_path)
    ages = pooled()["age"]
    assert result["mean_age"] == pytest.approx(ages.mean(), rel=1e-14)
    assert result["persons"] == len(ages)
    assert result["sites"] == 3


def test_the_logistic_regression_is_that_of_the_pooled_rows(tmp_path: Path) -> None:
    result = result_of("logistic_regression.py", EXAMPLES / "data", tmp_path)
    rows = pooled()
    x = np.column_stack([np.ones(len(rows)), rows[["age", "female", "treated"]]])
    y = rows["readmitted"].to_numpy()

    def loss(beta: np.ndarray) -> float:
        return float(np.sum(np.logaddexp(0, x @ beta) - y * (x @ beta)))

    def risk(beta: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x @ beta))

    def gradient(beta: np.ndarray) -> np.ndarray:
        return x.T @ (risk(beta) - y)

    def information(beta: np.ndarray) -> np.ndarray:
        return x.T @ (x * (risk(beta) * (1 - risk(beta)))[:, None])

    fit = minimize(
        loss,
        np.zeros(4),
        jac=gradient,
        hess=information,
        method="trust-exact",
        options={"gtol": 1e-10},
    )
    assert np.max(np.abs(gradient(fit.x))) < 1e-9
    assert list(result["coefficients"].values()) == pytest.approx(fit.x, abs=1e-8)
    errors = np.sqrt(np.diag(np.linalg.inv(information(fit.x))))
    assert list(result["standard_errors"].values()) == pytest.approx(errors, abs=1e-8)
    assert result["persons"] == len(rows)


@pytest.fixture
def fhir_server() -> Iterator[str]:
    command = [sys.executable, str(EXAMPLES / "fhir_server.py"), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip().removesuffix("/north/Patient")
        server.terminate()


def test_the_fhir_counts_are_those_of_the_servers(fhir_server: str, tmp_path: Path) -> None:
    for site in SITES:
        entries = json.loads((EXAMPLES / "data-fhir" / site / "datasources.json").read_text())
        for entry in entries:
            assert entry["url"].startswith("http://127.0.0.1:8480/")
            entry["url"] = entry["url"].replace("http://127.0.0.1:8480", fhir_server)
        (tmp_path / "data" / site).mkdir(parents=True)
        (tmp_path / "data" / site / "datasources.json").write_text(json.dumps(entries))
    # Women 31 + 18 + 40; men 24 + 45, as the 7 men of one site stay there.
    assert result_of("fhir_counts.py", tmp_path / "data", tmp_path) == {
        "female": 89,
        "male": 69,
        "withheld": 1,
        "sites": 3,
    }


def test_the_hospitals_blood_pressure_is_that_of_the_study(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """By the example's one command, but on the tests' server."""
    from federated_analytics.databases import postgres
    from federated_analytics.privacy.policy import Policy
    from tests.sites import ask, sites

    server = SimpleNamespace(owner_url=lambda: database)
    monkeypatch.setattr(postgres, "temporary_cluster", lambda: nullcontext(server))
    command = ["omop_hospitals.py", "--persons", "1000", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXAMPLES / "omop_hospitals.py"), run_name="__main__")
    assert ended.value.code == 0, capsys.readouterr().out
    printed = [tuple(line.split(",")) for line in capsys.readouterr().out.split()]
    study = """
[study]
name = "x"
[population]
kind = "condition"
concepts = [201826]
[[analysis]]
kind = "summary"
features = ["age", "systolic_bp"]
by = ["sex"]
"""
    asked = [replace(s, cdm=Cdm(s.name, s.name)) for s in sites(database, SITES, Policy())]
    rows = ask(study, asked, min_sites=2).rows
    wanted = [
        (row.strata_level, row.variable_name, row.estimate_name, row.estimate_value)
        for row in rows
        if row.estimate_name in ("count", "mean", "sd")
    ]
    assert printed == wanted
    told = {line[:3]: line[3] for line in printed}
    assert 40 < float(told["overall", "age", "mean"]) < 90
    assert 110 < float(told["overall", "systolic_bp", "mean"]) < 170


def test_the_page_names_every_script_and_a_command_for_each() -> None:
    page = (EXAMPLES / "README.md").read_text()
    commands = re.findall(r"federated-analytics flame run (\S+)", page)
    assert sorted(commands) == [
        f"examples/flame/{name}.py" for name in ("fhir_counts", "logistic_regression", "mean")
    ]
    for script in EXAMPLES.glob("*.py"):
        assert script.name in page


DOCUMENT = EXAMPLES.parents[1] / "docs" / "flame.md"


def test_the_document_s_script_runs(tmp_path: Path) -> None:
    script, *others = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    assert others == []
    (tmp_path / "rows.py").write_text(script)
    assert result_of(str(tmp_path / "rows.py"), EXAMPLES / "data", tmp_path) == len(pooled())


def test_the_document_names_every_method_and_class() -> None:
    from federated_analytics.flame import star
    from federated_analytics.flame.sdk import FlameCoreSDK

    page = DOCUMENT.read_text()
    rows = page.partition("## What is the same")[2].partition("\n## ")[0]
    head, _, table = rows.partition("\n|")
    first = "".join(line.split("|")[1] for line in table.splitlines() if line.count("|") > 2)
    named = set(re.findall(r"`(\w+)`", head + first))
    ours = {name for name in vars(star) if name.startswith("Star") and name != "StarNode"}
    assert {name for name in named if name.startswith("Star")} == ours
    methods = {name for name in named if name.islower() and name != "meta"}
    assert all(callable(getattr(FlameCoreSDK, name)) for name in methods)
    seed = {name for name in dir(FlameCoreSDK) if not name.startswith("_")}
    assert seed - methods <= {"get_parameters", "omop", "aggregate", "analyses", "get_omop"}


def test_the_document_s_configuration_can_be_used(tmp_path: Path) -> None:
    from federated_analytics.flame.data_sources import DataSources

    [text] = re.findall(r"```json\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    (tmp_path / "datasources.json").write_text(text)
    (tmp_path / "fhir-token").write_text("token")
    listed = DataSources.from_folder(tmp_path, project="diabetes-2026").listed()
    assert [source["id"] for source in listed] == ["fhir", "images", "files"]
    assert len(DataSources.from_folder(tmp_path, project="another").listed()) == 2
