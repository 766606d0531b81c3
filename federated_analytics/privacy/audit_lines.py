"""The lines of an audit: one JSON object each, chained by SHA-256.

A line is canonical JSON (keys sorted, no blanks, ASCII) and a line end; `hash` is SHA-256 over
the canonical JSON of the rest, `previous` the hash of the line before, 64 zeros in the first.

References: Haber & Stornetta (1991), How to time-stamp a digital document, J. Cryptology 3:99
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from federated_analytics.errors import LedgerError

NO_HASH = "0" * 64
LINE_BYTES = 2**18
"""A longer line is not written: the end of the file is read back in one piece."""
TEXT_CHARACTERS = 2_000
"""A longer text of an analyst's is cut in the audit; the study's digest names the whole."""
_FIELDS = {"line": int, "time": str, "decision": str, "previous": str, "hash": str}


@dataclass(frozen=True)
class Head:
    """The ledger's state beside its audit.

    Fields:
        id: random, made with the file
        counter: of the transactions that wrote
        audit_lines, audit_hash: the last audit line that the ledger was told of; 0 and ""
        announced: hash of the line that was to come next, "" before the first
    """

    id: str
    counter: int
    audit_lines: int
    audit_hash: str
    announced: str


@dataclass(frozen=True)
class Tail:
    """The end of an audit file.

    Fields:
        last: the last whole line; None where there is none
        whole: bytes up to its end
        torn: bytes after it, of a line whose writing was cut short
    """

    last: Mapping[str, Any] | None
    whole: int
    torn: int


def chained(event: Mapping[str, Any], last: Mapping[str, Any] | None, head: Head) -> dict[str, Any]:
    """The line of an event after `last`, with the ledger's id and counter.

    Raises:
        LedgerError: the event is not JSON or too long.
    """
    line = {
        **{key: _cut(value) for key, value in event.items()},
        "line": last["line"] + 1 if last else 1,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "previous": last["hash"] if last else NO_HASH,
        "ledger": head.id,
        "counter": head.counter,
    }
    try:
        line["hash"] = line_hash(line)
        size = len(to_text(line))
    except (TypeError, ValueError) as error:
        raise LedgerError("The event cannot be written as JSON.", where="audit") from error
    if size > LINE_BYTES:
        raise LedgerError("The event is too long for the audit.", where="audit")
    return line


def to_text(line: Mapping[str, Any]) -> bytes:
    """A line as it stands in the file, its end included."""
    return _canonical(line) + b"\n"


def from_text(text: bytes) -> dict[str, Any] | None:
    """A line that was read; None where it is not one, or not as it would be written."""
    try:
        line = json.loads(text)
        if not isinstance(line, dict) or to_text(line) != text:
            return None
    except (ValueError, RecursionError):
        return None
    fits = all(type(line.get(name)) is kind for name, kind in _FIELDS.items())
    return line if fits else None


def line_hash(line: Mapping[str, Any]) -> str:
    """SHA-256 of a line without its `hash`."""
    rest = {key: value for key, value in line.items() if key != "hash"}
    return hashlib.sha256(_canonical(rest)).hexdigest()


def read_tail(file: int) -> Tail:
    """The end of an open audit.

    Raises:
        LedgerError: the last whole line cannot be read.
    """
    size = os.fstat(file).st_size
    # A whole line and a torn one after it.
    start = max(0, size - 2 * LINE_BYTES)
    end = os.pread(file, size - start, start)
    whole = end.rfind(b"\n") + 1
    torn = len(end) - whole
    if not whole and not start:
        return Tail(None, 0, torn)
    begin = end.rfind(b"\n", 0, max(0, whole - 1)) + 1
    last = from_text(end[begin:whole])
    if last is None:
        raise LedgerError("The audit's last line cannot be read.", where="state")
    return Tail(last, size - torn, torn)


def mismatch(head: Head, last: Mapping[str, Any] | None) -> str:
    """What is wrong between a ledger and the last line of its audit; "" where nothing is.

    A line that the ledger was not told of is the one that it had announced: the writer was
    killed in between. Any other comes from another time than the ledger.
    """
    count = last["line"] if last else 0
    if head.audit_lines > count:
        missing = f"the ledger knows of {head.audit_lines}"
        return f"lines after {count} are missing from the audit: {missing}"
    if last is None:
        return ""
    if last.get("ledger") != head.id:
        return "the ledger is not the one that the audit was written with"
    if head.audit_lines == count:
        known = last["hash"] == head.audit_hash
        return "" if known else "the last line is not the one that the ledger was told of"
    if head.audit_lines == count - 1 and last["hash"] == head.announced:
        return ""
    if last.get("counter", 0) > head.counter:
        return "the ledger is older than the audit: charges are missing from it"
    return (
        f"the audit has {count} lines, the ledger was told of {head.audit_lines}: "
        "the ledger was older, or lines were added"
    )


def _canonical(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > TEXT_CHARACTERS:
        return value[:TEXT_CHARACTERS] + "…"
    return value
