"""A script's run as lines of a ServerApp's log: written on one line each, read at the analyst's."""

from __future__ import annotations

import re

from federated_analytics.flame.router import GONE, LEVELS, Event
from federated_analytics.payload import MARK
from federated_analytics.privacy.asked import shown

_NODE = r"(?P<node>[A-Za-z0-9][A-Za-z0-9._-]{0,63})"
_STATES = "|".join(sorted(GONE | {"starting", "running"}))
_LOG = re.compile(rf"{_NODE} (?P<level>{'|'.join(LEVELS)}): (?P<text>.*)")
_PROGRESS = re.compile(rf"{_NODE} progress: (?P<value>\d{{1,3}}) %")
_STATUS = re.compile(rf"{_NODE}: (?P<status>{_STATES})(?: \((?P<reason>.*)\))?")
_SUBMISSION = re.compile(rf"{_NODE}: a final result of type (?P<output_type>str|bytes|pickle)")
_WAITING = re.compile(rf"[a-z ]+ at {_NODE}: (?P<reason>.*)")
_ESCAPE = re.compile(r"\\(.)")


def one_line(text: str) -> str:
    """Text on one line that no reader of the log takes for a result's line, or for two.

    What a script logs is a stranger's text: without this, a line of it could stand in the log as
    another node's, or as the result itself.
    """
    for plain, escaped in (("\\", r"\\"), ("\n", r"\n"), ("\r", r"\r")):
        text = text.replace(plain, escaped)
    return shown(text).replace(MARK, MARK.replace("-", " "))


def event_of(line: str) -> Event | None:
    """The event behind a line of `over_flower`; None for any other text."""
    if found := _PROGRESS.fullmatch(line):
        return Event("progress", found["node"], {"value": int(found["value"])})
    if found := _SUBMISSION.fullmatch(line):
        return Event("submission", found["node"], {"output_type": found["output_type"]})
    if found := _STATUS.fullmatch(line):
        content = {"status": found["status"], "reason": _plain(found["reason"] or "")}
        return Event("status", found["node"], content)
    if found := _LOG.fullmatch(line):
        return Event("log", found["node"], {"level": found["level"], "text": _plain(found["text"])})
    return None


def waiting_of(line: str) -> tuple[str, str] | None:
    """Who is waited for, and why: a site whose operator has not approved yet; None otherwise."""
    found = _WAITING.fullmatch(line)
    return (found["node"], line.partition(" at ")[0]) if found else None


def _plain(text: str) -> str:
    return _ESCAPE.sub(
        lambda found: {"n": "\n", "r": "\r", "\\": "\\"}.get(found[1], found[0]), text
    )
