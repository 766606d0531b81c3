"""A FLAME analysis on this machine: hosts, router and workers, and no process left at its end."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from federated_analytics.flame.blob_store import BlobStore
from federated_analytics.flame.epsilon_ledger import EpsilonLedger
from federated_analytics.flame.errors import FlameError
from federated_analytics.flame.hub_objects import FolderHub
from federated_analytics.flame.local_storage import LocalStorage
from federated_analytics.flame.node_calls import NodeCalls
from federated_analytics.flame.node_host import NodeHost
from federated_analytics.flame.node_place import LocalNode, Place
from federated_analytics.flame.node_settings import NodeSettings
from federated_analytics.flame.post import Post
from federated_analytics.flame.reasons import NEVER_CAME, at_limit
from federated_analytics.flame.router import Event, NodeRecord, Router
from federated_analytics.flame.run_folder import RunFolder
from federated_analytics.flame.run_options import RunOptions, RunResult

__all__ = ["LocalRun", "RunOptions", "RunResult", "default_store"]
_LOOK_SECONDS = 0.02
_ORPHAN_SECONDS = 30.0
SITE_FILE = "site.toml"
"""In a node's folder: its OMOP database, see `omop_site`."""


class LocalRun:
    """One analysis on this machine.

    Args:
        on_event: told of each log, submission, status and progress as it comes.

    Raises:
        RunFailed: the options do not name a script, or nodes with one aggregator.
    """

    def __init__(
        self, options: RunOptions, on_event: Callable[[Event], None] = lambda event: None
    ) -> None:
        options.check()
        self._options = options
        self.on_event = on_event
        self._analysis = str(uuid.uuid4())
        self.router = Router(options.types)
        self._post = Post(self.router)
        self._nodes: dict[str, LocalNode] = {}
        self._out = RunFolder(options.out)
        self._place = Path(tempfile.mkdtemp(prefix="fa-", dir=_short_temporary()))
        self._sites = ExitStack()
        self._orphaned_at: float | None = None
        self._stopping = ""

    def run(self) -> RunResult:
        """Start all nodes, carry on until all have ended; nothing is left whatever happens."""
        try:
            self._start()
            self._watch()
        except BaseException:
            self._stopping = self._stopping or "the run was interrupted"
            for node in self._nodes.values():
                node.end("stopped", self._stopping)
            raise
        finally:
            try:
                self._end()
            finally:
                shutil.rmtree(self._place, ignore_errors=True)
        return self._result()

    @property
    def records(self) -> dict[str, NodeRecord]:
        """What the hub knows of each node, for a display."""
        return self.router.nodes

    def _start(self) -> None:
        self._write_status()
        options = self._options
        for number, node in enumerate(options.nodes):
            if node not in options.absent:
                self._nodes[node] = self._node(node, self._place / str(number))
        for id, place in self._nodes.items():
            script = self._place / f"{id}.py"
            shutil.copyfile(options.scripts.get(id, options.script), script)
            if options.record:
                shutil.copyfile(script, self._out.folder / "recording" / script.name)
            place.start(
                script,
                options.limits,
                network=options.network,
                full_reasons=True,
                reconnect_seconds=5.0,
            )

    def _node(self, node: str, folder: Path) -> LocalNode:
        options = self._options
        store = options.store or default_store()
        settings = NodeSettings(
            node, options.types, self._analysis, options.project, options.parameters
        )
        host = NodeHost(settings, folder, durable=False, on_traffic=self._post.carry)
        self._post.add(host)
        return LocalNode(
            host,
            Place(folder, self._out.log_of(node), options.grace_seconds),
            FolderHub(self._out.hub, node, self._analysis),
            LocalStorage(store / node, options.project),
            sources=self._sources(host),
            own_site=self._own_site(node),
            # Below a name that no node can have.
            charge=EpsilonLedger(
                store / ".ledger" / "epsilon.sqlite", options.project, options.epsilon_budget
            ).charge,
            wrap=self._recorder(node),
        )

    def _sources(self, host: NodeHost) -> Any:
        if self._options.data is None:
            return None
        from federated_analytics.flame.data_sources import FILE_NAME, DataSources

        folder = self._options.data / host.settings.node
        if (folder / SITE_FILE).is_file() and not (folder / FILE_NAME).is_file():
            return None  # the folder is a site's own, with credentials and ledger: no S3 store
        return DataSources.from_folder(
            folder,
            project=self._options.project,
            log=lambda level, text: host.post({"kind": "log", "level": level, "text": text}),
        )

    def _own_site(self, node: str) -> Any:
        if self._options.data is None:
            return None
        folder = self._options.data / node
        if not (folder / SITE_FILE).is_file():
            return None
        from federated_analytics.flame.omop_site import local_site

        site = local_site(folder, node, self._options.project, self._analysis)
        return self._sites.enter_context(site)

    def _recorder(self, node: str) -> Callable[[NodeCalls], Any]:
        if not self._options.record:
            return lambda calls: calls
        from federated_analytics.flame.recording import Recorder

        return lambda calls: Recorder(calls, self._out.folder / "recording" / node)

    def _watch(self) -> None:
        limit = self._options.limit
        begun = time.monotonic()
        end = math.inf if limit is None else begun + limit
        while not all(node.over for node in self._nodes.values()):
            time.sleep(_LOOK_SECONDS)
            for node in self._nodes.values():
                node.look()
                if time.monotonic() >= end and not node.over:
                    node.end("failed", at_limit(end - begun))
            if time.monotonic() - begun >= self._options.absent_after:
                self._declare_absent()
            self._look_for_a_stop()
            self._publish()
        self._declare_absent()

    def _declare_absent(self) -> None:
        for node in self._options.absent:
            with self._post.lock():
                self.router.set_status(node, "absent", NEVER_CAME)
            self._post.deliver()

    def _look_for_a_stop(self) -> None:
        """By `flame stop`, or as the aggregator has failed and nobody can submit any more."""
        aggregator = self.router.nodes[self._options.aggregator]
        if aggregator.status in ("failed", "stopped", "absent"):
            self._orphaned_at = self._orphaned_at or time.monotonic()
        orphaned = self._orphaned_at and time.monotonic() - self._orphaned_at > _ORPHAN_SECONDS
        if not self._stopping and (self._out.stop_asked() or orphaned):
            asked = self._out.stop_asked()
            self._stopping = "stopped by the analyst" if asked else "the aggregator has failed"
            with self._post.lock():
                self.router.stop(self._stopping)
            self._post.deliver()

    def _publish(self) -> None:
        """Write down and show what has happened since the last time."""
        with self._post.lock():
            events = self.router.drain()
        for event in events:
            if event.kind == "log":
                self._out.add_log(event.node, event.content["level"], event.content["text"])
            elif event.kind == "submission":
                self._write_result(event)
            elif event.kind == "status":
                self._write_status()
            elif event.kind == "progress":
                self._out.write_progress(event.node, event.content["value"])
            self.on_event(event)

    def _write_result(self, event: Event) -> None:
        store = BlobStore(self._out.hub)
        try:
            with store.open(
                event.content["object"], reader=event.node, analysis=self._analysis
            ) as content:
                self._out.add_submission(event.node, event.content["output_type"], content)
        except (FlameError, OSError) as error:
            self._out.add_log(event.node, "error", f"a final result was lost: {error}")

    def _end(self) -> None:
        for node in self._nodes.values():
            node.close()
        self._sites.close()
        self._publish()
        self._write_status(self._state())

    def _state(self) -> str:
        statuses = [record.status for record in self.router.nodes.values()]
        if self.router.nodes[self._options.aggregator].status == "finished":
            return "finished"
        return "stopped" if self._stopping and "stopped" in statuses else "failed"

    def _write_status(self, state: str = "running") -> None:
        nodes = {
            id: {"status": record.status, "reason": record.reason}
            for id, record in self.router.nodes.items()
        }
        self._out.write_status(state, nodes)

    def _result(self) -> RunResult:
        state = self._state()
        nodes = {
            id: {"status": record.status, "reason": record.reason}
            for id, record in self.router.nodes.items()
        }
        count = len(self.router.submissions)
        return RunResult(state, nodes, count, state == "finished" and count > 0, self._out.folder)


def default_store() -> Path:
    """Where nodes of this machine keep their local storage when no --store is given."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "federated-analytics" / "flame"


def _short_temporary() -> str | None:
    """/tmp where it can be used: a Unix socket's path has at most about 100 bytes."""
    place = tempfile.gettempdir()
    return "/tmp" if len(place) > 40 and os.access("/tmp", os.W_OK) else place
