"""The operator lists, reads, verifies and exports the audit at the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from federated_analytics import wire
from federated_analytics.errors import ConfigError, FederatedAnalyticsError, LedgerError
from federated_analytics.messages import Refusal
from federated_analytics.privacy.audit import Audit
from federated_analytics.privacy.ledger import Ledger
from federated_analytics.privacy.policy import refuse
from federated_analytics.signing import SigningKey, sign_reply
from federated_analytics.site_commands.audit import app

Site = Callable[..., Result]
CONFIG = '[site]\nname = "hospital-a"\n[database]\nurl = "postgresql://nobody@127.0.0.1:1/none"\n'
RELEASE = wire.encode_release(
    refuse(
        Refusal("site_busy", "", "Busy.", "Later."),
        site="hospital-a",
        study="",
        round=0,
        version="1",
    )
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "site.toml"
    file.write_text(CONFIG)
    return file


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    state = tmp_path / "state"
    audit = Audit.open(state, Ledger.open(state))
    audit.append({"decision": "refused", "code": "nonce_reused", "analyst": "ann"})
    event = {"decision": "released", "code": "c" * 64, "study_name": "Age \x1b[2J\nby sex"}
    audit.append({**event, "analyst": "ann"}, RELEASE)
    audit.append({"decision": "approved", "study_name": "Height", "by": "dr-who"})
    return audit


@pytest.fixture
def site(config: Path, audit: Audit) -> Site:
    def run(*arguments: str, code: int = 0) -> Result:
        command, *rest = arguments
        result = CliRunner().invoke(app, [command, str(config), *rest])
        assert result.exit_code == code, result.output
        return result

    return run


def test_the_last_events_are_listed_a_line_each(site: Site) -> None:
    lines = site("list").output.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert "refused    ann  nonce_reused" in lines[0]
    assert "released   ann  Age \\x1b[2J by sex" in lines[1]
    assert "approved   dr-who  Height" in lines[2]
    assert site("list", "--last", "1").output == lines[2] + "\n"


def test_an_event_is_shown_with_what_left(site: Site) -> None:
    shown = site("show", "2").output
    assert '"decision": "released"' in shown
    assert '"hospital-a"' in shown
    assert "site_busy" in shown
    assert "\x1b" not in shown


def test_a_signed_release_is_shown_too(site: Site, audit: Audit) -> None:
    body = sign_reply(RELEASE, SigningKey.new(), request="a" * 64, site="hospital-a")
    audit.append({"decision": "released"}, body)
    assert "site_busy" in site("show", "4").output


def test_a_line_that_is_not_there_is_refused(site: Site) -> None:
    error = site("show", "9", code=1).exception
    assert isinstance(error, ConfigError)
    assert "no line 9" in error.message


def test_what_left_is_not_shown_where_it_was_changed(site: Site, audit: Audit) -> None:
    digest = list(audit.lines())[1]["released"]
    audit.released(digest).write_bytes(b"changed")
    assert isinstance(site("show", "2", code=1).exception, LedgerError)
    audit.released(digest).unlink()
    assert isinstance(site("show", "2", code=1).exception, LedgerError)


def test_a_whole_audit_is_verified(site: Site) -> None:
    assert site("verify").output == "3 lines, whole and in order\n"


def test_a_changed_line_is_named(site: Site, audit: Audit) -> None:
    text = audit.path.read_bytes()
    audit.path.write_bytes(text.replace(b"nonce_reused", b"bad_signature"))
    assert "line 1: the line was changed\n" in site("verify", code=1).output
    audit.path.write_bytes(text[: text.index(b"\n") + 1])
    assert "lines after 1 are missing" in site("verify", code=1).output
    site("list")


def test_what_is_exported_is_the_audit(site: Site, audit: Audit) -> None:
    exported = site("export").output
    assert exported.encode() == audit.path.read_bytes()
    assert [json.loads(line)["line"] for line in exported.splitlines()] == [1, 2, 3]


@pytest.mark.parametrize("command", [["list"], ["show", "1"], ["verify"], ["export"]])
def test_a_site_that_never_started_has_no_audit(config: Path, command: list[str]) -> None:
    result = CliRunner().invoke(app, [command[0], str(config), *command[1:]])
    assert isinstance(result.exception, FederatedAnalyticsError)
    assert "holds no audit" in str(result.exception)
    assert str(config.parent) not in str(result.exception)
    assert not (config.parent / "state").exists()


@pytest.mark.parametrize("command", ["list", "show", "verify", "export"])
def test_every_command_has_an_example(command: str) -> None:
    said = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "160"}).output
    assert f"Example: federated-analytics site audit {command} site.toml" in said
