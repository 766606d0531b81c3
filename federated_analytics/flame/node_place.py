"""One node on this machine: its host, its socket, its stores, its worker."""

from __future__ import annotations

import fcntl
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from federated_analytics.flame.hub_objects import HubObjects
from federated_analytics.flame.intermediate import IntermediateData
from federated_analytics.flame.local_storage import LocalStorage
from federated_analytics.flame.node_calls import NodeCalls, Sources
from federated_analytics.flame.node_host import NodeHost
from federated_analytics.flame.node_server import NodeServer
from federated_analytics.flame.release_calls import OwnSite
from federated_analytics.flame.router import GONE
from federated_analytics.flame.worker_process import (
    GUARD_GONE,
    AdoptedWorker,
    Limits,
    Order,
    Outcome,
    Trace,
    WorkerProcess,
)


@dataclass(frozen=True)
class Place:
    """Where a node works.

    Fields:
        folder: private to the node, short-lived; holds socket and working directory
        log: the file for what the script prints
        grace_seconds: how long a script may go on after the analysis has ended
    """

    folder: Path
    log: Path
    grace_seconds: float = 10.0


class LocalNode:
    """A node whose worker runs on this machine, whatever carries its letters.

    Args:
        wrap: puts a recorder between the socket and the calls.
    """

    def __init__(
        self,
        host: NodeHost,
        place: Place,
        hub: HubObjects,
        local: LocalStorage,
        *,
        sources: Sources | None = None,
        charge: Callable[[float], None] = lambda epsilon: None,
        own_site: OwnSite | None = None,
        wrap: Callable[[NodeCalls], Any] = lambda calls: calls,
    ) -> None:
        self.host = host
        self._place = place
        self._local = local
        self._token = _token(host)
        data = IntermediateData(host, hub, local)
        calls = NodeCalls(
            host,
            data,
            local,
            submit=lambda stream: hub.put(stream, []),
            sources=sources,
            charge=charge,
            own_site=own_site,
        )
        place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._server = NodeServer(wrap(calls), place.folder / "s", self._token)
        self._leash = (place.folder / "leash").open("w")
        # Shared: a guard that tries it for an instant is waited for.
        fcntl.flock(self._leash, fcntl.LOCK_SH)
        self._worker: WorkerProcess | AdoptedWorker | None = None
        self._must_end_at: float | None = None

    @property
    def over(self) -> bool:
        """No process of this node is left, and its state is final."""
        return self._worker is None and self.host.status in GONE

    def start(self, script: Path, limits: Limits, **options: Any) -> None:
        """Start the worker; `options` are fields of its `Order`.

        With `tied=False` it goes on while the service restarts; see `adopt`.
        """
        directory = self._place.folder / "work"
        directory.mkdir(mode=0o700, exist_ok=True)
        order = Order(
            node=self.host.settings.node,
            script=script,
            directory=directory,
            address=self._server.address,
            token=self._token,
            parameters=self.host.settings.parameters,
            limits=limits,
            leash="" if options.get("tied", True) else self._leash.name,
            **options,
        )
        self._worker = WorkerProcess(order, self._place.log)
        with self.host.locked(), self.host.state.change():
            self.host.state.put("worker", asdict(self._worker.trace))
        self._worker.begin()

    def adopt(self) -> bool:
        """Take over the worker that this node had before its service restarted; whether it had.

        One that is not there any more has finished or failed, as its outcome says; a node that
        has none, and no final state, has failed.
        """
        with self.host.locked():
            known = self.host.state.get("worker")
        if known is not None:
            self._worker = AdoptedWorker(Trace(**known))
            self.look()
        else:
            self.host.set_status("failed", "the site's service restarted before the script began")
        return known is not None

    def look(self) -> None:
        """Notice that the worker has ended, and end it when it must; call it often."""
        if self._worker is None:
            return
        outcome = self._worker.poll()
        if outcome is not None:
            if outcome.code == 0:
                self.host.set_status("finished")
            self.host.set_status("failed", self._why(outcome))
            self._worker.close()
            self._worker = None
        elif self.host.stop_reason:
            self.end("stopped", self.host.stop_reason)
        elif self._grace_is_over():
            by = self.host.ended_by
            ended = by and by != self.host.settings.node
            self.end("finished", f"the analysis was ended by {by}" if ended else "")

    def _why(self, outcome: Outcome) -> str:
        if outcome.reason == GUARD_GONE and isinstance(self._worker, AdoptedWorker):
            return "its worker was gone when the site's service came back; run it again"
        return outcome.reason or "the worker ended early"

    def _grace_is_over(self) -> bool:
        if not self.host.ended_by and self.host.status not in GONE:
            return False
        now = time.monotonic()
        if self._must_end_at is None:
            self._must_end_at = now + self._place.grace_seconds
        return now >= self._must_end_at

    def end(self, status: str, reason: str) -> None:
        """End the worker and all that it started; the node's state unless it is final already."""
        self.host.set_status(status, reason)
        if self._worker is not None:
            self._worker.kill()
            self._worker = None

    def close(self) -> None:
        """End everything of this node, and remove what its script has saved without a tag."""
        if self._worker is not None:
            self._worker.kill()
            self._worker = None
        self.leave()
        self._local.drop_untagged(self.host.settings.analysis)

    def leave(self) -> None:
        """Stop serving; a worker that is not tied goes on and waits for the service's return."""
        self._server.close()
        self.host.close()
        self._leash.close()


def _token(host: NodeHost) -> str:
    """The worker's token, the same after a restart of the service."""
    with host.locked(), host.state.change():
        kept = host.state.get("token")
        if kept is None:
            kept = secrets.token_hex(16)
            host.state.put("token", kept)
    return str(kept)
