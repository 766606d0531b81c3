"""docs/flame.md: each of its commands runs."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from federated_analytics.cli import app
from federated_analytics.flame import commands
from federated_analytics.flame.run_options import RunResult

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "flame.md").read_text(encoding="utf-8")
SCRIPT = re.search(r"```python\n(from flame.*?)```", TEXT, re.S)
pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("flame")]


def shell_commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("federated-analytics flame")]


def test_every_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def on_federation(options: Any) -> RunResult:
        asked.append((options, options.order))
        return RunResult("finished", {}, 1, True, options.out)

    monkeypatch.setattr(commands, "_on_federation", on_federation)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data-home"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    assert SCRIPT is not None
    (tmp_path / "rows.py").write_text(SCRIPT[1])
    found = shell_commands()
    assert {command[2] for command in found} >= {
        "run", "status", "logs", "results", "replay", "stop",
    }  # fmt: skip
    for command in found:
        ran = CliRunner().invoke(app, command[1:])
        assert ran.exit_code == 0, (command, ran.output, ran.exception)
    assert asked[0][0].nodes == ["hospital-a", "hospital-b", "hub"]
    assert (tmp_path / "results" / "rows" / "submissions.jsonl").read_text()
