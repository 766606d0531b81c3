"""`federated-analytics site audit …`: what was asked, decided and released."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from federated_analytics.privacy.audit import Audit

app = typer.Typer(no_args_is_help=True)
ConfigFile = Annotated[Path, typer.Argument(help="site.toml, or a state folder.")]


@app.command("list", epilog="Example: federated-analytics site audit list site.toml")
def list_(
    config: ConfigFile,
    last: Annotated[int, typer.Option(min=1, help="How many of the last lines.")] = 20,
) -> None:
    """List the last events, a line each."""
    from federated_analytics.privacy.asked import shown

    for line in deque(_audit(config).lines(), maxlen=last):
        names = {"refused": ["code"], "cancelled": ["study_name", "code"]}
        of = names.get(line["decision"], ["study_name"])
        what = ", ".join(str(line[name]) for name in of if line.get(name))
        who = line.get("analyst") or line.get("by") or "-"
        text = f"{line['line']:>6}  {line['time']}  {line['decision']:<9}  {who}  {what}"
        print(" ".join(shown(text).splitlines()))


@app.command(epilog="Example: federated-analytics site audit show site.toml 12")
def show(
    config: ConfigFile, number: Annotated[int, typer.Argument(help="The line's number.")]
) -> None:
    """Print one event in full, with the exact bytes that left, read."""
    from federated_analytics import wire
    from federated_analytics.errors import ConfigError
    from federated_analytics.signing import is_signed_reply, unverified_reply

    audit = _audit(config)
    found = next((line for line in audit.lines() if line["line"] == number), None)
    if found is None:
        raise ConfigError(f"The audit has no line {number}.", where="NUMBER")
    print(json.dumps(found, indent=2))
    if "released" in found:
        body = audit.read_released(str(found["released"]))
        release = unverified_reply(body).release if is_signed_reply(body) else body
        print(json.dumps(wire.to_plain(wire.decode_release(release)), indent=1))


@app.command(epilog="Example: federated-analytics site audit verify site.toml")
def verify(config: ConfigFile) -> None:
    """Find any line that was changed, dropped or reordered; ends with 1 where there is one."""
    audit = _audit(config)
    problems = audit.verify()
    for problem in problems:
        print(f"line {problem.line}: {problem.text}" if problem.line else problem.text)
    if problems:
        raise typer.Exit(1)
    print(f"{sum(1 for _ in audit.lines())} lines, whole and in order")


@app.command(epilog="Example: federated-analytics site audit export site.toml > audit.jsonl")
def export(config: ConfigFile) -> None:
    """Print every line that can be read, as it stands, for another system to keep."""
    from federated_analytics.privacy.audit_lines import to_text

    for line in _audit(config).lines():
        print(to_text(line).decode(), end="")


def _audit(config: Path) -> Audit:
    """Opened without the check against the ledger: what does not fit is to be shown."""
    from federated_analytics.errors import ConfigError
    from federated_analytics.privacy.audit import Audit
    from federated_analytics.privacy.ledger import Ledger
    from federated_analytics.site_config import SiteConfig

    folder = config if config.is_dir() else SiteConfig.load(config).state
    # A mistyped folder is not to be an empty audit, whole and in order.
    if not any((folder / name).is_file() for name in ("audit.jsonl", "ledger.sqlite")):
        raise ConfigError(
            "The site's state folder holds no audit.",
            where=f"{config.name}: site.state",
            remedy="Give the site.toml of a site whose service has started, or a FedMed server's "
            "state folder.",
        )
    return Audit(folder, Ledger.open(folder))
