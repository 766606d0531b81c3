"""The site's side of a FLAME analysis: inbox, outbox, waits, lifecycle. No process, no socket.

A driver carries bundles between `NodeHost.exchange` and a `Router`; a worker's calls come in
through `node_calls.NodeCalls`. The host survives a restart: everything is in its `NodeState`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from federated_analytics.flame.errors import AnalysisEnded, UnknownNode
from federated_analytics.flame.letters import Arrivals, bundle
from federated_analytics.flame.message import inbox_record
from federated_analytics.flame.node_keys import own_secret
from federated_analytics.flame.node_settings import NodeSettings
from federated_analytics.flame.node_state import NodeState
from federated_analytics.flame.releases import ReleaseBox
from federated_analytics.flame.router import GONE

__all__ = ["NodeHost", "NodeSettings"]
_LOOK_SECONDS = 1.0
_SENT = ""  # no node's id: marks a message that is in the outbox, or was


class NodeHost(ReleaseBox):
    """One node of one analysis.

    Args:
        folder: where its state is kept, readable by the site alone.
        durable: see `NodeState`.
        on_traffic: called (without a lock) when something waits in the outbox.
    """

    def __init__(
        self,
        settings: NodeSettings,
        folder: Path,
        *,
        durable: bool = True,
        on_traffic: Callable[[NodeHost], None] = lambda host: None,
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.settings = settings
        self.folder = folder
        self._on_traffic = on_traffic
        self._changed = threading.Condition(threading.RLock())
        self._state = NodeState(folder / "node.sqlite", durable=durable)
        self._arrivals = Arrivals(int(self._state.get("taken", 0)))
        self._partners = self._state.partners()
        self._status: dict[str, str] = self._state.get(
            "status", {"status": "starting", "reason": ""}
        )
        self.secret = own_secret(self._state, self._voucher)
        self.closed = False

    # the carrier's side

    def exchange(self, incoming: Mapping[str, Any], max_bytes: int = 16_000_000) -> dict[str, Any]:
        """Take the hub's bundle, give back the outbox; repeating it changes nothing."""
        with self._changed:
            with self._arrivals.kept(), self._state.change():
                if self._state.has_outgoing():
                    self._state.confirm(int(incoming["confirmed"]))
                taken = [x for n, x in incoming["letters"] if self._arrivals.accept(int(n))]
                for letter in taken:
                    getattr(self, f"_take_{letter['kind']}", self._ignore)(letter)
                if taken:
                    self._state.put("taken", self._arrivals.last)
                letters = self._state.waiting(max_bytes)
            if taken:
                self._changed.notify_all()
        return bundle(self._arrivals.last, letters)

    def has_outgoing(self) -> bool:
        with self._changed:
            return not self.closed and self._state.has_outgoing()

    def close(self) -> None:
        """End every wait and close the file; what it holds can be opened again."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
            self._state.close()

    # lifecycle

    @property
    def status(self) -> str:
        return self._status["status"]

    @property
    def reason(self) -> str:
        return self._status["reason"]

    @property
    def ended_by(self) -> str:
        """Who has ended the analysis with analysis_finished; "" as long as nobody has."""
        with self._changed:
            return str(self._state.get("ended_by", ""))

    @property
    def stop_reason(self) -> str:
        """Why the hub told this node to stop; "" when it did not."""
        with self._changed:
            return str(self._state.get("stop", ""))

    def set_status(self, status: str, reason: str = "") -> None:
        """The worker's state; the first final one stays."""
        with self._changed:
            if self._status["status"] in GONE or self.closed or self._status["status"] == status:
                return
            self._status = {"status": status, "reason": reason}
            with self._state.change():
                self._state.put("status", self._status)
                self._state.post({"kind": "status", **self._status})
            self._changed.notify_all()
        self._on_traffic(self)

    def end_analysis(self) -> None:
        """analysis_finished: tell all nodes; the second time it changes nothing."""
        if not self.ended_by:
            with self._changed, self._state.change():
                self._state.put("ended_by", self.settings.node)
                self._state.post({"kind": "ended"})
        self.set_status("finished")

    def post(self, letter: dict[str, Any]) -> None:
        """Put a letter (log, progress, submission, asked) into the outbox."""
        with self._changed, self._state.change():
            self._state.post(letter)
        self._on_traffic(self)

    def announce(self) -> None:
        """Tell the carrier of what a caller has put into the outbox itself."""
        self._on_traffic(self)

    # partners

    def partner(self, node: str) -> dict[str, Any]:
        return self._partners.get(node, {"status": "starting", "reason": "", "ready": False})

    def check_key(self, node: str) -> None:
        """Raises: FlameError, where a partner's key is not known to be its own."""

    def _voucher(self, public: str) -> str:
        """The site's word that a key is this node's; "" where nobody checks it."""
        return ""

    def gone(self, node: str) -> bool:
        """True when nothing more can come from a node."""
        return node != self.settings.node and self.partner(node)["status"] in GONE

    def wait_for(self, enough: Callable[[], bool], deadline: float | None) -> bool:
        """Wait until `enough()`, evaluated under the lock, or `deadline` (monotonic seconds).

        Raises:
            AnalysisEnded: the host was closed meanwhile.
        """
        with self._changed:
            while True:
                if self.closed:
                    raise AnalysisEnded("The analysis was stopped at this node.")
                if enough():
                    return True
                rest = _LOOK_SECONDS if deadline is None else deadline - time.monotonic()
                if rest <= 0:
                    return False
                self._changed.wait(min(rest, _LOOK_SECONDS))

    def check_nodes(self, nodes: Sequence[str], where: str) -> None:
        """Raises: UnknownNode, for the first that is not of this analysis."""
        from federated_analytics.errors import did_you_mean

        for node in nodes:
            if node not in self.settings.nodes:
                raise UnknownNode(
                    f"{str(node)[:100]!r} is no node of this analysis.",
                    where=where,
                    remedy=did_you_mean(str(node), self.settings.nodes),
                )

    # messages

    def send(self, id: str, receivers: Sequence[str], category: str, payload: str) -> None:
        """Put a message into the outbox; the same id a second time changes nothing."""
        with self._changed, self._state.change():
            if _SENT in self._state.acknowledgements(id):
                return
            self._state.acknowledged(id, _SENT)
            self._state.post(
                {
                    "kind": "message",
                    "id": id,
                    "recipients": list(receivers),
                    "category": category,
                    "payload": payload,
                    "created_at": time.time(),
                }
            )
        self._on_traffic(self)

    def wait_for_acknowledgements(
        self, id: str, receivers: Sequence[str], deadline: float | None
    ) -> list[str]:
        """The receivers that have acknowledged, when all have or can no longer, or at last."""

        def settled() -> bool:
            known = self._state.acknowledgements(id)
            return all(node in known or self.gone(node) for node in receivers)

        self.wait_for(settled, deadline)
        with self._changed:
            known = self._state.acknowledgements(id)
        return [node for node in receivers if node in known]

    def last_arrival(self) -> int:
        with self._changed:
            return self._state.last_arrival()

    def receive(
        self,
        senders: Sequence[str],
        category: str,
        *,
        id: str | None = None,
        after: int = 0,
        deadline: float | None = None,
        keep: Callable[[dict[str, list[int] | None]], None] = lambda numbers: None,
    ) -> dict[str, list[dict[str, Any]] | None]:
        """Unread messages of each sender, marked read; None for a sender that sent none.

        Args:
            keep: told, in the transaction that marks them read, which arrivals are handed over.
        """

        def arrived(sender: str) -> bool:
            return bool(self._state.unread(sender, category, id, after))

        self.wait_for(lambda: all(arrived(s) or self.gone(s) for s in senders), deadline)
        with self._changed, self._state.change():
            rows = {s: self._state.unread(s, category, id, after) or None for s in senders}
            numbers = {s: None if r is None else [m["number"] for m in r] for s, r in rows.items()}
            self._state.mark_read([n for found in numbers.values() for n in found or []])
            keep(numbers)
        return {
            s: None if r is None else [inbox_record(m, "read") for m in r] for s, r in rows.items()
        }

    def handed_over(self, numbers: Mapping[str, Sequence[int] | None]) -> dict[str, Any]:
        """Messages that an answered `receive` has handed over before."""
        with self._changed:
            return {
                sender: None
                if found is None
                else [inbox_record(m, "read") for m in self._state.by_number(found)]
                for sender, found in numbers.items()
            }

    def messages(self, status: str) -> list[dict[str, Any]]:
        with self._changed:
            return [inbox_record(m, status) for m in self._state.with_status(status)]  # type: ignore[arg-type]

    @property
    def state(self) -> NodeState:
        """For callers that hold `locked()`."""
        return self._state

    def locked(self) -> threading.Condition:
        return self._changed

    # letters of the hub

    def _take_message(self, letter: Mapping[str, Any]) -> None:
        if self._status["status"] in GONE:
            return  # nobody will read it, so nobody says that it arrived
        self._state.store(letter, time.time())
        self._state.post({"kind": "acknowledge", "id": letter["id"], "sender": letter["sender"]})

    def _take_acknowledged(self, letter: Mapping[str, Any]) -> None:
        self._state.acknowledged(str(letter["id"]), str(letter["by"]))

    def _take_partner(self, letter: Mapping[str, Any]) -> None:
        record = {key: value for key, value in letter.items() if key != "kind"}
        self._partners[str(letter["node"])] = record
        self._state.set_partner(record)

    def _take_ended(self, letter: Mapping[str, Any]) -> None:
        if not self._state.get("ended_by", ""):
            self._state.put("ended_by", letter["by"])

    def _take_stop(self, letter: Mapping[str, Any]) -> None:
        self._state.put("stop", letter["reason"])

    def _ignore(self, letter: Mapping[str, Any]) -> None:
        """A letter of a later version."""
