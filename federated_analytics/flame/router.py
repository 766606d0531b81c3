"""The hub: mailbox, acknowledgements, lifecycle and log. A state machine without any I/O.

A driver carries bundles: it gives `bundle_for(node)` to the node's host and what the host
answers to `receive`. Letters are numbered on both sides and confirmed, so a bundle that is
lost, repeated or reordered changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from federated_analytics.flame.letters import Arrivals, Outgoing, bundle

GONE = frozenset({"finished", "failed", "stopped", "absent"})
LEVELS = ("info", "notice", "debug", "warn", "alert", "emerg", "error", "crit")


@dataclass
class NodeRecord:
    """What the hub knows about a node."""

    id: str
    type: str
    status: str = "starting"
    reason: str = ""
    ready: bool = False
    public: str = ""
    voucher: str = ""
    progress: int = 0
    last_log: str = ""
    outgoing: Outgoing = field(default_factory=Outgoing)
    arrivals: Arrivals = field(default_factory=Arrivals)

    @property
    def gone(self) -> bool:
        return self.status in GONE


@dataclass(frozen=True)
class Event:
    """Something that the driver writes down or shows: log, submission, status or progress."""

    kind: str
    node: str
    content: dict[str, Any]


class Router:
    """Routes between the nodes of one analysis.

    Args:
        nodes: the type ("aggregator" | "default") of each node.
    """

    def __init__(self, nodes: Mapping[str, str]) -> None:
        self.nodes = {id: NodeRecord(id, type) for id, type in nodes.items()}
        self.submissions: list[dict[str, Any]] = []
        self.ended_by = ""
        self._events: list[Event] = []

    def bundle_for(self, node: str, max_bytes: int = 16_000_000) -> dict[str, Any]:
        """What waits for a node, and how far its own letters have been taken."""
        record = self.nodes[node]
        return bundle(record.arrivals.last, record.outgoing.waiting(max_bytes))

    def receive(self, node: str, answer: Mapping[str, Any]) -> None:
        """Take a host's answer to a bundle."""
        record = self.nodes[node]
        record.outgoing.confirm(int(answer["confirmed"]))
        for number, letter in answer["letters"]:
            if record.arrivals.accept(int(number)):
                self._take(record, letter)

    def with_traffic(self) -> list[str]:
        """The nodes for which something waits."""
        return [id for id, record in self.nodes.items() if record.outgoing]

    def set_status(self, node: str, status: str, reason: str = "") -> None:
        """A node's state as the driver or the node knows it; the first final one stays."""
        record = self.nodes[node]
        if record.gone or (record.status, record.reason) == (status, reason):
            return
        record.status, record.reason = status, reason
        record.ready = record.ready or status == "running"
        self._events.append(Event("status", node, {"status": status, "reason": reason}))
        self._tell_others(node, self._partner(record))

    def stop(self, reason: str) -> None:
        """End the analysis from outside: every node is told to stop."""
        for record in self.nodes.values():
            if not record.gone:
                record.outgoing.add({"kind": "stop", "reason": reason})

    def drain(self) -> list[Event]:
        """The events since the last call."""
        events, self._events = self._events, []
        return events

    @property
    def over(self) -> bool:
        return all(record.gone for record in self.nodes.values())

    def _take(self, record: NodeRecord, letter: Mapping[str, Any]) -> None:
        getattr(self, f"_take_{letter['kind']}", self._ignore)(record, letter)

    def _ignore(self, record: NodeRecord, letter: Mapping[str, Any]) -> None:
        """A letter of a later version."""

    def _take_hello(self, record: NodeRecord, letter: Mapping[str, Any]) -> None:
        record.public, record.voucher = str(letter["public"]), str(letter.get("voucher", ""))
        self._tell_others(record.id, self._partner(record))
        for other in self.nodes.values():
            if other.id != record.id:
                record.outgoing.add(self._partner(other))

    def _take_message(self, record: NodeRecord, letter: Mapping[str, Any]) -> None:
        for recipient in letter["recipients"]:
            found = self.nodes.get(recipient)
            if found is not None and not found.gone:
                found.outgoing.add({**letter, "sender": record.id})

    def _take_release(self, record: NodeRecord, letter: Mapping[str, Any]) -> None:
        for recipient in letter["recipients"]:
            found = self.nodes.get(recipient)
            if found is not None and not found.gone:
                found.outgoing.add({**letter, "sender": record.id})

    def _take_acknowledge(self, record: NodeRecord, letter: Mapping[str, Any]) -> None:
        sender = self.nodes.get(str(letter["sender"]))
        if sender is not None:
            sender.outgoing.add({"kind": "acknowledged", "id": letter["id"], "by": record.id})

    def _take_status(self, record: NodeRecord, letter: Mapping[str, Any]) -> None:
        self.set_status(record.id, str(letter["status"]), str(letter["reason"]))

    def _take_asked(self, record: NodeRecord, letter: Mapping[str, Any]) -> None:
        for other in letter["nodes"]:
            if other in self.nodes and other != record.id:
                record.outgoing.add(self._partner(self.nodes[other]))

    def _take_ended(self, record: NodeRecord, letter: Mapping[str, Any]) -> None:
        if not self.ended_by:
            self.ended_by = record.id
            self._tell_others(record.id, {"kind": "ended", "by": record.id})

    def _take_log(self, record: NodeRecord, letter: Mapping[str, Any]) -> None:
        level = letter["level"] if letter["level"] in LEVELS else "info"
        record.last_log = str(letter["text"])
        content = {"level": level, "text": record.last_log}
        self._events.append(Event("log", record.id, content))

    def _take_progress(self, record: NodeRecord, letter: Mapping[str, Any]) -> None:
        record.progress = max(record.progress, min(100, int(letter["value"])))
        self._events.append(Event("progress", record.id, {"value": record.progress}))

    def _take_submission(self, record: NodeRecord, letter: Mapping[str, Any]) -> None:
        known = {submission["id"] for submission in self.submissions}
        if record.type == "aggregator" and letter["id"] not in known:
            content = {key: letter[key] for key in ("id", "output_type", "object")}
            self.submissions.append({"node": record.id, **content})
            self._events.append(Event("submission", record.id, content))

    def _tell_others(self, node: str, letter: dict[str, Any]) -> None:
        for other in self.nodes.values():
            if other.id != node and not other.gone:
                other.outgoing.add(letter)

    @staticmethod
    def _partner(record: NodeRecord) -> dict[str, Any]:
        return {
            "kind": "partner",
            "node": record.id,
            "type": record.type,
            "status": record.status,
            "reason": record.reason,
            "ready": record.ready,
            "public": record.public,
            "voucher": record.voucher,
        }
