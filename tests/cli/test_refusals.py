"""What cannot be done ends with a code, a place and a remedy, and writes nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from federated_analytics.local.program import program
from tests.cli.conftest import NOBODY, STUDY, Command


def test_one_site_that_fails_is_named(
    command: Command, study: Path, urls: list[str], tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("min_sites = 1\n")
    ended = command(
        *("run", study, "--site", urls[0], "--site", NOBODY, "--min-sites", 1),
        *("--policy", policy, "--out", tmp_path / "out", "--format", "csv"),
    )
    assert ended.code == 0, ended.err
    assert "site-2 database_unreachable" in ended.err
    assert "secret" not in ended.err + ended.out
    assert "secret" not in (tmp_path / "out" / "result.csv").read_text()


def test_too_few_sites_write_nothing(
    command: Command, study: Path, urls: list[str], tmp_path: Path
) -> None:
    ended = command("run", study, "--site", urls[0], "--site", NOBODY, "--out", tmp_path / "out")
    ended.refused(1, "error too_few_sites: min-sites: ", "site-2: database_unreachable")
    assert "secret" not in ended.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"systolic_bp"', '"systolic_pb"', ("unknown_feature", "features", "'systolic_bp'")),
        ('"summary"', '"sumary"', ("unknown_analysis", "kind", "'summary'")),
        ('["sex"]', '["sexx"]', ("unknown_stratum", "by", "'sex'")),
        ("[study]\n", "[study]\nnam = 1\n", ("invalid_study", "nam", "name")),
        ("[study]", "[study", ("invalid_study", "study.toml")),
    ],
)
def test_a_study_that_cannot_be_read_ends_with_2(
    command: Command, study: Path, old: str, new: str, words: tuple[str, ...]
) -> None:
    study.write_text(STUDY.replace(old, new, 1), encoding="utf-8")
    command("run", study, "--site", NOBODY).refused(2, "error ", *words)
    command("preview", study, "--site", NOBODY).refused(2, "error ", *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "no.toml", "--site", NOBODY], ("invalid_study", "no.toml")),
        (["run", "study.toml"], ("invalid_config", "--site URL", "--superlink NAME")),
        (["run", "study.toml", "--site", "x", "--superlink", "y"], ("invalid_config",)),
        (["run", "study.toml", "--site", "mysql://u:secret@h/d"], ("invalid_config", "db-url")),
        (["run", "study.toml", "--superlink", "elsewhere"], ("no_superlink", "elsewhere")),
        (["features", "--format", "xml"], ("invalid_config", "--format", "csv")),
    ],
)
def test_arguments_that_cannot_be_used_end_with_2(
    command: Command,
    study: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    words: tuple[str, ...],
) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flwr"))
    ended = command(*arguments)
    ended.refused(2, *words)
    assert "secret" not in ended.err


def test_an_unknown_format_of_the_result(
    command: Command, study: Path, asked: list[str], tmp_path: Path
) -> None:
    ended = command("run", study, *asked, "--out", tmp_path / "out", "--format", "xlsx")
    ended.refused(1, "error invalid_format: ", "xlsx")


@pytest.mark.parametrize(
    "arguments", [["run"], ["nonsense"], ["run", "s.toml", "--min-sites", "0"]]
)
def test_typers_own_refusals_end_with_2(command: Command, arguments: list[str]) -> None:
    ended = command(*arguments)
    assert ended.code == 2
    assert "Traceback" not in ended.err


def test_the_installed_command_ends_without_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [program("federated-analytics"), "run", "nothing.toml", "--site", NOBODY],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error invalid_study: nothing.toml: ")
    assert len(done.stderr.splitlines()) == 1
