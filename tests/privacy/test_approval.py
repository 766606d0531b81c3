"""R14: a study runs when a person approved exactly it, once or for some days."""

from __future__ import annotations

import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import pytest

from federated_analytics.errors import (
    ConfigError,
    LedgerError,
    RefusedByOperator,
    RequestRefused,
    SiteBusy,
    WaitingForApproval,
)
from federated_analytics.privacy.approval import DAY_SECONDS, Approvals
from federated_analytics.privacy.asked import Asked, Decision, fingerprint, shown

NOW = 1_800_000_000.0
ASKED = Asked(
    study_name="Blood pressure by sex",
    study='{"name": "bp"}',
    digest="d" * 64,
    analyst="ada",
    project="cardio",
    question="How high is the systolic blood pressure of women and of men?",
    sql="SELECT sex, count(*) FROM frame GROUP BY sex",
    leaves="A count, a mean and a standard deviation for each sex.",
    cost="no privacy budget",
    code_digest="c" * 64,
    asked_at=NOW,
)
MARK = ASKED.fingerprint


@pytest.fixture
def approvals(tmp_path: Path) -> Approvals:
    return Approvals.open(tmp_path)


def test_a_study_waits_until_it_is_approved(approvals: Approvals) -> None:
    assert approvals.state(MARK, NOW) == "unknown"
    with pytest.raises(WaitingForApproval, match=MARK[:12]):
        approvals.admit(ASKED, "run-1", NOW)
    with pytest.raises(WaitingForApproval):
        approvals.admit(ASKED, "run-1", NOW + 1)
    assert [e.asked for e in approvals.pending()] == [ASKED]
    assert approvals.count_pending() == 1
    approvals.approve(MARK[:8], "olga", now=NOW + 2)
    assert approvals.pending() == []
    assert approvals.state(MARK, NOW + 3) == "approved"
    approvals.admit(ASKED, "run-1", NOW + 3)


def test_an_approval_for_one_run_is_good_for_that_run_alone(approvals: Approvals) -> None:
    approvals.ask(ASKED, NOW)
    approvals.approve(MARK, "olga", now=NOW)
    assert approvals.use(MARK, "run-1", NOW)
    assert approvals.use(MARK, "run-1", NOW + 60), "its second round"
    assert approvals.state(MARK, NOW + 60) == "unknown"
    with pytest.raises(WaitingForApproval):
        approvals.admit(ASKED, "run-2", NOW + 60)
    assert [e.state for e in approvals.pending()] == ["pending"], "it asks again"
    assert approvals.use(MARK, "run-1", NOW + 61), "the first run goes on meanwhile"
    assert not approvals.use(MARK, "run-1", NOW + DAY_SECONDS + 1)


def test_an_approval_for_days_ends_with_them(approvals: Approvals) -> None:
    approvals.ask(ASKED, NOW)
    approvals.approve(MARK, "olga", days=30, now=NOW)
    for day, run in enumerate("abc"):
        assert approvals.use(MARK, run, NOW + day * DAY_SECONDS)
    assert approvals.use(MARK, "d", NOW + 30 * DAY_SECONDS)
    after = NOW + 30 * DAY_SECONDS + 1
    assert not approvals.use(MARK, "a", after)
    assert approvals.state(MARK, after) == "unknown"
    with pytest.raises(WaitingForApproval):
        approvals.admit(ASKED, "a", after)
    assert len(approvals.pending()) == 1


def test_an_approval_for_one_run_that_nobody_used_ends_too(approvals: Approvals) -> None:
    approvals.ask(ASKED, NOW)
    approvals.approve(MARK, "olga", now=NOW)
    assert not approvals.use(MARK, "run-1", NOW + 30 * DAY_SECONDS + 1)


@pytest.mark.parametrize("changed", ["study", "code_digest", "analyst", "project"])
def test_a_changed_byte_asks_again(approvals: Approvals, changed: str) -> None:
    approvals.ask(ASKED, NOW)
    approvals.approve(MARK, "olga", days=30, now=NOW)
    other = replace(ASKED, **{changed: getattr(ASKED, changed) + " "})
    with pytest.raises(WaitingForApproval):
        approvals.admit(other, "run-1", NOW)
    approvals.admit(ASKED, "run-1", NOW)


