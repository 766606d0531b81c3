"""A script over a Flower federation: the ServerApp as router, mailbox, store and aggregator."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from federated_analytics.couriers import Courier
from federated_analytics.flame.carried_objects import CarryingRouter, HubHere
from federated_analytics.flame.epsilon_ledger import RunBudget
from federated_analytics.flame.journal import Ended, Journal
from federated_analytics.flame.local_storage import LocalStorage
from federated_analytics.flame.node_host import NodeHost, NodeSettings
from federated_analytics.flame.node_place import LocalNode, Place
from federated_analytics.flame.order import ScriptOrder
from federated_analytics.flame.post import Post
from federated_analytics.flame.pump import Hub, SitePump
from federated_analytics.flame.reasons import at_limit
from federated_analytics.flame.router import Event
from federated_analytics.flame.starting import NoSuchSite, Starting, addresses_of
from federated_analytics.flame.worker_process import Limits

__all__ = ["Ended", "NoSuchSite", "run_script"]
_LOOK_SECONDS = 0.1
_END_SECONDS = 60.0
"""After the aggregator has ended, how long the others' last letters are waited for."""


def run_script(
    courier: Courier,
    order: ScriptOrder,
    signed: bytes,
    *,
    analysis: str,
    project: str,
    deadline_seconds: float,
    say: Callable[[str], None] = lambda line: None,
) -> Ended:
    """Run a script on the sites that it names, its aggregator in this process' machine.

    Args:
        signed: the analyst's signed request that holds the order.
        analysis: the request's `run`.
        deadline_seconds: how long the sites' approvals are waited for.
        say: told of each event, as a line for people.

    Raises:
        FlameError: a node is no connected site, or does not start.
    """
    with tempfile.TemporaryDirectory(prefix="fa-") as folder:
        federation = _Federation(courier, order, analysis, project, Path(folder), say)
        try:
            federation.start_sites(signed, deadline_seconds)
            federation.start_aggregator()
            federation.carry()
        finally:
            federation.close()
        return federation.ended()


@dataclass
class _Federation:
    """One analysis, seen from the hub."""

    courier: Courier
    order: ScriptOrder
    analysis: str
    project: str
    folder: Path
    say: Callable[[str], None]
    router: CarryingRouter = field(init=False)
    post: Post = field(init=False)
    hub: Hub = field(init=False)
    journal: Journal = field(init=False)
    aggregator: LocalNode | None = field(default=None, init=False)
    addresses: dict[str, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.router = CarryingRouter(self.order.nodes, self.folder / "hub", self.analysis)
        self.post = Post(self.router)
        self.hub = Hub(self.analysis, self.courier, self.router, self.post, threading.Event())
        self.journal = Journal(self.folder / "hub", self.analysis, self.say)

    def start_sites(self, signed: bytes, seconds: float) -> None:
        """Send the order to every site that it names, until each has begun or refused."""
        self.addresses = addresses_of(self.order.data_nodes, self.courier)
        Starting(self.hub, self.addresses, self.say).run(signed, seconds)

    def start_aggregator(self) -> None:
        """The aggregator's worker, beside this process."""
        node = self.order.aggregator
        settings = NodeSettings(
            node, self.order.nodes, self.analysis, self.project, dict(self.order.parameters)
        )
        folder = self.folder / "aggregator"
        host = NodeHost(settings, folder, durable=False, on_traffic=self.post.carry)
        self.post.add(host)
        self.aggregator = LocalNode(
            host,
            Place(folder, folder / "worker.log"),
            HubHere(self.router, node),
            LocalStorage(self.folder / "storage", self.project),
            charge=RunBudget(self.order.epsilon).charge,
        )
        script = folder / "script" / "script.py"  # alone: all that the worker may read here
        script.parent.mkdir(exist_ok=True)
        script.write_text(self.order.script, encoding="utf-8")
        self.aggregator.start(
            script, Limits(self.order.limit), readable=(str(script.parent),), full_reasons=True
        )

    def carry(self) -> None:
        """Carry letters until every node is over."""
        pumps = [
            threading.Thread(target=SitePump(self.hub, address, node).run, daemon=True)
            for address, node in self.addresses.items()
            if not self.router.nodes[node].gone
        ]
        for pump in pumps:
            pump.start()
        assert self.aggregator is not None
        limit = time.monotonic() + self.order.limit
        ended_at: float | None = None
        while not self._over():
            time.sleep(_LOOK_SECONDS)
            self.aggregator.look()
            now = time.monotonic()
            if now > limit and not self.aggregator.over:
                self.aggregator.end("failed", at_limit(self.order.limit))
            if self.aggregator.over and ended_at is None:
                ended_at = now
                self._stop_others()
            self.journal.publish(self._drained())
            if ended_at is not None and now - ended_at > _END_SECONDS:
                break
        self.journal.publish(self._drained())
        self.hub.stopping.set()

    def close(self) -> None:
        self.hub.stopping.set()
        if self.aggregator is not None:
            self.aggregator.close()

    def ended(self) -> Ended:
        nodes = {
            id: {"status": record.status, "reason": record.reason}
            for id, record in self.router.nodes.items()
        }
        state = "finished" if nodes[self.order.aggregator]["status"] == "finished" else "failed"
        return Ended(state, nodes, self.journal.log, self.journal.submissions)

    def _over(self) -> bool:
        return self.router.over and (self.aggregator is None or self.aggregator.over)

    def _stop_others(self) -> None:
        """An aggregator that did not end in order leaves the others without a purpose."""
        if self.router.nodes[self.order.aggregator].status != "finished":
            with self.post.lock():
                self.router.stop("the aggregator has failed")

    def _drained(self) -> list[Event]:
        with self.post.lock():
            return self.router.drain()
