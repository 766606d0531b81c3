"""What a site does not go along with, and what the server cannot finish."""

from __future__ import annotations

from federated_analytics.errors import FederationError, RequestRefused, StudyError


class NotAdditive(StudyError):
    """An analysis whose cells cannot be added up behind masks."""

    code = "not_additive"
    default_remedy = "Leave it out, or run the study without secure aggregation."


class UnknownPeer(RequestRefused):
    """A site in the list whose key this one has not been given."""

    code = "unknown_peer"
    default_remedy = (
        "The site operators exchange their public keys: `federated-analytics site key`."
    )


class AlteredPeer(RequestRefused):
    """A message that is not as the site it names signed it."""

    code = "altered_peer"
    default_remedy = "Run the study again; if it stays so, the site operators compare their keys."


class TooFewPeers(RequestRefused):
    """Sums over so few sites would tell of one of them."""

    code = "too_few_peers"
    default_remedy = "Run the study again when more of its sites can be reached."


class AskedTwice(RequestRefused):
    """A step that was answered is asked again with other words."""

    code = "asked_twice"
    default_remedy = "Run the study again."


class OtherSites(RequestRefused):
    """The same question over other sites: the difference would be one site's own answer."""

    code = "other_sites"
    default_remedy = "Ask it over the same sites as before, or with noise."


class NoSuchRun(RequestRefused):
    """Keys of this run are not held here: it never started, expired, or was given up."""

    code = "no_such_run"
    default_remedy = "Run the study again: a site keeps a run's keys in memory, for an hour."


class Working(RequestRefused):
    """Not an error: the answer is being made, and is fetched by the same request."""

    code = "working"
    default_remedy = "The same request is sent again, and is answered once."


class UnmaskingFailed(FederationError):
    """What the sites sent does not add up."""

    code = "unmasking_failed"
    default_remedy = "Run the study again; use one version of federated_analytics everywhere."
