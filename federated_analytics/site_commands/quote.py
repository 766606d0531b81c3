"""`federated-analytics quote`: what a study would cost where sites answer with noise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from federated_analytics.messages import Terms


def quote(
    study: Annotated[Path, typer.Argument(help="A study file (TOML).")],
    policy: Annotated[
        Path | None, typer.Option(help="The site's policy file, or its site.toml.")
    ] = None,
    superlink: Annotated[
        str, typer.Option(help="Instead: ask the connected sites for their policies' terms.")
    ] = "",
    left: Annotated[
        float | None,
        typer.Option(min=0, help="ε that is left of your budget, as the site's last answer says."),
    ] = None,
) -> None:
    """Print what a study would cost in ε, and how wide its noise would be. Nothing is spent."""
    from federated_analytics.quote import quote as quoted
    from federated_analytics.quote import to_text
    from federated_analytics.study import Study

    asked = Study.load(study)
    for site, terms in _terms(policy, superlink):
        if site:
            print(f"{site}:")
        if terms.mode == "dp":
            print(to_text(quoted(asked, terms, left)), end="")
        else:
            print("Nothing is charged: the policy answers with exact numbers, without noise.")


def _terms(policy: Path | None, superlink: str) -> list[tuple[str, Terms]]:
    """Each site's name and the public part of its policy."""
    from federated_analytics.errors import ConfigError

    if superlink and policy is None:
        from federated_analytics.submit import ask_terms

        found = [(one.site, one.terms) for one in ask_terms(superlink)]
        return [(site, terms) for site, terms in found if terms is not None]
    if policy is None or superlink:
        raise ConfigError("Whose policy?", remedy="Give one of --policy and --superlink.")
    return [("", _in_file(policy))]


def _in_file(path: Path) -> Terms:
    """The terms of a policy file, or of the policy in a `site.toml`."""
    import tomllib
    from contextlib import suppress

    from federated_analytics.privacy.policy import Policy
    from federated_analytics.site_config import SiteConfig

    with suppress(OSError, ValueError):  # what is no TOML is said by who loads it, below
        if "site" in tomllib.loads(path.read_text(encoding="utf-8")):
            return SiteConfig.load(path).policy.terms
    return Policy.load(path).terms
