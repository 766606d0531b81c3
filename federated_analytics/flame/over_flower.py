"""A script over a Flower federation: the ServerApp as router, mailbox, store and aggregator.

A message costs seconds, whatever it carries: a SuperNode asks for work every 3 s and starts a
process for each. So nodes are asked as soon as something waits for them, and otherwise less and
less often; whatever waits travels together.
"""

from __future__ import annotations

import base64
import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from federated_analytics import wire
from federated_analytics.asking import NOT_YET, Asking
from federated_analytics.couriers import Courier
from federated_analytics.errors import FederatedAnalyticsError, WireError
from federated_analytics.exchange import released
from federated_analytics.flame.blob_store import BlobStore
from federated_analytics.flame.carried_objects import CarryingRouter, HubHere
from federated_analytics.flame.epsilon_ledger import RunBudget
from federated_analytics.flame.errors import FlameError
from federated_analytics.flame.local_storage import LocalStorage
from federated_analytics.flame.node_host import NodeHost, NodeSettings
from federated_analytics.flame.node_place import LocalNode, Place
from federated_analytics.flame.order import Pump, ScriptOrder
from federated_analytics.flame.post import Post
from federated_analytics.flame.router import Event
from federated_analytics.flame.worker_process import Limits
from federated_analytics.messages import Disclosure, Request
from federated_analytics.site_terms import introductions

BUNDLE_BYTES = 1_500_000
"""Of letters in one message to a site; less than a service takes as one request."""
PUMP_SECONDS = 60.0
"""After so long without an answer a pump is sent again."""
LOST_SECONDS = 240.0
"""A site that has answered no pump for so long is absent."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 6.0
_LOOK_SECONDS = 0.1
_END_SECONDS = 60.0
"""After the aggregator has ended, how long the others' last letters are waited for."""


@dataclass(frozen=True)
class Ended:
    """An analysis that is over, in the form of `--out`.

    Fields:
        nodes: status and reason of each
        log: what reached the hub: node, level, text
        submissions: node, output_type and the bytes of each final result, as base64
    """

    state: str
    nodes: Mapping[str, Mapping[str, str]]
    log: list[dict[str, str]]
    submissions: list[dict[str, str]]

    def to_json(self) -> str:
        return json.dumps(self.__dict__, separators=(",", ":"))


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


