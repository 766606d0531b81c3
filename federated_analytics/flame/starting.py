"""The signed order on its way to the sites, until each has begun or refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from federated_analytics.asking import NOT_YET, Asking
from federated_analytics.couriers import Courier, Reply
from federated_analytics.errors import SiteFailed, WireError
from federated_analytics.flame.errors import FlameError
from federated_analytics.flame.pump import AWAY, Hub, disclosed, reason_of
from federated_analytics.messages import Disclosure, Refusal
from federated_analytics.site_terms import introductions

AWAY_SECONDS = 30.0
"""A service that is away for longer when an analysis begins does not take part."""


class NoSuchSite(FlameError):
    """A node of the order that cannot take part."""

    code = "no_such_site"
    default_remedy = "Name connected sites: `federated-analytics site info` lists them."


def addresses_of(nodes: list[str], courier: Courier) -> dict[str, str]:
    """The node at each address; NoSuchSite for the first that is no connected site."""
    known = {one.site: address for address, one in introductions(courier).items()}
    for name in nodes:
        if name not in known:
            connected = ", ".join(sorted(known))
            raise NoSuchSite(
                f"{name!r} is no connected site; there are: {connected}.", where="--nodes"
            )
    return {known[node]: node for node in nodes}


@dataclass
class Starting:
    """Asks all sites at once; one that waits for a person holds no other up."""

    hub: Hub
    nodes: Mapping[str, str]
    say: Callable[[str], None]
    _settled: set[str] = field(default_factory=set, init=False)
    _waiting: dict[str, str] = field(default_factory=dict, init=False)
    _away_since: dict[str, float] = field(default_factory=dict, init=False)

    def run(self, signed: bytes, seconds: float) -> None:
        """Send the order; a site that has not begun after `seconds` is absent."""
        end = time.monotonic() + seconds
        asking = Asking(self.hub.courier, dict.fromkeys(self.nodes, signed), end)
        for reply in asking.replies():
            node = self.nodes.get(reply.address)
            if node is not None and node not in self._settled:
                self._take(node, reply, asking)
        for node in set(self.nodes.values()) - self._settled:
            self.hub.gone(node, self._waiting.get(node, "no answer") + " at the deadline")

    def _take(self, node: str, reply: Reply, asking: Asking) -> None:
        said = _read(reply.body)
        refusal = _unreadable() if said is None else said.refusal
        if said is not None and refusal is None:
            self._settled.add(node)
            self.hub.received(node, said)
        elif (
            refusal is not None and self._waits(node, refusal.code) and asking.again(reply.address)
        ):
            if self._waiting.get(node) != refusal.code:
                self.say(f"{refusal.code.replace('_', ' ')} at {node}: {refusal.message}")
            self._waiting[node] = refusal.code
        elif refusal is not None:
            self._settled.add(node)
            self.hub.gone(node, reason_of(refusal))

    def _waits(self, node: str, code: str) -> bool:
        if code in NOT_YET:
            self._away_since.pop(node, None)
            return True
        now = time.monotonic()
        return code in AWAY and now - self._away_since.setdefault(node, now) < AWAY_SECONDS


def _read(body: bytes | None) -> Disclosure | None:
    try:
        return disclosed(body)
    except WireError:
        return None


def _unreadable() -> Refusal:
    error = SiteFailed()
    return Refusal(error.code, "", error.message, error.remedy)