def test_no_byte_moves_between_the_parts_of_a_fingerprint() -> None:
    assert fingerprint(b"a", "b", "c", "d") != fingerprint(b"ab", "", "c", "d")
    assert fingerprint(b"", "", "cd", "") != fingerprint(b"", "", "c", "d")


def test_a_refusal_holds_and_says_why(approvals: Approvals) -> None:
    approvals.ask(ASKED, NOW)
    approvals.refuse(MARK, "olga", "No ethics approval\n for this project.", now=NOW)
    for run in "ab":
        with pytest.raises(RefusedByOperator, match=r"No ethics approval for this project\."):
            approvals.admit(ASKED, run, NOW + 90 * DAY_SECONDS)
    assert approvals.pending() == []


def test_what_was_decided_can_be_taken_back(approvals: Approvals) -> None:
    approvals.ask(ASKED, NOW)
    approvals.approve(MARK, "olga", now=NOW)
    assert approvals.use(MARK, "run-1", NOW)
    approvals.revoke(MARK, "olga", now=NOW)
    assert not approvals.use(MARK, "run-1", NOW), "also what is left of a run"
    assert approvals.state(MARK, NOW) == "pending"
    approvals.approve(MARK, "olga", days=1, now=NOW)
    approvals.refuse(MARK, "olga", "Changed my mind.", now=NOW)
    assert not approvals.use(MARK, "run-1", NOW)


@pytest.mark.parametrize("reason", ["", "  ", "x" * 201, "a\x1b[31mred", "right\u202eleft", "\x00"])
def test_a_reason_is_short_and_printable(approvals: Approvals, reason: str) -> None:
    approvals.ask(ASKED, NOW)
    with pytest.raises(ConfigError, match="printable"):
        approvals.refuse(MARK, "olga", reason)
    assert approvals.state(MARK, NOW) == "pending"


@pytest.mark.parametrize("days", [0, -1, 367])
def test_days_are_bounded(approvals: Approvals, days: int) -> None:
    approvals.ask(ASKED, NOW)
    with pytest.raises(ConfigError, match="366"):
        approvals.approve(MARK, "olga", days=days)
    assert approvals.state(MARK, NOW) == "pending"


def test_a_prefix_names_one_study(approvals: Approvals) -> None:
    marks: dict[str, str] = {}
    number = 0
    while True:  # two studies whose fingerprints begin alike
        other = replace(ASKED, study=str(number))
        twin = marks.setdefault(other.fingerprint[:4], other.study)
        if twin != other.study:
            break
        number += 1
    approvals.ask(other)
    approvals.ask(replace(ASKED, study=twin))
    with pytest.raises(ConfigError, match="Several studies"):
        approvals.approve(other.fingerprint[:4], "olga")
    assert approvals.find(other.fingerprint.upper()).asked == other
    for wrong in ("", "abc", "zzzz", "%%%%", "a" * 65, "../..", "????"):
        with pytest.raises(ConfigError):
            approvals.find(wrong)
    with pytest.raises(ConfigError, match="No study"):
        approvals.find("0" * 64)


def test_a_flood_of_one_analyst_leaves_room_for_others(approvals: Approvals) -> None:
    for number in range(50):
        approvals.ask(replace(ASKED, study=str(number)))
    with pytest.raises(SiteBusy):
        approvals.ask(replace(ASKED, study="one more"))
    approvals.ask(replace(ASKED, study="0"))
    approvals.ask(replace(ASKED, analyst="grace"))
    with pytest.raises(RequestRefused, match="too long"):
        approvals.ask(replace(ASKED, analyst="eve", study="x" * 1_000_001))


