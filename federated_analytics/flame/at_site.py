"""Scripts at a site's service: approved by hash, started as workers, their letters carried.

A signed order starts an analysis once a person has approved it. From then on unsigned pumps
bring and fetch letters; they are taken from whoever knows the analysis' id, which the analyst
drew at random and told the hub alone, and carry nothing that the policy does not let leave.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from federated_analytics import __version__, wire
from federated_analytics.code_digest import code_digest
from federated_analytics.errors import RequestRefused
from federated_analytics.flame.carried_objects import CarriedHost, CarriedObjects
from federated_analytics.flame.data_sources import DataSources
from federated_analytics.flame.errors import FlameError
from federated_analytics.flame.local_storage import LocalStorage
from federated_analytics.flame.node_host import NodeSettings
from federated_analytics.flame.node_place import LocalNode, Place
from federated_analytics.flame.omop_site import ScriptStudies
from federated_analytics.flame.order import Pump, ScriptOrder
from federated_analytics.flame.worker_process import Limits
from federated_analytics.privacy.asked import Asked

if TYPE_CHECKING:
    from federated_analytics.guarded_answer import Asker
    from federated_analytics.guarded_site import GuardedSite
    from federated_analytics.messages import Request

log = logging.getLogger(__name__)
BUNDLE_BYTES = 2_000_000
_LOOK_SECONDS = 0.1
_UNTOUCHED_SECONDS = 300.0
"""A hub that has not asked for so long is gone: its analysis ends here."""
_KEPT_SECONDS = 60.0
"""How long the last letters of an analysis that is over can still be fetched."""


class UnknownAnalysis(RequestRefused):
    """A pump for an analysis that does not run here: ended, or never begun."""

    code = "unknown_analysis_run"
    default_remedy = "It has ended at this site, or its service was restarted; run it again."


class ExchangeSpent(FlameError):
    """The bytes that one run may send are spent."""

    code = "exchange_spent"
    default_remedy = "Send less, or ask the site operator for a larger exchange_bytes."


class OwnMessagesRefused(FlameError):
    """A message or object of a script's own at a site that lets none leave."""

    code = "free_exchange_refused"
    default_remedy = (
        "Send what the site has released: flame.omop and flame.aggregate. Or ask the site "
        "operator for free_exchange, which is bound to the approved script."
    )


class ReleasesOnly(CarriedHost):
    """A node whose script is told at once what the policy would not let leave."""

    def send(self, id: str, receivers: Sequence[str], category: str, payload: str) -> None:
        raise OwnMessagesRefused("The site's policy lets no message of a script's own leave.")

    def post(self, letter: dict[str, Any]) -> None:
        if letter["kind"] in ("object", "part", "whole"):
            raise OwnMessagesRefused("The site's policy lets no object of a script's own leave.")
        super().post(letter)


