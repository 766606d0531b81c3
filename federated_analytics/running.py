"""Run a study from Python: over databases in this process, or over a Flower federation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from federated_analytics.errors import ConfigError
from federated_analytics.federation import DEFAULT_DEADLINE_SECONDS, Event, Terms, run_study

if TYPE_CHECKING:
    from federated_analytics.privacy.policy import Policy
    from federated_analytics.report.result import Result
    from federated_analytics.study import Study


def run(
    study: Study | str | Path,
    *,
    sites: Sequence[str] = (),
    superlink: str | None = None,
    policy: Policy | str | Path | None = None,
    min_sites: int = 2,
    deadline_seconds: float = DEFAULT_DEADLINE_SECONDS,
    on_progress: Callable[[Event], None] | None = None,
    **options: Any,
) -> Result:
    """Run a study and return its result.

    Args:
        study: a `Study`, or the path of a study file.
        sites: URLs of databases to ask in this process; the caller holds their credentials, so
            the policy is hers too.
        superlink: instead, the name of a connection in Flower's config.toml, or HOST:PORT.
        policy: for `sites`: a Policy or the path of one; the strict one where left out, with
            `min_sites` as its own.
        options: for `superlink`, as of `submit.submit`.
    Raises:
        FederatedAnalyticsError: with a code, the place and a remedy.

    Example:
        >>> run("studies/demo.toml", sites=[URL_A, URL_B]).to_pandas()    # doctest: +SKIP
    """
    from federated_analytics.study import Study

    if not isinstance(study, Study):
        study = Study.load(study)
    _check_where(sites, superlink, secure=bool(options.get("secure")))
    if superlink:
        from federated_analytics.submit import submit

        return submit(
            study,
            superlink=superlink,
            min_sites=min_sites,
            deadline_seconds=deadline_seconds,
            on_progress=on_progress,
            **options,
        )
    terms = Terms(min_sites, deadline_seconds)
    return run_study(study, _in_process(sites, policy, min_sites), terms, on_progress=on_progress)


def _check_where(sites: Sequence[str], superlink: str | None, *, secure: bool) -> None:
    if bool(sites) == bool(superlink):
        raise ConfigError(
            "A study needs either sites or a SuperLink.",
            where="run",
            remedy="Give --site URL for each database, or --superlink NAME.",
        )
    if secure and not superlink:
        raise ConfigError(
            "Databases in this process have no keys of their own to mask their numbers with.",
            where="run: secure",
            remedy="Leave --secure out, or ask sites with a service through --superlink.",
        )


def _in_process(sites: Sequence[str], policy: Policy | str | Path | None, min_sites: int) -> Any:
    from federated_analytics.couriers import InProcessCourier
    from federated_analytics.omop.database import database_url
    from federated_analytics.privacy.policy import Policy
    from federated_analytics.site import Site

    if policy is None:
        policy = Policy(min_sites=min_sites)
    elif not isinstance(policy, Policy):
        policy = Policy.load(Path(policy))
    names = [f"site-{i}" for i in range(1, len(sites) + 1)]
    made = [
        Site(database_url(url), policy, name=name) for name, url in zip(names, sites, strict=True)
    ]
    return InProcessCourier({site.name: site.answer for site in made})
