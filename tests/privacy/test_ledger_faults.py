"""Killed at every step, out of disk, asked by many processes: charged once, or nothing leaves."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from federated_analytics.privacy.audit import Audit
from federated_analytics.privacy.ledger import Ledger

PRELUDE = """
import os, resource, signal, sys, time
from dataclasses import replace
from pathlib import Path
from federated_analytics.errors import BudgetSpent, LedgerError
from federated_analytics.privacy.accounting import Charge
from federated_analytics.privacy.audit import Audit
from federated_analytics.privacy.ledger import Ledger

folder = Path(sys.argv[1])

def charge(ledger, request, step=lambda name: None):
    def allowed(before):
        step("charging")
        if before:
            raise BudgetSpent("The budget is spent.")
    cost = Charge(1.0, analyst="ann", dataset="database", at=time.time())
    ledger.charge(request, cost, allowed)
"""
RELEASE = """
def step(name):
    if name == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

ledger = Ledger.open(folder)
audit = replace(Audit.open(folder, ledger), step=step)
charge(ledger, "request", step)
step("charged")
body = ledger.keep_answer("question", sys.argv[3].encode())
step("kept")
audit.append({"decision": "released", "request": "request"}, body)
(folder / "left").write_bytes(body)
"""
STEPS = ["charging", "charged", "kept", "bytes", "announced", "line", "told"]


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def opened(folder: Path) -> Audit:
    return Audit.open(folder, Ledger.open(folder))


def charges(folder: Path) -> int:
    return len(list(Ledger.open(folder).charges()))


@pytest.mark.parametrize("dies", STEPS)
def test_a_kill_at_every_step(tmp_path: Path, dies: str) -> None:
    assert ended(child(RELEASE, tmp_path, dies, "first draw"))[0] == -9
    assert not (tmp_path / "left").exists()
    audit = opened(tmp_path)
    assert audit.verify() == []
    assert charges(tmp_path) == (0 if dies == "charging" else 1)
    assert len(list(audit.lines())) == (1 if dies in ("line", "told") else 0)

    # The same request again: the same bytes where they were kept, and no second charge.
    code, _, err = ended(child(RELEASE, tmp_path, "", "second draw"))
    assert code == 0, err
    left = (tmp_path / "left").read_bytes()
    assert left == (b"second draw" if dies in ("charging", "charged") else b"first draw")
    assert charges(tmp_path) == 1
    last = list(audit.lines())[-1]
    assert audit.read_released(last["released"]) == left
    assert audit.verify() == []


@pytest.mark.parametrize("torn", [1, 40, -1])
def test_a_kill_within_the_line(tmp_path: Path, torn: int) -> None:
    """As a power loss leaves it: announced, and a part of it written."""
    assert ended(child(RELEASE, tmp_path / "whole", "", "draw"))[0] == 0
    line = (tmp_path / "whole" / "audit.jsonl").read_bytes()
    assert ended(child(RELEASE, tmp_path / "state", "announced", "draw"))[0] == -9
    (tmp_path / "state" / "audit.jsonl").write_bytes(line[:torn])
    assert "cut short" in opened(tmp_path / "state").verify()[0].text
    code, _, err = ended(child(RELEASE, tmp_path / "state", "", "draw"))
    assert code == 0, err
    decisions = [line["decision"] for line in opened(tmp_path / "state").lines()]
    assert decisions == ["recovered", "released"]
    assert opened(tmp_path / "state").verify() == []


BUSY = """
ledger = Ledger.open(folder)
audit = Audit.open(folder, ledger)
print("ready", flush=True)
for number in range(10**6):
    body = ledger.keep_answer(f"{sys.argv[2]} {number}", os.urandom(3000))
    print(audit.append({"decision": "released"}, body)["released"], flush=True)
