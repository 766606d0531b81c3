"""One site's letters, carried by Flower: brought and fetched, again and again.

A message costs seconds, whatever it carries: a SuperNode asks for work every 3 s and starts a
process for each. So a node is asked as soon as something waits for it, and otherwise less and
less often; whatever waits travels together. A site that is away for a while (its service
restarts) is asked again: no letter is forgotten before the other side has confirmed it.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from federated_analytics import wire
from federated_analytics.couriers import Courier
from federated_analytics.errors import (
    ConfigError,
    FederatedAnalyticsError,
    SiteBusy,
    SiteFailed,
    WireError,
)
from federated_analytics.exchange import released
from federated_analytics.flame.carried_objects import CarryingRouter
from federated_analytics.flame.order import Pump
from federated_analytics.flame.post import Post
from federated_analytics.messages import Disclosure, Refusal, Request

BUNDLE_BYTES = 1_500_000
"""Of letters in one message to a site; less than a service takes as one request."""
PUMP_SECONDS = 60.0
"""After so long without an answer a pump is sent again."""
LOST_SECONDS = 240.0
"""A site that has answered no pump for so long is absent."""
AWAY_SECONDS = 120.0
"""A service that its SuperNode has not reached for so long is absent; workers wait half of it."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 6.0
AWAY = frozenset({ConfigError.code, SiteFailed.code, SiteBusy.code})
"""Codes of refusals that a service which is stopped, starting or overloaded explains."""


@dataclass
class Hub:
    """What all pumps of one analysis share.

    Args:
        post: its lock is held while the router is used.
        stopping: set when no letter is carried any more.
    """

    analysis: str
    courier: Courier
    router: CarryingRouter
    post: Post
    stopping: threading.Event

    def received(self, node: str, said: Disclosure) -> bool:
        """Take a node's letters; whether there were any."""
        try:
            bundle = json.loads(said.exchange)
            with self.post.lock():
                self.router.receive(node, bundle)
        except (FederatedAnalyticsError, ValueError, KeyError, TypeError) as error:
            code = error.code if isinstance(error, FederatedAnalyticsError) else "invalid_message"
            self.gone(node, f"the site sent letters that cannot be read ({code})", "failed")
            return False
        self.post.deliver()
        return bool(bundle["letters"])

    def gone(self, node: str, reason: str, status: str = "absent") -> None:
        """Nothing more comes from a node."""
        with self.post.lock():
            self.router.set_status(node, status, reason)
        self.post.deliver()


@dataclass
class SitePump:
    """Carries between the hub and one node, until that is over."""

    hub: Hub
    address: str
    node: str

    def run(self) -> None:
        pause, number, answered = FIRST_PAUSE_SECONDS, 0, time.monotonic()
        while not self.hub.stopping.is_set() and not self._record.gone:
            number += 1
            with self.hub.post.lock():
                bundle = self.hub.router.bundle_for(self.node, BUNDLE_BYTES)
            said = self._exchanged(bundle, number)
            refusal = said.refusal if said is not None else None
            if said is None or refusal is not None:
                if self._gave_up(refusal, time.monotonic() - answered):
                    return
                pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)
                self.hub.stopping.wait(pause)
                continue
            answered = time.monotonic()
            busy = self.hub.received(self.node, said) or bool(bundle["letters"])
            pause = FIRST_PAUSE_SECONDS if busy else min(pause * 1.5, LONGEST_PAUSE_SECONDS)
            self._rest(pause)

    def _gave_up(self, refusal: Refusal | None, silent_seconds: float) -> bool:
        """Whether a site that has not taken its letters is not asked again."""
        if refusal is None:
            if silent_seconds > LOST_SECONDS:
                self.hub.gone(self.node, "the site does not answer any more")
            return silent_seconds > LOST_SECONDS
        if refusal.code not in AWAY:
            self.hub.gone(self.node, reason_of(refusal), "failed")
            return True
        if silent_seconds > AWAY_SECONDS:
            self.hub.gone(self.node, f"the site's service is away; {reason_of(refusal)}")
        return silent_seconds > AWAY_SECONDS

    @property
    def _record(self) -> Any:
        return self.hub.router.nodes[self.node]

    def _rest(self, seconds: float) -> None:
        """Until something waits for the node, at most this long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.hub.stopping.is_set():
            with self.hub.post.lock():
                if self.node in self.hub.router.with_traffic():
                    return
            time.sleep(0.05)

    def _exchanged(self, bundle: Mapping[str, Any], number: int) -> Disclosure | None:
        text = Pump(self.hub.analysis, bundle, 1.0).to_json()
        request = Request(text, number, self.hub.analysis, PUMP_SECONDS, "flame")
        asked = {self.address: wire.encode_request(request)}
        for reply in self.hub.courier.exchange(asked, time.monotonic() + PUMP_SECONDS):
            if reply.body:
                with contextlib.suppress(WireError):
                    return disclosed(reply.body)
        return None


def reason_of(refusal: Refusal) -> str:
    return f"{refusal.code}: {refusal.message} {refusal.remedy}".strip()


def disclosed(body: bytes | None) -> Disclosure:
    """What a site said; WireError where that cannot be read."""
    return wire.decode_release(released(body or b""))
