"""The carrier on one machine: bundles go straight from host to router and on, within a call."""

from __future__ import annotations

import threading

from federated_analytics.flame.node_host import NodeHost
from federated_analytics.flame.router import Router


class Post:
    """Carries between the hosts of one machine and a router."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._hosts: dict[str, NodeHost] = {}
        self._lock = threading.Lock()

    def add(self, host: NodeHost) -> None:
        """A host that is here from now on, with what waits for it."""
        with self._lock:
            self._hosts[host.settings.node] = host
        self.carry(host)

    def remove(self, node: str) -> None:
        with self._lock:
            self._hosts.pop(node, None)

    def carry(self, host: NodeHost) -> None:
        """Take a host's outbox to the router and on to whom it concerns, until all is quiet."""
        with self._lock:
            waiting = [host.settings.node]
            while waiting:
                for node in waiting:
                    self._exchange(node)
                waiting = [node for node in self._router.with_traffic() if node in self._hosts]

    def lock(self) -> threading.Lock:
        """Held while the router is used by anybody else."""
        return self._lock

    def deliver(self) -> None:
        """Carry what the router has for anybody."""
        with self._lock:
            for node in [n for n in self._router.with_traffic() if n in self._hosts]:
                self._exchange(node)

    def _exchange(self, node: str) -> None:
        host = self._hosts.get(node)
        if host is None or host.closed:
            return
        self._router.receive(node, host.exchange(self._router.bundle_for(node)))
