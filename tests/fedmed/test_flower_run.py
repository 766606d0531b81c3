"""Expressions over a real federation: a batch is one run, and its numbers are those over HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from federated_analytics import fedmed as fm
from federated_analytics import submit
from federated_analytics.fedmed.errors import AskFailed
from federated_analytics.local.processes import CONNECTION, LocalFederation, local_federation
from tests.fedmed.servers import served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.federation,
]
ROWS = pd.DataFrame(
    {"age": list(range(20, 60)), "sex": ["f", "m"] * 20, "weight": ([50.0, None, 71.5] * 14)[:40]}
)
PARTS = {"hospital-a": ROWS[:25], "hospital-b": ROWS[25:]}


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFederation]:
    configs = []
    for name, rows in PARTS.items():
        folder = tmp_path_factory.mktemp(name)
        rows.to_csv(folder / "people.csv", index=False)
        file = folder / "fragments.yaml"
        file.write_text("state: state\nfragments:\n  people 1/2: people.csv\n")
        configs.append({"site": name, "fragments": str(file)})
    folder = tmp_path_factory.mktemp("federation")
    before = Path.cwd()
    os.chdir(folder)
    try:
        with local_federation(configs, folder) as running:
            yield running
    finally:
        os.chdir(before)


def numbers(data: fm.FedData) -> dict[str, object]:
    with fm.Batch():
        mean, older = data["weight"].mean(), (data["age"] >= 40).sum()
        by_sex, median = data.groupby("sex")["age"].mean(), data["age"].median()
    return {
        "mean": float(mean),
        "missing": mean.missing,
        "older": int(older),
        "by_sex": dict(by_sex),
        "median": median.bounds,
    }


def test_a_batch_is_one_run_and_equals_http(
    federation: LocalFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLWR_HOME", federation.environment["FLWR_HOME"])
    runs = []
    run_app = submit.run_app
    monkeypatch.setattr(submit, "run_app", lambda *given: runs.append(1) or run_app(*given))

    def remote(site: str) -> fm.Remote:
        return fm.Remote(site=site, fragment="people 1/2", superlink=CONNECTION)

    over_flower = numbers(fm.FedData([remote(site) for site in PARTS]))
    assert len(runs) == 1
    servers = [fm.Server(tokens=["t"]) for _ in PARTS]
    for server, rows in zip(servers, PARTS.values(), strict=True):
        server["people 1/2"] = rows
    with served(servers[0]) as first, served(servers[1]) as second:
        sources = [fm.Remote(ip, "people 1/2", token="t") for ip in (first, second)]
        assert numbers(fm.FedData(sources)) == over_flower
    assert over_flower["mean"] == pytest.approx(ROWS["weight"].mean())
    assert over_flower["missing"] == ROWS["weight"].isna().sum()
    with pytest.raises(AskFailed, match="hospital-z") as caught:
        float(fm.FedData([remote("hospital-a"), remote("hospital-z")])["age"].sum())
    assert len(caught.value.failures) == 1
