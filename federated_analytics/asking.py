"""Asking sites, and asking again those that are not ready: a study that is waited for at one
site (a long query, a person who approves) holds no other up.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from federated_analytics.couriers import Courier, Reply

NOT_YET = frozenset({"working", "waiting_for_approval", "site_busy"})
"""Codes of refusals after which the same request may be sent again."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 15.0


@dataclass
class Asking:
    """One round: requests out, replies in as they come.

    Args:
        deadline: in the seconds of `time.monotonic`; what has not come by then is not waited for.
    """

    courier: Courier
    requests: Mapping[str, bytes]
    deadline: float
    _arrived: queue.SimpleQueue[Reply | int] = field(default_factory=queue.SimpleQueue, init=False)
    _exchanges: int = field(default=0, init=False)
    _pauses: dict[str, float] = field(default_factory=dict, init=False)

    def replies(self) -> Iterator[Reply]:
        """Every reply, until none is outstanding; call `again` for one that was not yet one."""
        self._send(self.requests, 0.0)
        while self._exchanges:
            try:
                arrived = self._arrived.get(timeout=max(0.0, self.deadline - time.monotonic()))
            except queue.Empty:
                return
            if isinstance(arrived, Reply):
                yield arrived
            else:
                self._exchanges -= arrived

    def again(self, address: str) -> bool:
        """Send a site its request again after a pause; False where no time is left for it."""
        pause = self._pauses.get(address, FIRST_PAUSE_SECONDS)
        self._pauses[address] = min(LONGEST_PAUSE_SECONDS, pause * 1.5)
        if time.monotonic() + pause >= self.deadline or address not in self.requests:
            return False
        self._send({address: self.requests[address]}, pause)
        return True

    def _send(self, requests: Mapping[str, bytes], pause: float) -> None:
        self._exchanges += 1

        def exchange() -> None:
            try:
                time.sleep(pause)
                for reply in self.courier.exchange(requests, self.deadline):
                    self._arrived.put(reply)
            finally:
                self._arrived.put(1)

        threading.Thread(target=exchange, daemon=True).start()
