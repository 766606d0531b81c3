"""`federated-analytics site pending|show|approve|refuse|revoke`: a person decides on a study."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from federated_analytics.privacy.approval import Approvals
    from federated_analytics.privacy.asked import Entry

app = typer.Typer(no_args_is_help=True, help="Studies that wait for a person's approval.")

State = Annotated[Path, typer.Option(help="The site's site.toml, or its state folder.")]
Fingerprint = Annotated[
    str, typer.Argument(help="Of the study; its first characters do, from 4 on.")
]
_STATE = Path("state")


@app.command(epilog="Example: federated-analytics site pending --state /var/lib/hospital-a")
def pending(
    state: State = _STATE,
    every: Annotated[bool, typer.Option("--all", help="Also those decided on.")] = False,
) -> None:
    """List the studies that wait for approval, the oldest first."""
    approvals = _approvals(state)
    entries = approvals.all() if every else approvals.pending()
    if not entries:
        print("no study was asked for" if every else "no study waits for approval")
    for entry in entries:
        print(_line(entry))


@app.command(epilog="Example: federated-analytics site show 3f9a1c04")
def show(fingerprint: Fingerprint, state: State = _STATE) -> None:
    """Show a study: the question, its SQL, what would leave, its cost, and who asks."""
    print(_described(_approvals(state).find(fingerprint)))


@app.command(epilog="Example: federated-analytics site approve 3f9a1c04 --days 30")
def approve(
    fingerprint: Fingerprint,
    days: Annotated[
        int | None, typer.Option(help="Days that it may run in; without it, for one run.")
    ] = None,
    state: State = _STATE,
) -> None:
    """Let a study run: once, or during some days. Any changed byte of it asks again."""
    from federated_analytics.privacy.asked import operator

    entry = _approvals(state).approve(fingerprint, operator(), days)
    span = "one run" if days is None else f"{days} days"
    print(f"approved for {span}: {_name(entry)}")


@app.command(
    epilog='Example: federated-analytics site refuse 3f9a1c04 --reason "No ethics approval."'
)
def refuse(
    fingerprint: Fingerprint,
    reason: Annotated[str, typer.Option(help="The analyst reads it; at most 200 characters.")],
    state: State = _STATE,
) -> None:
    """Refuse a study, also one that was approved."""
    from federated_analytics.privacy.asked import operator

    print(f"refused: {_name(_approvals(state).refuse(fingerprint, operator(), reason))}")


@app.command(epilog="Example: federated-analytics site revoke 3f9a1c04")
def revoke(fingerprint: Fingerprint, state: State = _STATE) -> None:
    """Take a decision back: the study waits again, and a run that has begun stops."""
    from federated_analytics.privacy.asked import operator

    print(f"waits again: {_name(_approvals(state).revoke(fingerprint, operator()))}")


def _approvals(state: Path) -> Approvals:
    from federated_analytics.errors import ConfigError
    from federated_analytics.privacy.audit import Audit
    from federated_analytics.privacy.ledger import Ledger
    from federated_analytics.site_config import SiteConfig
    from federated_analytics.site_state import audited_approvals

    if state.suffix == ".toml":
        state = SiteConfig.load(state).state
    # An operator who mistypes the folder is not to see an empty list that was just made.
    if not (state / "approvals.sqlite").is_file():
        raise ConfigError(
            "This folder holds no site's approvals.",
            where="--state",
            remedy="Give the site.toml, or the state folder, of a site whose service has started.",
        )
    return audited_approvals(state, Audit.open(state, Ledger.open(state)))


def _line(entry: Entry) -> str:
    from federated_analytics.privacy.asked import shown

    asked = entry.asked
    words = f"{asked.study_name} (asked by {asked.analyst}, project {asked.project})"
    state = entry.state_at(time.time())
    return (
        f"{entry.fingerprint[:12]}  {_date(asked.asked_at)}  "
        f"{'ended' if state == 'unknown' else state:8}  {' '.join(shown(words).split())}"
    )


def _described(entry: Entry) -> str:
    from federated_analytics.privacy.asked import shown

    asked = entry.asked
    state = entry.state_at(time.time())
    facts = {
        "fingerprint": entry.fingerprint,
        "study": asked.study_name,
        "analyst": asked.analyst,
        "project": asked.project,
        "asked": _date(asked.asked_at),
        "request": f"SHA-256 {asked.digest}",
        "code": f"SHA-256 {asked.code_digest}",
        "cost": asked.cost,
        "state": "ended" if state == "unknown" else state,
    }
    if entry.decided_at is not None:
        facts["decided"] = f"{_date(entry.decided_at)} by {entry.decided_by}"
    if entry.reason:
        facts["reason"] = entry.reason
    if state == "approved":
        until = f"until {_date(entry.valid_until or 0)}"
        facts["approved for"] = (
            f"one run, {until}" if entry.days is None else f"{entry.days} days, {until}"
        )
    lines = [f"{name:13} {' '.join(shown(text).split())}" for name, text in facts.items()]
    for title, text in (
        ("The question", asked.question),
        ("What would leave the site", asked.leaves),
        ("The SQL that would run", asked.sql),
        ("The study as it was sent", asked.study),
    ):
        # Indented: no line of a stranger's text can pass for a line of ours.
        body = "\n".join(f"    {line}" for line in shown(text).splitlines())
        lines += ["", title, body]
    return "\n".join(lines)


def _name(entry: Entry) -> str:
    from federated_analytics.privacy.asked import shown

    name = " ".join(shown(entry.asked.study_name).split())
    return f"{name} ({entry.fingerprint[:12]})"


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
