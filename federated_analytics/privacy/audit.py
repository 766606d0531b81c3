"""R15: every request, decision and the exact bytes that left, chained by hashes.

`audit.jsonl` in the site's state folder holds one line an event (`audit_lines`). Released bytes
stand beside it in `released/`, named by their SHA-256: so the lines stay short and readable, a
release that is sent twice is kept once, and a changed file shows by its own name.

The order, in which each step is durable before the next begins:

    1  charge        the ledger holds the charge                       (`Ledger.charge`)
    2  bytes         `released/<sha256>` is written, synced, renamed
    3  announced     the ledger holds the hash of the line to come
    4  line          the line is appended and synced
    5  told          the ledger holds the line's number and hash
    6                `append` returns, the bytes may leave

A kill after 1 leaves a charge without a release: the same request again is not charged again.
After 2, bytes without a line, which did not leave. After 3, an announcement that the next one
replaces. Within 4, a torn line: the next event takes it off, and a line of its own says so.
After 4, one line that the ledger announced and was not told of: the next event tells it. So the
audit is never more than one announced line ahead of the ledger, and an older ledger that is put
back, lines that are cut off and lines that are added all break that.

What it cannot see: both files, replaced together by a consistent copy of one earlier time or by
a forgery. `site audit export` to a place that the site's user cannot write is the remedy.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from federated_analytics.errors import LedgerError
from federated_analytics.privacy.audit_lines import (
    NO_HASH,
    Head,
    Tail,
    chained,
    from_text,
    line_hash,
    mismatch,
    read_tail,
    to_text,
)
from federated_analytics.privacy.ledger import Ledger

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with the audit; `line` is 0 where it is of the whole."""

    line: int
    text: str


def _no_step(_: str) -> None:
    """Nobody watches the steps."""


