"""What each command prints and writes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from federated_analytics import __version__, cli
from federated_analytics.report.result import Result
from tests.cli.conftest import NOBODY, Command


def every_command() -> list[list[str]]:
    """The words of each command, those of its groups too."""
    group: Any = typer.main.get_command(cli.app)
    found: list[list[str]] = []
    open_groups: list[tuple[list[str], Any]] = [([], group)]
    while open_groups:
        words, one = open_groups.pop()
        for name, made in one.commands.items():
            if hasattr(made, "commands"):
                open_groups.append(([*words, name], made))
            else:
                found.append([*words, name])
    return sorted(found)


def test_the_commands_are_those_that_are_documented() -> None:
    words = {" ".join(c) for c in every_command()}
    assert {"run", "demo", "preview", "check", "report", "features", "db start"} <= words


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_every_command_has_help_with_an_example(command: Command, words: list[str]) -> None:
    ended = command(*words, "--help")
    assert ended.code == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", ended.out)
    assert f"Example: federated-analytics {' '.join(words)}" in plain
    usage = re.sub(r"(?s).*?Usage:.*?\n\s*\n", "", plain, count=1)
    assert re.match(r"\s*\S+ \S+", usage), "no word on what it does"


def test_the_version(command: Command) -> None:
    assert command("--version").out.strip() == __version__


def test_a_study_over_databases(
    command: Command, study: Path, asked: list[str], tmp_path: Path
) -> None:
    ended = command("run", study, *asked, "--out", tmp_path / "out")
    assert ended.code == 0, ended.err
    assert "Systolic blood pressure" in ended.out
    assert "site-1 answered" in ended.err
    assert "2 of 2 sites answered" in ended.err
    for name in ("result.csv", "result.json", "report.html"):
        assert f"wrote {tmp_path / 'out' / name}" in ended.out
        assert (tmp_path / "out" / name).stat().st_size > 1_000
    rows = Result.load(tmp_path / "out" / "result.csv").select(
        result_type="counts", cdm_name="pooled", variable_name="persons"
    )
    total = [r.estimate_value for r in rows.rows if not r.strata and r.estimate_name == "count"]
    assert total == ["300"]


def test_only_the_formats_that_are_asked_for(
    command: Command, study: Path, asked: list[str], tmp_path: Path
) -> None:
    ended = command("run", study, *asked, "--out", tmp_path / "out", "--format", "csv")
    assert ended.code == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["result.csv"]


def test_a_report_of_a_saved_result(
    command: Command, study: Path, asked: list[str], tmp_path: Path
) -> None:
    command("run", study, *asked, "--out", tmp_path / "out", "--format", "json")
    ended = command("report", tmp_path / "out" / "result.json", "--out", tmp_path / "r.html")
    assert ended.code == 0
    assert "Blood pressure" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_preview_runs_nothing(
    command: Command, study: Path, urls: list[str], executed: list[str]
) -> None:
    ended = command("preview", study, "--site", urls[0])
    assert ended.code == 0, ended.err
    assert "CREATE TEMPORARY TABLE" in ended.out
    assert "FROM measurement" in ended.out
    assert "-- What would leave" in ended.out
    assert "summary of everyone" in ended.out
    assert "no number that rests on 1 to 4 persons leaves" in ended.out
    assert executed, "the recorder sees nothing"
    for statement in executed:
        assert "CREATE" not in statement
        assert not re.search(r"\b(person|measurement|observation_period)\b", statement), statement


def test_what_a_preview_prints_is_what_a_run_executes(
    command: Command, study: Path, urls: list[str], executed: list[str], tmp_path: Path
) -> None:
    def tables(text: str) -> set[str]:
        return set(re.findall(r"(?:FROM|JOIN) (\w+)", text))

    shown = command("preview", study, "--site", urls[0]).out
    executed.clear()
    command("run", study, "--site", urls[0], "--site", urls[1], "--out", tmp_path / "out")
    studied = tables("\n".join(executed)) - tables("pg_database pg_control_system")
    assert {"person", "measurement"} <= tables(shown)
    assert tables(shown) <= studied


def test_a_ready_database(command: Command, urls: list[str]) -> None:
    ended = command("check", "--site", urls[0])
    assert ended.code == 0, ended.out
    assert ended.out.rstrip().endswith("This database is ready.")
    for word in ("PostgreSQL", "CDM version", "persons", "systolic_bp", "vocabulary concept"):
        assert word in ended.out
    assert "unit concepts that are not converted: 4000000" in ended.out


def test_a_database_that_is_not_ready(command: Command, urls: list[str]) -> None:
    ended = command("check", "--site", urls[0], "--cdm-schema", "nowhere")
    assert ended.code == 1
    assert "error   table person" in ended.out
    assert "set cdm-schema" in ended.out
    other = command("check", "--site", "sqlite:///x")
    assert other.code == 1
    assert "postgresql://" in other.out
    unreachable = command("check", "--site", NOBODY)
    assert unreachable.code == 1
    assert "The database does not answer." in unreachable.out
    assert "secret" not in unreachable.out + unreachable.err


def test_features_are_found(command: Command) -> None:
    assert "hdl_cholesterol" in command("features", "cholesterol").out
    listed = json.loads(command("features", "cholesterol", "--format", "json").out)
    assert "hdl_cholesterol" in str(listed)
    assert "bmi" not in {item["name"] for item in listed}
