"""Connections: who may open one, how long it may dawdle, and which gives way to the next."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from federated_analytics.site_service.limits import Limits
from federated_analytics.site_service.logs import log_event
from federated_analytics.site_service.metrics import Metrics

FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_CREDENTIALS = struct.Struct("3i")
"""pid, uid, gid (unix(7): struct ucred)."""


@dataclass
class Door:
    """Who comes in.

    Args:
        users: numeric ids of the system users who may connect; None where a token decides.
    """

    limits: Limits
    metrics: Metrics
    users: frozenset[int] | None
    _idle: dict[Connection, None] = field(default_factory=dict, init=False)
    _open: set[Connection] = field(default_factory=set, init=False)

    def peer(self, opened: socket.socket) -> tuple[str, bool]:
        """Who is at the other end, and whether it may come in."""
        if self.users is None:
            return "loopback", True
        raw = opened.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        uid = _CREDENTIALS.unpack(raw)[1]
        return f"uid:{uid}", uid in self.users

    def enter(self, connection: Connection) -> None:
        """One more; where that is too many, the one that has been idle longest goes.

        Who opens a thousand connections and sends nothing drops his own: a client that asks at
        once is always younger than they are.
        """
        self._open.add(connection)
        self._idle[connection] = None
        if len(self._open) > self.limits.connections:
            oldest = next(iter(self._idle))
            self.metrics.turn_away("too_many_connections")
            oldest.transport.abort()
            self.leave(oldest)
        self.metrics.connections = len(self._open)

    def working(self, connection: Connection) -> None:
        """Its request is here whole: it does not give way."""
        self._idle.pop(connection, None)

    def idle(self, connection: Connection) -> None:
        """It has its answer, or still sends its request."""
        if connection in self._open:
            self._idle.setdefault(connection)

    def leave(self, connection: Connection) -> None:
        """It is closed."""
        self._open.discard(connection)
        self._idle.pop(connection, None)
        self.metrics.connections = len(self._open)


class Connection(H11Protocol):
    """One HTTP/1.1 connection, cut off when its request is not here in time."""

    door: Door
    deadline: asyncio.TimerHandle | None = None
    admitted = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer, self.admitted = self.door.peer(transport.get_extra_info("socket"))
        self.client = (peer, 0)
        if not self.admitted:
            self.door.metrics.turn_away("unknown_user")
            log_event("turned away", peer=peer, reason="unknown_user")
            transport.write(FORBIDDEN)
            transport.close()
            return
        self.door.enter(self)
        self._watch()

    def data_received(self, data: bytes) -> None:
        if not self.admitted or self.transport.is_closing():
            return
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._watch()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        # An answer that nobody reads would hold the connection open.
        self.loop.call_later(self.door.limits.keep_alive_seconds, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        self.door.leave(self)
        super().connection_lost(exc)

    def _watch(self) -> None:
        """A deadline runs from a request's first byte to its last."""
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self.door.idle(self)
            if self.deadline is None:
                self.deadline = self.loop.call_later(self.door.limits.read_seconds, self._too_slow)
        else:
            self._cancel()
            self.door.working(self)

    def _too_slow(self) -> None:
        self.deadline = None
        self.door.metrics.turn_away("too_slow")
        self.transport.abort()

    def _cancel(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None


def connections_through(door: Door) -> Any:
    """The protocol class for a server of uvicorn's."""
    return type("Connection", (Connection,), {"door": door})
