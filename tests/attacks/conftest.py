"""The attacks' outcomes as a table, after the tests."""

from __future__ import annotations

from typing import Any

import pytest

from tests.attacks.attacker import ATTEMPTS


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not ATTEMPTS:
        return
    terminalreporter.section("attacks: the attacker's best estimate")
    rows = [("attack", "planted", "rule on", "rule off")]
    rows += [(a.name, a.planted, a.rule_on, a.rule_off) for a in sorted(ATTEMPTS, key=str)]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        terminalreporter.write_line(line.rstrip())