"""


def test_kills_at_any_moment(tmp_path: Path) -> None:
    """Whatever was said to have been released is in the audit, with its bytes."""
    random.seed(7)
    left: list[str] = []
    for run in range(5):
        process = child(BUSY, tmp_path, run)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(random.uniform(0.02, 0.2))
        process.kill()
        code, out, _ = ended(process)
        assert code == -9
        left += [text for text in out.split("\n")[:-1] if text]
        audit = opened(tmp_path)
        assert [p for p in audit.verify() if "cut short" not in p.text] == []
    assert len(left) > 5
    assert set(left) <= {line.get("released") for line in audit.lines()}


CROWD = """
from concurrent.futures import ThreadPoolExecutor
ledger = Ledger.open(folder)
audit = Audit.open(folder, ledger)
print("ready", flush=True)
sys.stdin.readline()

def ask(number):
    request = f"{sys.argv[2]} {number}"
    try:
        charge(ledger, request)
    except BudgetSpent:
        audit.append({"decision": "refused", "request": request})
        return False
    audit.append({"decision": "released", "request": request}, request.encode())
    return True

with ThreadPoolExecutor(10) as pool:
    print(sum(pool.map(ask, range(10))))
"""


def test_one_of_fifty_requests_of_five_processes_is_charged(tmp_path: Path) -> None:
    crowd = [child(CROWD, tmp_path, number) for number in range(5)]
    for process in crowd:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in crowd:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ends = [ended(process) for process in crowd]
    assert [code for code, _, _ in ends] == [0] * 5, ends
    assert sum(int(out) for _, out, _ in ends) == 1
    audit = opened(tmp_path)
    decisions = [line["decision"] for line in audit.lines()]
    assert (len(decisions), decisions.count("released")) == (50, 1)
    assert charges(tmp_path) == 1
    assert audit.verify() == []


UNTIL_FULL = """
limit = int(sys.argv[2])
ledger = Ledger.open(folder)
audit = Audit.open(folder, ledger)
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for number in range(10**6):
    try:
        cost = Charge(1.0, analyst="ann", dataset="database", at=0.0)
        ledger.charge(str(number), cost, lambda before: None)
        body = ledger.keep_answer(str(number), os.urandom(int(sys.argv[3])))
        said = audit.append({"decision": "released", "study_name": "x" * 300}, body)
    except LedgerError as error:
        print(error.code, flush=True)
        break
    print(said["released"], flush=True)
"""


def _after_a_full_disk(folder: Path, out: str) -> None:
    """What left is audited and charged; with room again, the site goes on."""
    *left, refused = out.split()
    assert refused == "ledger_unavailable"
    audit = opened(folder)
    assert [p for p in audit.verify() if "cut short" not in p.text] == []
    assert set(left) <= {line.get("released") for line in audit.lines()}
    assert charges(folder) >= len(left)
    assert audit.append({"decision": "released"}, b"again")["decision"] == "released"
    assert audit.verify() == []


@pytest.mark.parametrize("limit", [9_000, 20_001, 70_000, 100_003])
def test_a_file_that_cannot_grow(tmp_path: Path, limit: int) -> None:
    """The limit cuts a write wherever it falls, as a full disk does."""
    code, out, err = ended(child(UNTIL_FULL, tmp_path, limit, 10))
    assert code == 0, err
    _after_a_full_disk(tmp_path, out)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("size", [10, 5_000])
def test_a_full_disk(small_disk: Path, size: int) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(200_000))
    code, out, err = ended(child(UNTIL_FULL, small_disk / "state", 0, size))
    assert code == 0, err
    ballast.unlink()
    _after_a_full_disk(small_disk / "state", out)


def test_a_full_disk_from_the_start(small_disk: Path) -> None:
    (small_disk / "state").mkdir()
    with (small_disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            try:
                ballast.write(bytes(4096))
            except OSError:
                break
    code, _, err = ended(child(RELEASE, small_disk / "state", "", "draw"))
    assert code == 1
    assert "LedgerError" in err.strip().splitlines()[-1]
    assert not (small_disk / "state" / "left").exists()


HOLDS = """
with Ledger.open(folder).exclusive():
    print("ready", flush=True)
    time.sleep(60)
"""


def test_exclusive_is_taken_from_a_killed_process(tmp_path: Path) -> None:
    process = child(HOLDS, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.kill()
    ended(process)
    start = time.perf_counter()
    with Ledger.open(tmp_path).exclusive():
        assert time.perf_counter() - start < 5
