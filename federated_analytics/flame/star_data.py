"""What an analyzer of the star pattern is given, and how its part travels, by the type of data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from federated_analytics.flame.errors import FlameError, InvalidArgument

if TYPE_CHECKING:
    from federated_analytics.flame.omop import SiteRelease
    from federated_analytics.flame.sdk import FlameCoreSDK

DataType = Literal["fhir", "s3", "omop"]


class NodeMissing(FlameError):
    """A node that ended, or never came, before it gave its part."""

    code = "node_missing"
    default_remedy = "Read that node's status and log, then run the analysis again."


def check_data_type(data_type: object) -> None:
    """InvalidArgument where there is no such type."""
    if data_type not in ("fhir", "s3", "omop"):
        raise InvalidArgument(
            f"{data_type!r} is no type of data.",
            where="data_type",
            remedy="Use 'fhir', 's3' or 'omop'.",
        )


def data_of(flame: FlameCoreSDK, data_type: DataType, queries: list[str]) -> Any:
    """What `analysis_method` is given; of "omop", `flame.omop` itself."""
    if data_type == "omop":
        return flame.omop
    return flame.get_fhir_data(queries) if data_type == "fhir" else flame.get_s3_data(queries)


def send_release(flame: FlameCoreSDK, receivers: Sequence[str], part: object) -> None:
    """Send an analyzer's part of "omop" data: its site's release, and nothing else.

    Raises:
        InvalidArgument: it is something else.
    """
    from federated_analytics.flame.omop import SiteRelease

    if not isinstance(part, SiteRelease):
        raise InvalidArgument(
            f"analysis_method returned a {type(part).__name__}.",
            where="data_type='omop'",
            remedy="Return what an analysis of flame.omop returns: data.summary(features=[…]).",
        )
    flame.aggregate.send(part, receivers)


def released_parts(flame: FlameCoreSDK, nodes: Sequence[str]) -> list[SiteRelease]:
    """The newest release of each node, in order; NodeMissing where one ended without."""
    found = flame.aggregate.await_releases(nodes)
    parts = []
    for node in nodes:
        held = found[node]
        if held is None:
            raise NodeMissing(f"Node {node!r} ended before it sent its part.", where=node)
        parts.append(held[-1])
    return parts
