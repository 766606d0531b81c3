"""Errors that a FLAME script can see; they cross the socket as code, message, place and remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from federated_analytics.errors import FederatedAnalyticsError


class FlameError(FederatedAnalyticsError):
    """Base of every error that a FLAME script, its node or its run can raise."""

    code = "flame_error"

    def __init__(
        self, message: str, *, where: str = "", remedy: str = "", code: str | None = None
    ) -> None:
        super().__init__(message, where=where, remedy=remedy)
        if code is not None:
            self.code = code


class InvalidPayload(FlameError, ValueError):
    """A message's payload that cannot be sent."""

    code = "invalid_payload"
    default_remedy = (
        "Send a dictionary of JSON values, or the data itself with send_intermediate_data."
    )


class MessageTooLarge(FlameError, ValueError):
    code = "message_too_large"
    default_remedy = "Send data of this size with send_intermediate_data."


class UnknownNode(FlameError, ValueError):
    code = "unknown_node"
    default_remedy = "Use the ids that get_participant_ids() lists."


class InvalidArgument(FlameError, ValueError):
    """An argument of an SDK method that has no meaning."""

    code = "invalid_argument"


class InvalidTag(InvalidArgument):
    code = "invalid_tag"
    default_remedy = "Use 1 to 32 lower-case letters and digits, in words joined by single hyphens."


class NotTheAggregator(FlameError, PermissionError):
    code = "not_the_aggregator"
    default_remedy = "Call it only where get_role() returns 'aggregator'."


class UnknownObject(FlameError, LookupError):
    code = "unknown_object"
    default_remedy = "Use an id that its sender gave you, on the node that it was saved for."


class UnknownTag(FlameError, LookupError):
    code = "unknown_tag"
    default_remedy = "get_local_tags() lists the tags of this project on this node."


class UnknownDataSource(FlameError, ValueError):
    code = "unknown_source"
    default_remedy = "get_data_sources() lists the ids."


class DataSourceFailed(FlameError):
    code = "data_source_failed"
    default_remedy = "The site operator looks at the data source and at the site's own log."


class BudgetSpent(FlameError, PermissionError):
    code = "budget_spent"
    default_remedy = "Ask for a larger error (a smaller epsilon), or for a larger budget."


class NodeUnavailable(FlameError, ConnectionError):
    """The node's service does not answer its worker."""

    code = "node_unavailable"
    default_remedy = "Run the script with `federated-analytics flame run SCRIPT.py`."


class AnalysisEnded(FlameError):
    """The analysis was stopped while a call was waiting."""

    code = "analysis_ended"
    default_remedy = "Nothing is left to do: end the script."


class Diverged(FlameError):
    """A replayed script asks for something else than it asked for when it was recorded."""

    code = "diverged"
    default_remedy = "Replay the script that was recorded, with its parameters."


class RunFailed(FlameError):
    """A run that could not be started."""

    code = "run_failed"


def _by_code() -> dict[str, type[FlameError]]:
    found: dict[str, type[FlameError]] = {}
    waiting: list[type[FlameError]] = [FlameError]
    while waiting:
        kind = waiting.pop()
        found.setdefault(kind.code, kind)
        waiting.extend(kind.__subclasses__())
    return found


def to_record(error: FederatedAnalyticsError) -> dict[str, str]:
    """An error as four texts, for the socket between a node and its worker."""
    return {
        "code": error.code,
        "message": error.message,
        "where": error.where,
        "remedy": error.remedy,
    }


def from_record(record: Mapping[str, Any]) -> FlameError:
    """The error behind a record; of its own class where the code is one of ours."""
    code = str(record.get("code", FlameError.code))
    kind = _by_code().get(code, FlameError)
    return kind(
        str(record.get("message", "")),
        where=str(record.get("where", "")),
        remedy=str(record.get("remedy", "")),
        code=code,
    )
