"""The end of an analysis at its sites from outside, where its own hub is gone."""

from __future__ import annotations

import json
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
COPIES = 64
"""More than the letters that wait in one message of a hub for a node that is told to stop."""
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

    Letters are taken in order alone, so each site is first asked how far it has taken them.

    Returns:
        "stopped", or the code of the refusal: `unknown_analysis_run` where none runs.
    """
    begun = _carried(courier, dict.fromkeys(courier.addresses(), stop_request(analysis)))
    bodies = {
        address: wire.encode_request(
            Request(_stop(analysis, said, reason).to_json(), 2, analysis, SECONDS, "flame")
        )
        for address, said in begun.items()
        if said.refusal is None
    }
    told = _carried(courier, bodies)
    return {
        said.site or address: "stopped"
        if address in told and told[address].refusal is None
        else _code(told.get(address, said))
        for address, said in begun.items()
    }


def _stop(analysis: str, said: Disclosure, reason: str) -> Pump:
    """Letters that stop a node, behind those that it has taken.

    The same letter under many numbers: a message of the hub's that was still on its way may have
    taken the first of them meanwhile.
    """
    first = int(json.loads(said.exchange)["confirmed"]) + 1
    letter = {"kind": "stop", "reason": reason}
    letters = [[number, letter] for number in range(first, first + COPIES)]
    return Pump(analysis, {"confirmed": 0, "letters": letters})


def _carried(courier: Courier, bodies: Mapping[str, bytes]) -> dict[str, Disclosure]:
    found: dict[str, Disclosure] = {}
    for reply in courier.exchange(bodies, time.monotonic() + SECONDS) if bodies else ():
        try:
            found[reply.address] = wire.decode_release(released(reply.body or b""))
        except FederatedAnalyticsError:
            continue  # a site that does not answer notices by itself that its hub is gone
    return found


def _code(said: Disclosure) -> str:
    return said.refusal.code if said.refusal is not None else "no_answer"
