"""The attacks' outcomes as a table, after the tests; it also comes from parallel workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from typing import Any

import pytest

from tests.attacks.attacker import ATTEMPTS

OUTCOME = "attack"


@pytest.fixture(autouse=True)
def outcomes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Sends what a test told with its report, which a worker hands to the main process."""
    ATTEMPTS.clear()
    yield
    request.node.user_properties += [(OUTCOME, list(astuple(attempt))) for attempt in ATTEMPTS]


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    found = {
        tuple(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == OUTCOME
    }
    if not found:
        return
    terminalreporter.section("attacks: the attacker's best estimate")
    rows = [("attack", "planted", "rule on", "rule off"), *sorted(found)]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        terminalreporter.write_line(line.rstrip())