class NoSuchSite(FlameError):
    """A node of the order that cannot take part."""

    code = "no_such_site"
    default_remedy = "Name connected sites: `federated-analytics site info` lists them."


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
    aggregator: LocalNode | None = field(default=None, init=False)
    addresses: dict[str, str] = field(default_factory=dict, init=False)
    stopping: threading.Event = field(default_factory=threading.Event, init=False)
    log: list[dict[str, str]] = field(default_factory=list, init=False)
    submissions: list[dict[str, str]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.router = CarryingRouter(self.order.nodes, self.folder / "hub", self.analysis)
        self.post = Post(self.router)

    def start_sites(self, signed: bytes, seconds: float) -> None:
        """Send the order to every site that it names, until each has begun or refused."""
        known = {one.site: address for address, one in introductions(self.courier).items()}
        for name in self.order.data_nodes:
            if name not in known:
                connected = ", ".join(sorted(known))
                raise NoSuchSite(
                    f"{name!r} is no connected site; there are: {connected}.", where="--nodes"
                )
        self.addresses = {known[node]: node for node in self.order.data_nodes}
        asking = Asking(
            self.courier, dict.fromkeys(self.addresses, signed), time.monotonic() + seconds
        )
        begun: set[str] = set()
        waiting: dict[str, str] = {}
        for reply in asking.replies():
            if reply.address not in self.addresses or self.addresses[reply.address] in begun:
                continue
            node = self.addresses[reply.address]
            said = _disclosed(reply.body)
            refusal = said.refusal
            if refusal is None:
                begun.add(node)
                self._received(node, said)
            elif refusal.code in NOT_YET and asking.again(reply.address):
                if node not in waiting:
                    self.say(f"{refusal.code.replace('_', ' ')} at {node}: {refusal.message}")
                waiting[node] = refusal.code
            else:
                begun.add(node)
                self._gone(node, f"{refusal.code}: {refusal.message} {refusal.remedy}")
        for node in set(self.order.data_nodes) - begun:
            self._gone(node, waiting.get(node, "no answer") + " at the deadline")

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
            threading.Thread(target=self._pump, args=(address, node), daemon=True)
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
                self.aggregator.end("failed", f"stopped at its limit of {self.order.limit:g} s")
            if self.aggregator.over and ended_at is None:
                ended_at = now
                self._stop_others()
            self._publish()
            if ended_at is not None and now - ended_at > _END_SECONDS:
                break
        self._publish()
        self.stopping.set()

    def close(self) -> None:
        self.stopping.set()
        if self.aggregator is not None:
            self.aggregator.close()

    def ended(self) -> Ended:
        nodes = {
            id: {"status": record.status, "reason": record.reason}
            for id, record in self.router.nodes.items()
        }
        state = "finished" if nodes[self.order.aggregator]["status"] == "finished" else "failed"
        return Ended(state, nodes, self.log, self.submissions)

    def _over(self) -> bool:
        return self.router.over and (self.aggregator is None or self.aggregator.over)

    def _stop_others(self) -> None:
        """An aggregator that did not end in order leaves the others without a purpose."""
        if self.router.nodes[self.order.aggregator].status != "finished":
            with self.post.lock():
                self.router.stop("the aggregator has failed")

    def _pump(self, address: str, node: str) -> None:
        """Bring a node its letters and fetch its own, again and again."""
        pause, number, answered = FIRST_PAUSE_SECONDS, 0, time.monotonic()
        while not self.stopping.is_set() and not self.router.nodes[node].gone:
            number += 1
            with self.post.lock():
                bundle = self.router.bundle_for(node, BUNDLE_BYTES)
            said = self._exchanged(address, bundle, number)
            if said is None:
                if time.monotonic() - answered > LOST_SECONDS:
                    self._gone(node, "the site does not answer any more")
                continue
            answered = time.monotonic()
            if said.refusal is not None:
                self._gone(node, f"{said.refusal.code}: {said.refusal.message}", "failed")
                return
            busy = self._received(node, said) or bool(bundle["letters"])
            pause = FIRST_PAUSE_SECONDS if busy else min(pause * 1.5, LONGEST_PAUSE_SECONDS)
            self._rest(node, pause)

    def _rest(self, node: str, seconds: float) -> None:
        """Until something waits for a node, at most this long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.stopping.is_set():
            with self.post.lock():
                if node in self.router.with_traffic():
                    return
            time.sleep(0.05)

    def _exchanged(self, address: str, bundle: Mapping[str, Any], number: int) -> Disclosure | None:
        text = Pump(self.analysis, bundle, 1.0).to_json()
        body = wire.encode_request(Request(text, number, self.analysis, PUMP_SECONDS, "flame"))
        for reply in self.courier.exchange({address: body}, time.monotonic() + PUMP_SECONDS):
            if reply.body:
                with contextlib.suppress(WireError):
                    return _disclosed(reply.body)
        return None

    def _received(self, node: str, said: Disclosure) -> bool:
        """Take a node's letters; whether there were any."""
        try:
            bundle = json.loads(said.exchange)
            with self.post.lock():
                self.router.receive(node, bundle)
        except (FederatedAnalyticsError, ValueError, KeyError, TypeError) as error:
            code = error.code if isinstance(error, FederatedAnalyticsError) else "invalid_message"
            self._gone(node, f"the site sent letters that cannot be read ({code})", "failed")
            return False
        self.post.deliver()
        return bool(bundle["letters"])

    def _gone(self, node: str, reason: str, status: str = "absent") -> None:
        with self.post.lock():
            self.router.set_status(node, status, reason)
        self.post.deliver()

    def _publish(self) -> None:
        with self.post.lock():
            events = self.router.drain()
        for event in events:
            self._noted(event)

    def _noted(self, event: Event) -> None:
        content = event.content
        if event.kind == "log":
            self.log.append({"node": event.node, **content})
            self.say(f"{event.node} {content['level']}: {content['text'].rstrip()}")
        elif event.kind == "progress":
            self.say(f"{event.node} progress: {content['value']} %")
        elif event.kind == "status":
            reason = f" ({content['reason']})" if content["reason"] else ""
            self.say(f"{event.node}: {content['status']}{reason}")
        elif event.kind == "submission":
            self._submitted(event)

    def _submitted(self, event: Event) -> None:
        store = BlobStore(self.folder / "hub")
        with store.open(event.content["object"], reader=event.node, analysis=self.analysis) as file:
            data = base64.b64encode(file.read()).decode()
        kind = event.content["output_type"]
        self.submissions.append({"node": event.node, "output_type": kind, "data": data})
        self.say(f"{event.node}: a final result of type {kind}")


def _disclosed(body: bytes | None) -> Disclosure:
    return wire.decode_release(released(body or b""))
