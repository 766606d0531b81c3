"""`federated-analytics site running|cancel`: what the service works on, and how to end it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from federated_analytics.privacy.running import RunningStudies

app = typer.Typer(no_args_is_help=True, help="Studies that the service works on.")

State = Annotated[Path, typer.Option(help="The site's site.toml, or its state folder.")]
_STATE = Path("state")


@app.command(epilog="Example: federated-analytics site running --state site.toml")
def running(state: State = _STATE) -> None:
    """List the studies that the service works on, the oldest first."""
    from federated_analytics.privacy.asked import shown

    found = _running(state).all()
    for one in found:
        began = datetime.fromtimestamp(one.started_at, UTC)
        words = f"{one.asked} (asked by {one.analyst}, project {one.project})"
        mark = "  is being cancelled" if one.cancelled_by else ""
        print(
            f"{one.request[:12]}  {began:%Y-%m-%d %H:%M:%S} UTC  "
            f"{' '.join(shown(words).split())}{mark}"
        )
    if not found:
        print("no study runs")


@app.command(epilog='Example: federated-analytics site cancel 3f9a1c04 --reason "Maintenance."')
def cancel(
    request: Annotated[
        str, typer.Argument(help="Of `site running`; its first characters do, from 4 on.")
    ],
    reason: Annotated[str, typer.Option(help="The analyst reads it; at most 200 characters.")] = "",
    state: State = _STATE,
) -> None:
    """End a study that the service works on, and its query in the database; nothing leaves."""
    from federated_analytics.privacy.asked import operator, shown

    one = _running(state).cancel(request, operator(), reason)
    print(f"cancelled: {' '.join(shown(one.asked).split())} ({one.request[:12]})")


def _running(state: Path) -> RunningStudies:
    from federated_analytics.errors import ConfigError
    from federated_analytics.privacy.running import RunningStudies
    from federated_analytics.site_config import SiteConfig

    if state.suffix == ".toml":
        state = SiteConfig.load(state).state
    # An operator who mistypes the folder is not to see an empty list that was just made.
    if not (state / "running.sqlite").is_file():
        raise ConfigError(
            "This folder is no state of a site whose service runs.",
            where="--state",
            remedy="Give the site.toml, or the state folder, of a site whose service has started.",
        )
    return RunningStudies.open_folder(state)
