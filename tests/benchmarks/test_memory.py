"""Peaks of memory: of the right processes, also of those that end between two samples."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.memory import descendants, kind_of, sampled

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (["/venv/bin/python", "/venv/bin/flwr-clientapp", "--insecure"], "ClientApp"),
        (["flower-supernode"], "SuperNode"),
        (["/venv/bin/python", "/venv/bin/flwr", "run", "."], "flwr run"),
        (["postgres:", "flwr-clientapp"], "ClientApp"),
        (["python", "-c", "flwr-clientapp"], ""),
    ],
)
def test_a_process_is_known_by_its_command(command: list[str], kind: str) -> None:
    assert kind_of(command) == kind


def test_the_peak_of_a_child_is_kept_when_it_has_freed_its_memory(tmp_path: Path) -> None:
    program = tmp_path / "flwr-clientapp"
    program.write_text(
        "import time\nheld = bytearray(96 * 2**20)\ndel held\ntime.sleep(0.6)\n", encoding="utf-8"
    )
    with sampled([os.getpid()]) as peaks:
        subprocess.run([sys.executable, str(program)], check=True)
    assert 96 < peaks["ClientApp"] < 200


def test_grandchildren_are_descendants() -> None:
    inner = "import time; time.sleep(30)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with subprocess.Popen([sys.executable, "-c", outer], start_new_session=True) as process:
        try:
            limit = time.monotonic() + 20
            while len(found := descendants([process.pid])) < 2 and time.monotonic() < limit:
                time.sleep(0.05)
            assert len(found) == 2
        finally:
            os.killpg(process.pid, 9)
