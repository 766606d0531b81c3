"""The audit: every line chained, tied to the ledger, and whatever is done to it found."""

from __future__ import annotations

import json
import shutil
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from federated_analytics.errors import LedgerError
from federated_analytics.privacy.audit import Audit
from federated_analytics.privacy.audit_lines import chained, line_hash, to_text
from federated_analytics.privacy.ledger import Ledger

Tamper = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


def opened(folder: Path) -> Audit:
    return Audit.open(folder, Ledger.open(folder))


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    """Six lines, of which 2 and 5 released bytes."""
    audit = opened(tmp_path / "state")
    for number in range(1, 7):
        body = b"release %d" % number if number in (2, 5) else None
        decision = "released" if body else "refused"
        audit.append({"decision": decision, "analyst": "ann", "code": f"c{number}"}, body)
    return audit


def told(audit: Audit) -> str:
    return "; ".join(f"{p.line}: {p.text}" for p in audit.verify())


def test_lines_hold_the_event_and_the_exact_bytes(audit: Audit) -> None:
    lines = list(audit.lines())
    assert [line["line"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["code"] for line in lines] == [f"c{i}" for i in range(1, 7)]
    assert audit.read_released(lines[1]["released"]) == b"release 2"
    assert lines[1]["bytes"] == 9
    assert {line["ledger"] for line in lines} == {audit.ledger.head().id}
    counters = [line["counter"] for line in lines]
    assert counters == sorted(set(counters))
    assert audit.verify() == []


def test_only_the_site_s_user_can_read_it(audit: Audit) -> None:
    for path in [audit.path, *(audit.folder / "released").iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((audit.folder / "released").stat().st_mode) == 0o700


def test_the_chain_goes_on_after_a_new_start(audit: Audit) -> None:
    again = opened(audit.folder)
    assert again.append({"decision": "refused"})["line"] == 7
    assert again.verify() == []


def test_the_same_bytes_are_kept_once(audit: Audit) -> None:
    audit.append({"decision": "released"}, b"release 2")
    assert len(list((audit.folder / "released").iterdir())) == 2
    assert audit.verify() == []


def test_many_threads_make_one_chain(audit: Audit) -> None:
    def append(number: int) -> None:
        audit.append({"decision": "released"}, b"%d" % (number % 7))

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(append, range(60)))
    assert [line["line"] for line in audit.lines()] == list(range(1, 67))
    assert audit.verify() == []


def _changed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    lines[2]["analyst"] = "bob"
    return lines


def _changed_and_hashed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    lines[2]["analyst"] = "bob"
    lines[2]["hash"] = line_hash(lines[2])
    return lines


def _rechained(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A forger who knows how the chain is made, and has the audit alone."""
    lines[2]["analyst"] = "bob"
    previous = lines[1]["hash"]
    for number, line in enumerate(lines[2:], start=3):
        line |= {"previous": previous, "line": number}
        previous = line["hash"] = line_hash(line)
    return lines


def _rechained_and_longer(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return _added(_rechained(lines))


def _added(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    line = {**lines[-1], "line": 7, "previous": lines[-1]["hash"]}
    return [*lines, {**line, "hash": line_hash(line)}]


def _swapped(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*lines[:2], lines[3], lines[2], *lines[4:]]


TAMPERINGS: dict[str, tuple[Tamper, str]] = {
    "changed": (_changed, "3: the line was changed"),
    "changed and hashed": (_changed_and_hashed, "4: a line before it"),
    "chained anew": (_rechained, "0: the last line is not the one"),
    "chained anew and longer": (_rechained_and_longer, "0: the audit has 7 lines"),
    "first dropped": (lambda lines: lines[1:], "1: a line before it"),
    "one dropped": (lambda lines: lines[:3] + lines[4:], "4: a line before it"),
    "dropped and chained": (lambda lines: _rechained(lines[:3] + lines[4:]), "knows of 6"),
    "last dropped": (lambda lines: lines[:-1], "0: lines after 5 are missing"),
    "all dropped": (lambda lines: [], "0: lines after 0 are missing"),
    "reordered": (_swapped, "3: a line before it"),
    "repeated": (lambda lines: [*lines[:3], lines[2], *lines[3:]], "4: a line before it"),
    "added": (_added, "0: the audit has 7 lines"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_found(audit: Audit, name: str) -> None:
    tamper, said = TAMPERINGS[name]
    audit.path.write_bytes(b"".join(to_text(line) for line in tamper(list(audit.lines()))))
    assert said in told(audit)


def _spaced(text: bytes) -> bytes:
    return text.replace(b'"code":"c3"', b'"code": "c3"')


def _doubled(text: bytes) -> bytes:
    return text.replace(b'"code":"c3"', b'"code":"other","code":"c3"')


@pytest.mark.parametrize(
    "damage",
    [
        _spaced,
        _doubled,
        lambda text: text.replace(b'"c3"', b'"\xff\xfe"'),
        lambda text: text.replace(b'{"analyst":"ann","code":"c3"', b"[[[["),
        lambda text: text.replace(b'"line":3', b'"line":"3"'),
        lambda text: text.replace(b'"line":3', b'"line":NaN'),
        lambda text: text[: text.index(b'"c3"')] + b"[" * 100_000 + b"\n" + text,
    ],
)
def test_what_is_no_line_of_ours_is_found(audit: Audit, damage: Callable[[bytes], bytes]) -> None:
    before = audit.path.read_bytes()
    audit.path.write_bytes(damage(before))
    assert audit.path.read_bytes() != before
    assert "3: the line cannot be read" in told(audit)
    assert all(line["line"] > 0 for line in audit.lines())


def test_changed_and_missing_bytes_are_found(audit: Audit) -> None:
    first, second = (audit.released(line["released"]) for line in audit.lines() if "bytes" in line)
    first.write_bytes(b"release 3")
    second.unlink()
    assert told(audit) == ("2: the released bytes were changed; 5: the released bytes are missing")


def test_a_name_of_bytes_is_no_path(audit: Audit, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("")
    for name in ("../../secret", "/etc/passwd", "", "A" * 64, "a" * 64 + "\n"):
        with pytest.raises(LedgerError, match="no SHA-256"):
            audit.read_released(name)


def test_a_removed_audit_is_found(audit: Audit) -> None:
    audit.path.unlink()
    assert "lines after 0 are missing" in told(audit)
    with pytest.raises(LedgerError, match="do not fit"):
        opened(audit.folder)


def test_tampering_stops_a_running_site(audit: Audit) -> None:
    """What was changed below the last line shows at `verify`, the rest at the next event."""
    lines = list(audit.lines())
    for changed in (lines[:-1], _added(lines), _rechained(lines)):
        audit.path.write_bytes(b"".join(to_text(line) for line in changed))
        size = audit.path.stat().st_size
        with pytest.raises(LedgerError, match="do not fit"):
            audit.append({"decision": "released"}, b"secret")
        with pytest.raises(LedgerError, match="do not fit"):
            opened(audit.folder)
        assert audit.path.stat().st_size == size


def copied(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.glob("ledger.sqlite*")}


def restored(folder: Path, files: dict[str, bytes]) -> None:
    for path in folder.glob("ledger.sqlite*"):
        path.unlink()
    for name, body in files.items():
        (folder / name).write_bytes(body)


@pytest.mark.parametrize("lines_since", [1, 2, 5])
@pytest.mark.parametrize("events_since", [0, 40])
def test_an_older_ledger_is_found(audit: Audit, lines_since: int, events_since: int) -> None:
    """Also where it was used until its counter passed the audit's."""
    old = copied(audit.folder)
    for number in range(lines_since):
        audit.ledger.keep_answer(f"question {number}", b"")
        audit.append({"decision": "released"}, b"%d" % number)
    restored(audit.folder, old)
    for number in range(events_since):
        audit.ledger.keep_answer(f"other {number}", b"")
    assert "older" in told(audit)
    with pytest.raises(LedgerError, match="do not fit"):
        audit.append({"decision": "released"}, b"secret")
    with pytest.raises(LedgerError, match="do not fit"):
        opened(audit.folder)


def test_another_ledger_is_found(audit: Audit) -> None:
    restored(audit.folder, {})
    with pytest.raises(LedgerError, match="do not fit"):
        opened(audit.folder)
    assert "not the one that the audit was written with" in told(
        Audit(audit.folder, Ledger.open(audit.folder))
    )


def test_both_restored_from_one_backup_go_on(audit: Audit, tmp_path: Path) -> None:
    shutil.copytree(audit.folder, tmp_path / "backup")
    audit.append({"decision": "refused"})
    again = opened(tmp_path / "backup")
    assert again.append({"decision": "refused"})["line"] == 7
    assert again.verify() == []


def test_a_torn_last_line_is_said_and_taken_off(audit: Audit) -> None:
    with audit.path.open("ab") as file:
        file.write(b'{"analyst":"ann","co')
    assert told(audit) == "7: the line is incomplete: its writing was cut short"
    assert audit.append({"decision": "refused"})["line"] == 8
    recovered = list(audit.lines())[6]
    assert (recovered["decision"], recovered["bytes_removed"]) == ("recovered", 20)
    assert audit.verify() == []


def test_a_torn_line_that_was_whole_is_evidence(audit: Audit) -> None:
    text = audit.path.read_bytes()[:-10]
    audit.path.write_bytes(text)
    with pytest.raises(LedgerError, match="do not fit"):
        audit.append({"decision": "refused"})
    assert audit.path.read_bytes() == text
    assert "6: the line is incomplete" in told(audit)
    assert "lines after 5 are missing" in told(audit)


def test_an_analyst_s_long_text_stops_nothing(audit: Audit) -> None:
    line = audit.append({"decision": "refused", "study_name": "\U0001f600" * 1_000_000})
    assert len(line["study_name"]) == 2_001
    with pytest.raises(LedgerError, match="too long"):
        audit.append({"decision": "refused", "charge": {"a": "x" * 1_000_000}})
    with pytest.raises(LedgerError, match="JSON"):
        audit.append({"decision": "refused", "charge": float("nan")})
    assert audit.append({"decision": "refused", "study_name": "a\n\r\u2028b"})["line"] == 8
    assert audit.verify() == []


def test_bytes_whose_writing_was_cut_short_are_swept(audit: Audit) -> None:
    left = audit.folder / "released" / f".{'a' * 64}"
    left.write_bytes(b"half")
    opened(audit.folder)
    assert not left.exists()
    assert audit.verify() == []


def test_ten_thousand_lines_are_verified_in_seconds(tmp_path: Path) -> None:
    audit = opened(tmp_path / "state")
    head, last = audit.ledger.head(), None
    event = {"decision": "refused", "request": "a" * 64, "study_name": "Blood pressure by sex"}
    with audit.path.open("wb") as file:
        for _ in range(10_000):
            last = chained(event, last, head)
            file.write(to_text(last))
    assert last is not None
    audit.ledger.note_audit(last["line"], last["hash"])
    start = time.perf_counter()
    assert audit.verify() == []
    assert time.perf_counter() - start < 5
    text = audit.path.read_bytes()
    place = text.index(b'"line":5000')
    audit.path.write_bytes(text[:place] + text[place:].replace(b"Blood", b"blood", 1))
    assert told(audit) == "5000: the line was changed"


def test_a_line_can_be_checked_with_nothing_but_json_and_sha256(audit: Audit) -> None:
    import hashlib

    line = json.loads(audit.path.read_text().splitlines()[3])
    stated = line.pop("hash")
    text = json.dumps(line, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == stated
