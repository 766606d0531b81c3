"""The demo: real servers, a real federation; guarded, over the same data; interrupted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from federated_analytics.local.program import descendants, program
from federated_analytics.report.result import Result
from tests.local.test_program import all_gone

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo")]


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    """A folder for the databases that `nobody` may enter when root runs the tests."""
    folder = Path("/var/tmp") / f"federated-analytics-demo-{os.getpid()}"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def demo(state: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [program("federated-analytics"), "demo", "--persons", "1500", "--out", str(out), *options],
        env={**os.environ, "FEDERATED_ANALYTICS_STATE": str(state), "HOME": str(state)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Without the folder of this Python on PATH, as `make demo` runs it.
        cwd=out.parent,
    )


def servers(state: Path) -> set[int]:
    """Processes of the databases in a state folder, whoever is their parent now."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                line = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if str(state).encode() in line and b"postgres" in line:
                found.add(int(folder.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_the_demo_writes_its_result_and_leaves_nothing_running(state: Path, tmp_path: Path) -> None:
    out = tmp_path / "first"
    process = demo(state, out)
    printed, _ = process.communicate(timeout=290)
    assert process.returncode == 0, printed
    for said in ("hospital-c", "3 of 3 sites answered", "Haemoglobin A1c", "is stopped"):
        assert said in printed
    assert {p.name for p in out.iterdir()} == {
        "report.html",
        "result.csv",
        "result.json",
        "result.parquet",
    }
    assert not servers(state)
    assert len({r for r in Result.load(out / "result.csv").rows if r.estimate_name == "mean"}) > 20


@pytest.mark.federation
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_the_guarded_demo_waits_for_approval_and_states_its_budget(
    state: Path, tmp_path: Path
) -> None:
    """Over the databases that the demo before it has made, and left in order."""
    out = tmp_path / "guarded"
    process = demo(state, out, "--guarded")
    printed, _ = process.communicate(timeout=290)
    assert process.returncode == 0, printed
    for said in ("waits for approval", "3 of 3 sites answered", "is stopped"):
        assert said in printed.lower(), printed
    assert not servers(state)
    rows = [r for r in Result.load(out / "result.csv").rows if r.estimate_name == "epsilon_charged"]
    assert {r.cdm_name for r in rows} == {"hospital-c"}
    assert 0 < float(rows[0].estimate_value) <= 2.0
    assert "ε" in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "after", ["PostgreSQL on", pytest.param("asking", marks=pytest.mark.federation)]
)
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_an_interrupted_demo_leaves_nothing_running(
    state: Path, tmp_path: Path, after: str
) -> None:
    process = demo(state, tmp_path / "out")
    assert process.stdout is not None
    printed: list[str] = []
    for line in process.stdout:
        printed.append(line)
        if after in line:
            break
    else:
        pytest.fail("".join(printed))
    pids = {d.pid for d in descendants(process.pid)}
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait(60) != 0
    assert "Traceback" not in rest, rest
    assert all_gone(pids, 15)
    assert not servers(state)
    assert not (tmp_path / "out").exists()


def test_a_second_demo_on_the_same_databases_is_refused(state: Path, tmp_path: Path) -> None:
    import fcntl

    (state / "demo").mkdir(parents=True, exist_ok=True)
    with (state / "demo" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = demo(state, tmp_path / "out")
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error demo_running" in printed
