"""A run on a federation as it is known here: from its log's lines, written down as they come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from federated_analytics.app_run import STARTED
from federated_analytics.flame.router import Event, NodeRecord
from federated_analytics.flame.run_folder import RunFolder
from federated_analytics.flame.run_lines import event_of, waiting_of


class LiveRun:
    """What the lines of a run say of its nodes, kept in its folder.

    Args:
        types: the type of each node.
        place: what `RunFolder.write_place` keeps, but for the run's number.
    """

    def __init__(self, out: RunFolder, types: Mapping[str, str], place: Mapping[str, Any]) -> None:
        self.records = {id: NodeRecord(id, type) for id, type in types.items()}
        self._out = out
        self._place = dict(place)
        self._out.write_place(self._place)
        self.write("running")

    @property
    def folder(self) -> Path:
        return self._out.folder

    @property
    def nodes(self) -> dict[str, dict[str, str]]:
        return {
            id: {"status": record.status, "reason": record.reason}
            for id, record in self.records.items()
        }

    def place(self) -> dict[str, Any]:
        """Where the run goes on, its number among it once it is known."""
        return dict(self._place)

    def take(self, line: str, on_event: Callable[[Event], None]) -> bool:
        """Take a line of the log; whether it is an event of the script's run."""
        if found := STARTED.search(line):
            self._place["run_id"] = found[1]
            self._out.write_place(self._place)
        if waiting := waiting_of(line):
            self._waits(*waiting)
        event = event_of(line)
        if event is None or event.node not in self.records:
            return False
        self._note(event, self.records[event.node])
        on_event(event)
        return True

    def end(self, status: str, reason: str) -> None:
        """Every node that has not ended by itself comes to this state."""
        for record in self.records.values():
            if not record.gone:
                record.status, record.reason = status, reason

    def write(self, state: str) -> None:
        self._out.write_status(state, self.nodes)

    def _waits(self, node: str, reason: str) -> None:
        if (record := self.records.get(node)) is not None and not record.gone:
            record.reason = reason
            self.write("running")

    def _note(self, event: Event, record: NodeRecord) -> None:
        content = event.content
        if event.kind == "status":
            record.status, record.reason = content["status"], content["reason"]
            self.write("running")
        elif event.kind == "log":
            record.last_log = content["text"]
            self._out.add_log(event.node, content["level"], content["text"])
        elif event.kind == "progress":
            record.progress = content["value"]
            self._out.write_progress(event.node, record.progress)
