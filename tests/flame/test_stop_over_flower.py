"""`flame stop` over real Flower processes: the run, its aggregator and the sites' workers end."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from typer.testing import CliRunner

from federated_analytics.flame.commands import app
from federated_analytics.flame.run_reading import RunFiles
from federated_analytics.local.guarded import PROJECT, guarded_hospitals
from federated_analytics.local.processes import local_federation
from federated_analytics.signing import SigningKey
from tests.flame.test_over_flower import NOWHERE, POLICY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("flower"),
    pytest.mark.federation,
]
PROGRAM = "from federated_analytics.flame.commands import app; app()"
SCRIPT = """
import time
from flame import FlameCoreSDK
flame = FlameCoreSDK(silent=True)
flame.flame_log("up")
flame.set_progress(20)
time.sleep(600)
"""


def test_a_run_is_stopped_everywhere(tmp_path: Path) -> None:
    (tmp_path / "sleep.py").write_text(SCRIPT)
    runner, out = CliRunner(), tmp_path / "out"
    hub = f"hub-{secrets.token_hex(4)}"  # its workers are told from those of other tests by it
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
            command = [
                *(
                    sys.executable,
                    "-c",
                    "from federated_analytics.flame.commands import app; app()",
                ),
                *("run", str(tmp_path / "sleep.py"), f"--nodes=hospital-a,hospital-b,{hub}"),
                *(f"--aggregator={hub}", f"--superlink={federation.address}"),
                *(f"--key={folder / 'analyst.pem'}", f"--project={PROJECT}", f"--out={out}"),
            ]
            with (tmp_path / "run.log").open("w") as log:
                run = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            _until(lambda: len(_progress(out)) == 3, 300)
            assert len(_workers(hub, folder)) >= 3
            shown = runner.invoke(app, ["status", str(out)]).output
            assert "running\nhospital-a: running  20 %  up\n" in shown
            stopped = runner.invoke(app, ["stop", str(out)])
            assert stopped.output == "stopped\n", (stopped, (tmp_path / "run.log").read_text())
            assert run.wait(30) == 1
            printed = (tmp_path / "run.log").read_text()
            assert "hospital-a: stopped\nhospital-b: stopped" in printed
            # The aggregator's too, beside the ServerApp.
            _until(lambda: not _workers(hub, folder), 30)
    status = RunFiles(out).status()
    assert status["state"] == "stopped"
    for node in ("hospital-a", "hospital-b", hub):
        assert status["nodes"][node] == {"status": "stopped", "reason": "stopped by the analyst"}


def _progress(out: Path) -> dict[str, int]:
    path = out / "progress.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _until(true: object, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.2)


def _workers(hub: str, folder: Path) -> list[str]:
    """Workers of the aggregator by its name, and of the sites by their folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = hub.encode() in (process / "environ").read_bytes()
            below = str((process / "cwd").readlink()).startswith(str(folder))
            if (ours or below) and b"worker_main" in (process / "cmdline").read_bytes():
                found.append(process.name)
        except OSError:
            continue
    return found
