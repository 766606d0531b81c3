"""Where a request goes at a site: studies, expressions over fragments, steps of scripts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from federated_analytics import __version__, site, wire
from federated_analytics.errors import FederatedAnalyticsError, RequestRefused
from federated_analytics.privacy.policy import refuse

log = logging.getLogger(__name__)


class NeedsService(RequestRefused):
    """A request that a site without its own service cannot answer."""

    code = "needs_site_service"
    default_remedy = (
        "The site operator starts `federated-analytics site serve site.toml` and gives the "
        "SuperNode --node-config='site-service=\"unix:…\"'."
    )


def answer(node_config: Mapping[str, Any], body: bytes) -> bytes:
    """Everything that a ClientApp does: never raises."""
    if node_config.get("site-service"):
        return site.answer(node_config, body)
    try:
        kind = wire.decode_request(body).kind
        if kind == "fedmed":
            from federated_analytics.fedmed.over_flower import answer_at_node

            return answer_at_node(node_config, body)
        if kind == "secure":
            raise NeedsService("A secure sum needs keys that outlive a round.")
        if kind == "flame":
            raise NeedsService("A script needs a process of the site's own that outlives a round.")
        if kind != "study":
            from federated_analytics.request_kinds import UnknownKind

            raise UnknownKind("The site does not answer requests of this kind.")
    except FederatedAnalyticsError as error:
        log.warning("refused: %s", error.code)
        name = str(node_config.get("site", ""))[:100]
        refusal = site.as_refusal(error)
        release = refuse(refusal, site=name, study="", round=0, version=__version__)
        return wire.encode_release(release)
    return site.answer(node_config, body)
