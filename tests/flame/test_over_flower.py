"""A script over real Flower processes, guarded services, and an operator's approval."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from federated_analytics.flame.federation_run import FederationOptions, run_on_federation
from federated_analytics.local.guarded import PROJECT, guarded_hospitals
from federated_analytics.local.processes import local_federation
from federated_analytics.signing import SigningKey
from tests.flame.test_over_sites import SUM

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("flower"),
    pytest.mark.federation,
]
NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
POLICY = "free_exchange = true\n"


def test_a_script_runs_on_a_federation(tmp_path: Path) -> None:
    script = tmp_path / "sum.py"
    script.write_text(SUM)
    said: list[str] = []
    with TemporaryDirectory(prefix="fa-") as place:
        folder = Path(place)
        folder.chmod(0o711)
        key = SigningKey.new()
        key.save(folder / "analyst.pem")
        urls = dict.fromkeys(("hospital-a", "hospital-b"), NOWHERE)
        policies = dict.fromkeys(urls, POLICY)
        with (
            guarded_hospitals(folder, urls, policies, key, said.append, own_user=True) as sites,
            local_federation([one.node_config for one in sites]) as federation,
        ):
            result = run_on_federation(
                FederationOptions(
                    script=script,
                    nodes=["hospital-a", "hospital-b", "server"],
                    aggregator="server",
                    superlink=federation.address,
                    key=folder / "analyst.pem",
                    project=PROJECT,
                    out=tmp_path / "out",
                    parameters={"value": 20},
                    limit=120,
                    approval_seconds=120,
                ),
                said.append,
            )
        said += [(folder / f"{name}.log").read_text() for name in urls]
    assert result.succeeded, "\n".join([str(result), *said])
    [line] = (tmp_path / "out" / "submissions.jsonl").read_text().splitlines()
    submission = json.loads(line)
    assert submission["node"] == "server"
    assert json.loads(submission["text"]) == [40, 2_000_000]
    status = json.loads((tmp_path / "out" / "status.json").read_text())
    assert {one["status"] for one in status["nodes"].values()} == {"finished"}
    logged = [json.loads(x) for x in (tmp_path / "out" / "hub_log.jsonl").read_text().splitlines()]
    assert {entry["node"] for entry in logged} >= set(urls)
    assert any("waiting for approval at hospital-a" in text for text in said)
