"""Errors of `flame.omop` and `flame.aggregate`, as scripts see them."""

from __future__ import annotations

from federated_analytics.flame.errors import FlameError


class NoOmopDatabase(FlameError, LookupError):
    """A node that has no OMOP database."""

    code = "no_omop_database"
    default_remedy = (
        "On one machine, write a site.toml into the node's folder of --data; on a federation the "
        "site's own configuration names its database."
    )


class UnknownOmopAnalysis(FlameError, ValueError):
    code = "unknown_analysis"
    default_remedy = "flame.omop.analyses() lists them."


class RefusedBySite(FlameError, PermissionError):
    """The site answered nothing of what was asked; the code and the remedy are the site's."""

    code = "refused_by_site"


class NotARelease(FlameError, ValueError):
    """What a script hands over as a release and no site has made."""

    code = "not_a_release"
    default_remedy = (
        "Hand over what flame.omop returned at this node, or at the aggregator what "
        "flame.aggregate.await_releases returned."
    )


class NoReleases(FlameError, LookupError):
    """Nothing has come that could be merged."""

    code = "no_releases"
    default_remedy = (
        "Call the same flame.aggregate method with the same arguments at the data nodes; the "
        "nodes' states and the log say why one ended."
    )


class ReleaseTooLarge(FlameError, ValueError):
    code = "release_too_large"
    default_remedy = "Ask for fewer features or strata at once."
