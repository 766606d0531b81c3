"""The operator lists, reads and decides on studies at the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from federated_analytics.errors import ConfigError
from federated_analytics.privacy.approval import Approvals
from federated_analytics.site_commands.approval import app
from tests.privacy.test_approval import ASKED, MARK

Site = Callable[..., Result]


@pytest.fixture
def approvals(tmp_path: Path) -> Approvals:
    return Approvals.open(tmp_path)


@pytest.fixture
def site(tmp_path: Path, approvals: Approvals) -> Site:
    def run(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, [*arguments, "--state", str(tmp_path)])
        assert result.exit_code == code, result.output
        return result

    return run


def test_what_waits_is_listed_and_shown(site: Site, approvals: Approvals) -> None:
    assert site("pending").output == "no study waits for approval\n"
    approvals.ask(ASKED)
    line = site("pending").output
    assert line.startswith(MARK[:12])
    assert "Blood pressure by sex (asked by ada, project cardio)" in line
    told = site("show", MARK[:6]).output
    for said in (MARK, ASKED.question, ASKED.sql, ASKED.leaves, ASKED.cost, ASKED.study):
        assert said in told
    for said in (ASKED.digest, ASKED.code_digest, "ada", "cardio", "pending"):
        assert said in told


def test_a_study_is_approved_refused_and_revoked(site: Site, approvals: Approvals) -> None:
    approvals.ask(ASKED)
    assert "approved for one run: Blood pressure by sex" in site("approve", MARK[:8]).output
    assert "one run, until 20" in site("show", MARK[:8]).output
    assert "approved for 30 days" in site("approve", MARK[:8], "--days", "30").output
    assert approvals.state(MARK) == "approved"
    assert site("pending").output == "no study waits for approval\n"
    assert "approved" in site("pending", "--all").output
    site("refuse", MARK[:8], "--reason", "No ethics approval.")
    told = site("show", MARK[:8]).output
    assert "No ethics approval." in told
    assert "refused" in told
    assert "waits again" in site("revoke", MARK[:8]).output
    assert approvals.state(MARK) == "pending"


def test_a_stranger_writes_no_line_of_ours(site: Site, approvals: Approvals) -> None:
    hostile = "\x1b[2K\rnice\ncost          nothing\u202e"
    approvals.ask(replace(ASKED, study_name=hostile, question=hostile, sql=hostile))
    mark = approvals.pending()[0].fingerprint
    for told in (site("pending").output, site("show", mark).output, site("approve", mark).output):
        assert "\x1b" not in told
        assert "\u202e" not in told
        assert "\r" not in told
        assert "\ncost          nothing" not in told
    assert len(site("pending", "--all").output.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "0000"], "No study"),
        (["approve", "zz"], "A fingerprint is"),
        (["approve", MARK, "--days", "0"], "1 to 366 days"),
        (["refuse", MARK, "--reason", ""], "printable"),
    ],
)
def test_what_cannot_be_done_says_why(
    site: Site, approvals: Approvals, arguments: list[str], words: str
) -> None:
    approvals.ask(ASKED)
    result = site(*arguments, code=1)
    assert isinstance(result.exception, ConfigError)
    assert words in str(result.exception)
    assert approvals.state(MARK) == "pending"


def test_a_folder_without_approvals_is_not_made_one(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["pending", "--state", str(tmp_path / "typo")])
    assert isinstance(result.exception, ConfigError)
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("name", ["pending", "show", "approve", "refuse", "revoke"])
def test_each_command_has_an_example(name: str) -> None:
    told = CliRunner().invoke(app, [name, "--help"])
    assert told.exit_code == 0
    assert f"Example: federated-analytics site {name}" in " ".join(told.output.split())
