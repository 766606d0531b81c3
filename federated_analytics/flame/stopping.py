"""The end of an analysis at its sites from outside, where its own hub is gone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from federated_analytics import wire
from federated_analytics.couriers import Courier
from federated_analytics.errors import FederatedAnalyticsError
from federated_analytics.exchange import released
from federated_analytics.flame.order import Pump
from federated_analytics.messages import Disclosure, Request

SECONDS = 60.0
_NOTHING: Mapping[str, Any] = {"confirmed": 0, "letters": []}


def stop_request(analysis: str) -> bytes:
    """What a ServerApp takes, unsigned, as the wish to end an analysis at every site.

    Args:
        analysis: its id, which the analyst drew and told nobody but her hub.
    """
    return wire.encode_request(
        Request(Pump(analysis, _NOTHING).to_json(), 1, analysis, SECONDS, "flame")
    )


def stop_at_sites(courier: Courier, analysis: str, reason: str) -> dict[str, str]:
    """Tell every site to end an analysis; what each site's node has come to, by its name.

    It travels beside the letters, which are the hub's alone to number.

    Returns:
        "stopped", or the code of the refusal: `unknown_analysis_run` where none runs.
    """
    text = Pump(analysis, _NOTHING, stop=reason).to_json()
    body = wire.encode_request(Request(text, 1, analysis, SECONDS, "flame"))
    told = _carried(courier, dict.fromkeys(courier.addresses(), body))
    return {
        said.site or address: "stopped" if said.refusal is None else said.refusal.code
        for address, said in told.items()
    }


def _carried(courier: Courier, bodies: Mapping[str, bytes]) -> dict[str, Disclosure]:
    found: dict[str, Disclosure] = {}
    for reply in courier.exchange(bodies, time.monotonic() + SECONDS) if bodies else ():
        try:
            found[reply.address] = wire.decode_release(released(reply.body or b""))
        except FederatedAnalyticsError:
            continue  # a site that does not answer notices by itself that its hub is gone
    return found