@dataclass
class _Running:
    """One analysis at this site."""

    order: ScriptOrder
    host: CarriedHost
    node: LocalNode
    asker: Asker
    ends_at: float
    touched: float = field(default_factory=time.monotonic)
    sent_bytes: int = 0
    over_at: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class ScriptsAtSite:
    """The handler of `flame` requests of one site service.

    Args:
        data: a folder with `datasources.json`; None where the site offers no sources.
        limits: of each worker.
    """

    quick = True
    approves = True

    def __init__(self, folder: Path, data: Path | None = None, limits: Limits | None = None):
        self._folder = folder
        self._data = data
        self._limits = limits or Limits()
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._watch = threading.Thread(target=self._look, name="scripts", daemon=True)
        self._watch.start()

    def answer(self, asker: Asker, request: Request, guarded: GuardedSite) -> bytes:
        """Start what a signed order asks for, once it is approved.

        Raises:
            RequestRefused: it names this site as no data node, or waits for approval.
        """
        order = ScriptOrder.from_json(request.study)
        name = guarded.site.name
        if order.nodes.get(name) != "default":
            raise RequestRefused(
                "The order does not name this site as a node.",
                where="nodes",
                remedy="Use the sites' names, as `federated-analytics site info` prints them.",
            )
        guarded.state.approvals.admit(_for_approval(order, asker, guarded), asker.request)
        with self._lock:
            running = self._running.get(request.run)
            if running is None:
                running = self._running[request.run] = self._started(order, asker, request, guarded)
        with running.lock:
            return self._carried(running, {"confirmed": 0, "letters": []}, guarded, request.round)

    def carry(self, request: Request, guarded: GuardedSite) -> bytes:
        """Deliver a pump's letters and take what waits; UnknownAnalysis where none runs."""
        pump = Pump.from_json(request.study)
        running = self._running.get(pump.analysis)
        if running is None:
            raise UnknownAnalysis("No such analysis runs at this site.")
        running.touched = time.monotonic()
        with running.lock:
            running.host.exchange(pump.bundle, 1)
            end = time.monotonic() + pump.wait_seconds
            while not running.host.has_outgoing() and time.monotonic() < end:
                time.sleep(0.02)
            body = self._carried(running, pump.bundle, guarded, request.round)
        running.touched = time.monotonic()
        return body

    def stop(self) -> None:
        """End every worker; the service is being stopped."""
        self._stopped.set()
        self._watch.join(5)
        with self._lock:
            for running in self._running.values():
                running.node.end("stopped", "the site's service was stopped")
                running.node.close()
            self._running.clear()

    def _started(
        self, order: ScriptOrder, asker: Asker, request: Request, guarded: GuardedSite
    ) -> _Running:
        settings = NodeSettings(
            guarded.site.name, order.nodes, request.run, asker.project, dict(order.parameters)
        )
        folder = self._folder / hashlib.sha256(request.run.encode()).hexdigest()[:16]
        free = guarded.site.policy.free_exchange
        host = (CarriedHost if free else ReleasesOnly)(settings, folder)
        sources = None
        if self._data is not None:
            sources = DataSources.from_folder(
                self._data,
                project=asker.project,
                log=lambda level, text: host.post({"kind": "log", "level": level, "text": text}),
            )
        node = LocalNode(
            host,
            Place(folder, folder / "worker.log"),
            CarriedObjects(host),
            LocalStorage(self._folder / "storage", asker.project),
            sources=sources,
            own_site=ScriptStudies(guarded, asker, request.run, ended=lambda: host.closed),
        )
        script = folder / "script" / "script.py"  # alone: all that the worker may read here
        script.parent.mkdir(exist_ok=True)
        script.write_text(order.script, encoding="utf-8")
        limits = Limits(
            order.limit,
            self._limits.memory_bytes,
            self._limits.processes,
            self._limits.cpu_seconds,
        )
        node.start(
            script,
            limits,
            readable=(str(script.parent),),
            full_reasons=free,
        )
        return _Running(order, host, node, asker, time.monotonic() + order.limit)

    def _carried(
        self, running: _Running, incoming: Mapping[str, Any], guarded: GuardedSite, round: int
    ) -> bytes:
        """What waits, as a release, in the audit before it leaves."""
        policy = guarded.site.policy
        bundle = running.host.exchange(incoming, BUNDLE_BYTES)
        release = policy.exchange(
            bundle,
            site=guarded.site.name,
            study=running.order.digest,
            round=round,
            version=__version__,
        )
        body = wire.encode_release(release)
        if not bundle["letters"]:
            return body
        running.sent_bytes += len(json.dumps(bundle["letters"]))
        if running.sent_bytes > policy.exchange_bytes:
            running.node.end("stopped", "the bytes that a run may send are spent")
            raise ExchangeSpent("The bytes that one run may send from this site are spent.")
        guarded.state.audit.append(
            {
                "decision": "released",
                "request": running.asker.request,
                "analyst": running.asker.name,
                "project": running.asker.project,
                "kind": "flame",
                "study": running.order.digest,
                "study_name": running.order.name,
                "app_code": running.asker.code,
            },
            released=body,
        )
        return body

    def _look(self) -> None:
        """Notice workers that ended, must end, or whose hub is gone."""
        while not self._stopped.wait(_LOOK_SECONDS):
            with self._lock:
                items = list(self._running.items())
            for analysis, running in items:
                try:
                    self._look_at(analysis, running)
                except Exception:
                    log.exception("a script's node could not be looked after")

    def _look_at(self, analysis: str, running: _Running) -> None:
        now = time.monotonic()
        running.node.look()
        if now > running.ends_at and not running.node.over:
            running.node.end("failed", f"stopped at its limit of {running.order.limit:g} s")
        if now - running.touched > _UNTOUCHED_SECONDS:
            running.node.end("stopped", "the hub is gone")
        if running.node.over and running.over_at is None:
            running.over_at = now
        told = not running.host.has_outgoing()
        if running.over_at and now - running.over_at > (_KEPT_SECONDS if told else 300.0):
            with self._lock:
                self._running.pop(analysis, None)
            running.node.close()
            _removed(running.host.folder)


@contextmanager
def scripts_at_site(guarded_folder: Path, data: Path | None) -> Iterator[ScriptsAtSite]:
    """The handler for as long as a service runs; no worker outlives it."""
    found = ScriptsAtSite(guarded_folder / "flame", data)
    try:
        yield found
    finally:
        found.stop()


def _removed(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _for_approval(order: ScriptOrder, asker: Asker, guarded: GuardedSite) -> Asked:
    """The script as the operator sees it: its text, its parameters, and what it may send."""
    policy = guarded.site.policy
    others = ", ".join(n for n in order.nodes if n != guarded.site.name)
    parameters = json.dumps(dict(order.parameters), sort_keys=True, ensure_ascii=False)
    if policy.free_exchange:
        leaves = (
            f"Whatever the script sends, up to {policy.exchange_bytes:,} bytes a run: messages, "
            "objects, logs and progress. No rule looks at them. Every byte is in the audit."
        )
    else:
        leaves = (
            "Releases that the policy's rules have made (flame.omop), and where the script stands. "
            "Its own messages, objects, logs and results stay here."
        )
    return Asked(
        study_name=order.name,
        study=order.to_json(),
        digest=order.digest,
        analyst=asker.name,
        project=asker.project,
        question=f"A script runs here, together with {others}.\nParameters: {parameters}\n"
        f"It is ended after {order.limit:g} s.\n\n{order.script}",
        sql="",
        leaves=leaves,
        cost="Nothing is charged for free messages; local_dp and flame.omop charge as they run.",
        # Of her code and of the site's own: what runs is both.
        code_digest=hashlib.sha256(f"{asker.code}/{code_digest()}".encode()).hexdigest(),
        asked_at=time.time(),
    )