@dataclass(frozen=True)
class Audit:
    """A site's audit. Safe among threads and processes.

    Args:
        folder: the site's state folder.
        ledger: its ledger, which the audit is tied to.
        step: called after each step of an `append`: bytes, announced, line, told.
    """

    folder: Path
    ledger: Ledger
    step: Callable[[str], None] = field(default=_no_step, repr=False, compare=False)

    @classmethod
    def open(cls, folder: Path, ledger: Ledger) -> Self:
        """The audit of a state folder.

        Raises:
            LedgerError: ledger and audit do not belong together, or cannot be read.
        """
        audit = cls(folder, ledger)
        with audit._failing(), audit._locked() as file:
            _require_match(ledger.head(), read_tail(file).last)
            audit._sweep()
        return audit

    @property
    def path(self) -> Path:
        return self.folder / "audit.jsonl"

    def released(self, digest: str) -> Path:
        """The file of released bytes; LedgerError where `digest` is not a SHA-256."""
        if not _DIGEST.fullmatch(digest):
            raise LedgerError("The audit names released bytes by no SHA-256.", where="audit")
        return self.folder / "released" / digest

    def read_released(self, digest: str) -> bytes:
        """The exact bytes that left; LedgerError where they are missing or were changed."""
        path = self.released(digest)
        try:
            body = path.read_bytes()
        except FileNotFoundError as error:
            raise LedgerError("the released bytes are missing", where="audit") from error
        except OSError as error:
            raise LedgerError("the released bytes cannot be read", where="audit") from error
        if hashlib.sha256(body).hexdigest() != digest:
            raise LedgerError("the released bytes were changed", where="audit")
        return body

    def append(self, event: Mapping[str, Any], released: bytes | None = None) -> dict[str, Any]:
        """Write one line, and the bytes that are about to leave, durably.

        Args:
            event: JSON values; `decision` says what was decided.

        Raises:
            LedgerError: it could not be written, or the audit does not fit the ledger; nothing
                may leave then.
        """
        entry = dict(event)
        with self._failing(), self._locked() as file:
            tail = self._mended(file)
            if released is not None:
                entry |= {"released": self._keep(released), "bytes": len(released)}
                self.step("bytes")
            return self._write(file, tail, entry)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Every line that can be read, in order."""
        with self._failing(), contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            for text in file:
                if (line := from_text(text)) is not None:
                    yield line

    def verify(self) -> list[Problem]:
        """Whatever was changed, dropped, reordered or cut off; empty where nothing was.

        What is written while it reads is left to the next time.
        """
        problems: list[Problem] = []
        last: dict[str, Any] | None = None
        with self._failing(), self._locked() as file:
            head, left = self.ledger.head(), os.fstat(file).st_size
        with self._failing(), self.path.open("rb") as texts:
            for number, text in enumerate(texts, start=1):
                left -= len(text)
                if left < 0:
                    break
                line = from_text(text)
                problems += self._of_line(number, text, line, last)
                last = line or last
        wrong = mismatch(head, last)
        return [*problems, Problem(0, wrong)] if wrong else problems

    def _of_line(
        self,
        number: int,
        text: bytes,
        line: dict[str, Any] | None,
        before: dict[str, Any] | None,
    ) -> list[Problem]:
        if not text.endswith(b"\n"):
            return [Problem(number, "the line is incomplete: its writing was cut short")]
        if line is None:
            return [Problem(number, "the line cannot be read")]
        found = []
        if line["hash"] != line_hash(line):
            found.append("the line was changed")
        place = before["line"] + 1 if before else 1
        if line["line"] != place or line["previous"] != (before["hash"] if before else NO_HASH):
            found.append("a line before it was changed, dropped, added or moved")
        if "released" in line:
            try:
                self.read_released(str(line["released"]))
            except LedgerError as error:
                found.append(error.message)
        return [Problem(number, what) for what in found]

    def _mended(self, file: int) -> Tail:
        """The file's end, without a line that a kill or a power loss cut short."""
        tail = read_tail(file)
        if not tail.torn:
            return tail
        # Nothing is taken off a file that does not fit: it is evidence.
        _require_match(self.ledger.head(), tail.last)
        os.ftruncate(file, tail.whole)
        event = {"decision": "recovered", "bytes_removed": tail.torn}
        self._write(file, Tail(tail.last, tail.whole, 0), event)
        return read_tail(file)

    def _write(self, file: int, tail: Tail, event: Mapping[str, Any]) -> dict[str, Any]:
        def line_after(head: Head) -> dict[str, Any]:
            _require_match(head, tail.last)
            return chained(event, tail.last, head)

        line = self.ledger.announce(tail.last, line_after)
        self.step("announced")
        _append(file, to_text(line), tail.whole)
        self.step("line")
        self.ledger.note_audit(line["line"], line["hash"])
        self.step("told")
        return line

    def _keep(self, released: bytes) -> str:
        digest = hashlib.sha256(released).hexdigest()
        path = self.released(digest)
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700)
            _sync(self.folder)
        if not path.exists():
            temporary = path.with_name(f".{digest}")
            opened = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(opened, "wb") as file:
                file.write(released)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        _sync(path.parent)
        return digest

    def _sweep(self) -> None:
        """Take away bytes whose writing was cut short; called under the lock."""
        for left in (self.folder / "released").glob(".*"):
            left.unlink()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """The audit, open, for this thread of this process alone."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = not self.path.exists()
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if fresh:
                _sync(self.folder)
            yield file
        finally:
            os.close(file)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LedgerError(
                f"The audit cannot be read or written ({error.strerror}).",
                where="state",
                remedy="The site operator checks the state folder: its owner, its rights, and "
                "the free space of its disk.",
            ) from error


def _require_match(head: Head, last: Mapping[str, Any] | None) -> None:
    wrong = mismatch(head, last)
    if wrong:
        raise LedgerError(
            f"The site's ledger and audit do not fit: {wrong}.",
            where="state",
            remedy="The site operator restores both from one backup and asks who changed one.",
        )


def _append(file: int, text: bytes, size: int) -> None:
    """Append durably, or leave the file as it was: `size` bytes."""
    try:
        # A full disk may take a part and say nothing.
        if os.write(file, text) != len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file)
    except OSError:
        with contextlib.suppress(OSError):  # what stays is torn or announced: both are known
            os.ftruncate(file, size)
        raise


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
