"""A study as it is put before the person who decides on it, and what was decided."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Literal

State = Literal["pending", "approved", "used", "refused", "unknown"]
Deed = Literal["approve", "refuse", "revoke"]


@dataclass(frozen=True)
class Asked:
    """A study as the person who decides sees it.

    Fields:
        study: the study's canonical JSON, the bytes that would run
        digest: SHA-256 of it
        analyst: fingerprint of the analyst's key, or her name
        question: what is asked, in words
        sql: the statements that would run
        leaves: what would leave the site, in words
        cost: what would be charged to the privacy budget, in words
        code_digest: SHA-256 of the code that would run
        asked_at: seconds since 1970, UTC
    """

    study_name: str
    study: str
    digest: str
    analyst: str
    project: str
    question: str
    sql: str
    leaves: str
    cost: str
    code_digest: str
    asked_at: float

    @property
    def fingerprint(self) -> str:
        """What an approval is pinned to."""
        return fingerprint(self.study.encode(), self.code_digest, self.analyst, self.project)


@dataclass(frozen=True)
class Entry:
    """A study that was asked for, with the decision on it.

    Fields:
        days: None: approved for one run
        uses: messages that were answered under the approval
    """

    asked: Asked
    fingerprint: str
    state: State
    decided_by: str = ""
    decided_at: float | None = None
    reason: str = ""
    days: int | None = None
    valid_until: float | None = None
    uses: int = 0

    def state_at(self, now: float) -> State:
        """The state, where an approval that ran out or was used is unknown: it is asked again."""
        if self.state == "used":
            return "unknown"
        over = self.state == "approved" and self.valid_until is not None and now > self.valid_until
        return "unknown" if over else self.state


@dataclass(frozen=True)
class Decision:
    """What a person decided, for the audit."""

    deed: Deed
    fingerprint: str
    asked: Asked
    by: str
    reason: str = ""
    days: int | None = None


def fingerprint(study: bytes, code_digest: str, analyst: str, project: str) -> str:
    """SHA-256 over the four, each with its length, so that no byte can move between them."""
    hashed = hashlib.sha256(b"federated_analytics approval 1")
    for part in (study, code_digest.encode(), analyst.encode(), project.encode()):
        hashed.update(len(part).to_bytes(8, "big"))
        hashed.update(part)
    return hashed.hexdigest()


def shown(text: str) -> str:
    """Text of a stranger's, safe to print: no terminal codes, no reversed writing.

    Line ends and tabs stay; any other character without a picture becomes its escape.
    """
    return "".join(
        c if c in "\n\t" or c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def operator() -> str:
    """The name of the person at the keyboard, as the operating system has it."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"
