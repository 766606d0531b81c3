"""docs/flame.md: its commands run, and its table of methods is that of the SDK."""

from __future__ import annotations

import inspect
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
from federated_analytics.flame.sdk import FlameCoreSDK

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "flame.md").read_text(encoding="utf-8")
SCRIPT = re.search(r"```python\n(from flame.*?)```", TEXT, re.S)
OWN = {"get_parameters"}
"""Methods that FLAME does not have."""
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


def test_the_table_names_every_method_of_the_sdk() -> None:
    table = TEXT[TEXT.index("| method |") : TEXT.index("## What differs")]
    rows = [row.split("|")[1] for row in table.splitlines() if row]
    named = set(re.findall(r"`([a-z_0-9]+)`", "\n".join(rows)))
    public = {
        name
        for name, _ in inspect.getmembers(FlameCoreSDK, inspect.isfunction)
        if not name.startswith("_")
    }
    anywhere = set(re.findall(r"[a-z_0-9]+", TEXT))
    assert public - anywhere == set()
    assert named - public == set()
    assert len(named) >= 27
    assert named >= OWN
