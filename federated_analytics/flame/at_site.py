"""Scripts at a site's service: approved by hash, started as workers, their letters carried.

A signed order starts an analysis once a person has approved it. From then on unsigned pumps
bring and fetch letters; they are taken from whoever knows the analysis' id, which the analyst
drew at random and told the hub alone, and carry nothing that the policy does not let leave.

A service that was killed takes its analyses up again when it is back: their workers have waited.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from federated_analytics.errors import RequestRefused
from federated_analytics.flame.node_keys import pinned_keys
from federated_analytics.flame.order import Pump, ScriptOrder
from federated_analytics.flame.script_approval import for_approval
from federated_analytics.flame.site_budget import project_budget
from federated_analytics.flame.site_script import BEGUN, Begun, SiteScript
from federated_analytics.flame.worker_process import Limits

if TYPE_CHECKING:
    from federated_analytics.guarded_answer import Asker
    from federated_analytics.guarded_site import GuardedSite
    from federated_analytics.messages import Request

log = logging.getLogger(__name__)
_LOOK_SECONDS = 0.1
ANSWER_SECONDS = 0.3
"""How long a delivery waits for the script's answer to it, which then needs no message of its own:
over Flower one takes seconds. The acknowledgement alone is there at once."""
_UNTOUCHED_SECONDS = 300.0
"""A hub that has not asked for so long is gone: its analysis ends here."""
_KEPT_SECONDS = 60.0
"""How long the last letters of an analysis that is over can still be fetched."""


class UnknownAnalysis(RequestRefused):
    """A pump for an analysis that does not run here: ended, or never begun."""

    code = "unknown_analysis_run"
    default_remedy = "It has ended at this site, or was never begun; run it again."


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
        self._running: dict[str, SiteScript] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._watch = threading.Thread(target=self._look, name="scripts", daemon=True)
        self._watch.start()

    def answer(self, asker: Asker, request: Request, guarded: GuardedSite) -> bytes:
        """Start what a signed order asks for, once it is approved.

        Raises:
            RequestRefused: it names this site as no data node, another key of a site than the
                operator does, or waits for approval.
        """
        order = ScriptOrder.from_json(request.study)
        name = guarded.site.name
        if order.nodes.get(name) != "default":
            raise RequestRefused(
                "The order does not name this site as a node.",
                where="nodes",
                remedy="Use the sites' names, as `federated-analytics site info` prints them.",
            )
        peers = {p.name: p.key for p in guarded.config.peer if p.name in order.nodes}
        pinned = pinned_keys(order.keys, peers)
        budget = project_budget(self._folder, asker.project, guarded.site.policy)
        asked = for_approval(order, asker, guarded, budget.spent())
        guarded.state.approvals.admit(asked, asker.request)
        if order.epsilon:
            budget.charge(order.epsilon, request.run)
        with self._lock:
            running = self._running.get(request.run)
            if running is None:
                free, end = guarded.site.policy.free_exchange, time.time() + order.limit
                begun = Begun(order, request.run, asker, name, free, pinned, end)
                running = self._running[request.run] = self._started(begun, guarded)
        with running.lock:
            return running.carried({"confirmed": 0, "letters": []}, guarded, request.round)

    def carry(self, request: Request, guarded: GuardedSite) -> bytes:
        """Deliver a pump's letters and take what waits; UnknownAnalysis where none runs."""
        pump = Pump.from_json(request.study)
        running = self._running.get(pump.analysis)
        if running is None:
            raise UnknownAnalysis("No such analysis runs at this site.")
        running.touched = time.monotonic()
        with running.lock:
            if pump.stop:
                running.node.end("stopped", pump.stop)
            running.host.exchange(pump.bundle, 1)
            if any(letter["kind"] == "message" for _, letter in pump.bundle["letters"]):
                time.sleep(min(ANSWER_SECONDS, pump.wait_seconds))
            end = time.monotonic() + pump.wait_seconds
            while not running.host.has_outgoing() and time.monotonic() < end:
                time.sleep(0.02)
            body = running.carried(pump.bundle, guarded, request.round)
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

    def _started(self, begun: Begun, guarded: GuardedSite) -> SiteScript:
        folder = self._folder / hashlib.sha256(begun.analysis.encode()).hexdigest()[:16]
        _removed(folder)  # what is there was never begun
        folder.mkdir(mode=0o700, parents=True)
        begun.save(folder)
        running = SiteScript(begun, folder, self._folder, self._data, guarded)
        running.start(self._limits)
        return running

    def resume(self, guarded: GuardedSite) -> None:
        """Take up the analyses that the service had when it was killed or stopped."""
        for file in sorted(self._folder.glob(f"*/{BEGUN}")):
            try:
                begun = Begun.load(file.parent)
                running = SiteScript(begun, file.parent, self._folder, self._data, guarded)
                running.node.adopt()
                with self._lock:
                    self._running[begun.analysis] = running
            except Exception:
                log.exception("an analysis could not be taken up again")

    def _look(self) -> None:
        """Look after every node."""
        while not self._stopped.wait(_LOOK_SECONDS):
            with self._lock:
                items = list(self._running.items())
            for analysis, running in items:
                try:
                    self._look_at(analysis, running)
                except Exception:
                    log.exception("a script's node could not be looked after")

    def _look_at(self, analysis: str, running: SiteScript) -> None:
        running.look(_UNTOUCHED_SECONDS)
        told = not running.host.has_outgoing()
        kept = _KEPT_SECONDS if told else _UNTOUCHED_SECONDS
        if running.over_at is not None and time.monotonic() - running.over_at > kept:
            with self._lock:
                self._running.pop(analysis, None)
            running.node.close()
            _removed(running.folder)


def _removed(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