def test_a_restart_keeps_every_state(tmp_path: Path) -> None:
    first = Approvals.open(tmp_path)
    for number, deed in enumerate(("pending", "approved", "refused", "used")):
        asked = replace(ASKED, study=str(number))
        first.ask(asked, NOW)
        if deed in ("approved", "used"):
            first.approve(asked.fingerprint, "olga", now=NOW)
        if deed == "refused":
            first.refuse(asked.fingerprint, "olga", "No.", now=NOW)
        if deed == "used":
            assert first.use(asked.fingerprint, "run", NOW)
    again = Approvals.open(tmp_path)
    assert again.all() == first.all()
    assert {e.asked.study: e.state for e in again.all()} == {
        "0": "pending",
        "1": "approved",
        "2": "refused",
        "3": "used",
    }


def test_every_decision_is_recorded_or_does_not_hold(tmp_path: Path) -> None:
    recorded: list[Decision] = []
    approvals = Approvals.open(tmp_path, record=recorded.append)
    approvals.ask(ASKED, NOW)
    approvals.approve(MARK, "olga", days=3, now=NOW)
    approvals.refuse(MARK, "olga", "No.", now=NOW)
    approvals.revoke(MARK, "olga", now=NOW)
    assert [(d.deed, d.days, d.reason) for d in recorded] == [
        ("approve", 3, ""),
        ("refuse", None, "No."),
        ("revoke", None, ""),
    ]

    def full(decision: Decision) -> None:
        raise LedgerError("The disk is full.")

    with pytest.raises(LedgerError, match="full"):
        Approvals.open(tmp_path, record=full).approve(MARK, "olga", now=NOW)
    assert approvals.state(MARK, NOW) == "pending"


CHILD = """
import sys
from pathlib import Path
from federated_analytics.privacy.approval import Approvals
approvals = Approvals.open(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(sum(approvals.use(sys.argv[2], f"{sys.argv[3]}-{i}") for i in range(20)))
"""


def test_two_processes_cannot_both_use_one_run(tmp_path: Path) -> None:
    approvals = Approvals.open(tmp_path)
    approvals.ask(ASKED)
    approvals.approve(MARK, "olga")
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), MARK, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    used = [int(child.communicate(timeout=60)[0]) for child in children]
    assert sum(used) == 1


def test_threads_ask_and_use_without_a_second_run(approvals: Approvals) -> None:
    approvals.ask(ASKED)
    approvals.approve(MARK, "olga")
    with ThreadPoolExecutor(8) as pool:
        used = list(pool.map(lambda i: approvals.use(MARK, f"run-{i}"), range(40)))
    assert sum(used) == 1


def test_the_files_are_the_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    Approvals.open(folder).ask(ASKED)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_a_file_that_cannot_be_read_admits_nothing(tmp_path: Path) -> None:
    approvals = Approvals.open(tmp_path)
    approvals.ask(ASKED)
    approvals.approve(MARK, "olga")
    file = tmp_path / "approvals.sqlite"
    file.write_bytes(b"not a database at all" * 1000)
    for name in ("approvals.sqlite-wal", "approvals.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(LedgerError):
        approvals.admit(ASKED, "run-1")
    with pytest.raises(LedgerError):
        Approvals.open(tmp_path)
    file.unlink()
    with pytest.raises(LedgerError) as caught:
        approvals.admit(ASKED, "run-1")
    assert str(tmp_path) not in str(caught.value)


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    import sqlite3

    Approvals.open(tmp_path)
    with sqlite3.connect(tmp_path / "approvals.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LedgerError, match="another version"):
        Approvals.open(tmp_path)


def test_what_a_stranger_wrote_cannot_drive_the_terminal() -> None:
    assert shown("a\x1b[2Jb\u202ec\nd\te é") == "a\\x1b[2Jb\\u202ec\nd\te é"


def test_every_field_of_a_study_comes_back(approvals: Approvals) -> None:
    odd = replace(
        ASKED,
        **{f.name: f"'; DROP TABLE studies; -- {f.name} ☃" for f in fields(Asked)[:-1]},
    )
    approvals.ask(odd)
    assert approvals.find(odd.fingerprint).asked == odd
