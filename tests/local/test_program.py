"""What we start is ended with all that it started, however we end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from federated_analytics.local.program import (
    Process,
    ProcessFailed,
    descendants,
    ended_by_signals,
)

# Starts a child in a session of its own, as a SuperLink starts its SuperExec, and that another.
FAMILY = """
import signal, subprocess, sys, time
depth = int(sys.argv[1])
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if depth:
    command = [sys.executable, "-c", sys.argv[3], str(depth - 1), *sys.argv[2:]]
    subprocess.Popen(command, start_new_session=True)
print("ready", depth, flush=True)
time.sleep(120)
"""


def family(log: Path, manner: str = "polite") -> Process:
    command = [sys.executable, "-c", FAMILY, "2", manner, FAMILY]
    process = Process("family", command, log)
    process.start()
    process.until("ready 0", 30)
    return process


def all_gone(pids: set[int], seconds: float = 5) -> bool:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if not any(map(is_alive, pids)):
            return True
        time.sleep(0.05)
    return False


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("end", [Process.stop, Process.kill])
def test_children_in_sessions_of_their_own_are_ended_too(
    tmp_path: Path, end: Callable[[Process], None]
) -> None:
    process = family(tmp_path / "log")
    pids = {process.pid, *(d.pid for d in descendants(process.pid))}
    assert len(pids) == 3
    end(process)
    assert not process.is_running()
    assert all_gone(pids)


def test_what_does_not_listen_is_ended_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federated_analytics.local.program.STOP_SECONDS", 1.0)
    process = family(tmp_path / "log", "deaf")
    pids = {process.pid, *(d.pid for d in descendants(process.pid))}
    process.stop()
    assert all_gone(pids)


def test_a_process_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('earlier'); raise SystemExit('no such port')"]
    process = Process("superlink", command, tmp_path / "log")
    process.start()
    with pytest.raises(ProcessFailed, match="superlink did not start") as caught:
        process.until("ready", 30)
    assert "no such port" in caught.value.remedy


def test_a_process_that_never_gets_ready_is_stopped(tmp_path: Path) -> None:
    process = Process("slow", [sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "l")
    process.start()
    with pytest.raises(ProcessFailed):
        process.until("ready", 0.3)
    assert not process.is_running()


def test_only_the_output_since_the_last_start_counts(tmp_path: Path) -> None:
    process = Process("echo", [sys.executable, "-c", "print('ready')"], tmp_path / "log")
    for _ in range(2):
        process.start()
        process.until("ready", 30)
        assert process.said().count("ready") == 1
        process.stop()
    assert (tmp_path / "log").read_text().count("ready") == 2


def test_stopping_what_was_never_started_does_nothing(tmp_path: Path) -> None:
    Process("none", ["true"], tmp_path / "log").stop()


OWNER = """
import sys, time
from pathlib import Path
from federated_analytics.local.program import ended_by_signals
from tests.local.test_program import family
with ended_by_signals():
    process = family(Path(sys.argv[1]))
    try:
        print("started", flush=True)
        time.sleep(60)
    finally:
        process.stop()
        print("stopped", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_owner_ends_all_of_it(
    tmp_path: Path, root: Path, number: signal.Signals
) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "log")],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "started\n"
    pids = {d.pid for d in descendants(owner.pid)}
    assert len(pids) == 3
    owner.send_signal(number)
    assert owner.stdout.read() == "stopped\n"
    assert owner.wait(20) != 0
    assert all_gone(pids)


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with ended_by_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
