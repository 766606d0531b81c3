"""`federated-analytics site policy …`: what the site's policy is and does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)
ConfigFile = Annotated[Path, typer.Argument(help="The site's site.toml.")]


@app.command(epilog="Example: federated-analytics site policy check site.toml")
def check(config: ConfigFile) -> None:
    """Is the file valid? An error names the line, the reason and what to write instead."""
    from federated_analytics.site_config import SiteConfig

    loaded = SiteConfig.load(config)
    analysts = len(loaded.analyst)
    print(
        f"{config} is valid: site {loaded.site.name}, policy {loaded.policy.preset}, "
        f"{analysts} analyst{'' if analysts == 1 else 's'}."
    )


@app.command(epilog="Example: federated-analytics site policy show site.toml")
def show(config: ConfigFile) -> None:
    """Print the policy that is in force, every key of it, as TOML."""
    from federated_analytics.policy_page import toml_text
    from federated_analytics.site_config import SiteConfig

    print(toml_text(SiteConfig.load(config).policy), end="")


@app.command(epilog="Example: federated-analytics site policy explain site.toml")
def explain(config: ConfigFile) -> None:
    """Say in words what each rule does with the site's values, and what differs from the preset."""
    from federated_analytics.policy_page import explain as explained
    from federated_analytics.site_config import SiteConfig

    print(explained(SiteConfig.load(config).policy), end="")


@app.command(epilog="Example: federated-analytics site policy page > docs/policy.md")
def page() -> None:
    """Print the documentation of every key and preset, in Markdown."""
    from federated_analytics.policy_page import policy_page

    print(policy_page(), end="")
