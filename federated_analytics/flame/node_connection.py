"""The worker's side of its node's socket. Imports nothing heavy: every worker loads it."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from typing import Any, BinaryIO

from federated_analytics.flame.errors import NodeUnavailable, from_record
from federated_analytics.flame.socket_protocol import Channel, ChannelStream, ProtocolError

RECONNECT_SECONDS = 60.0


class NodeConnection:
    """Calls to the node; each thread has a connection of its own.

    Args:
        address: a Unix socket's path, or `127.0.0.1:PORT`.
        reconnect_seconds: how long a service that restarts may be away.
    """

    def __init__(
        self, address: str, token: str, *, reconnect_seconds: float = RECONNECT_SECONDS
    ) -> None:
        self._address = address
        self._token = token
        self._reconnect_seconds = reconnect_seconds
        self._own = threading.local()

    def call(self, name: str, stream: BinaryIO | None = None, **arguments: Any) -> Any:
        """The value of a call.

        Raises:
            FlameError: the node refused it, or is away for longer than `reconnect_seconds`.
        """
        value, out = self._answered(name, stream, arguments)
        if isinstance(out, ChannelStream):
            out.drain()
        return value

    def open(
        self, name: str, stream: BinaryIO | None = None, **arguments: Any
    ) -> tuple[Any, BinaryIO]:
        """The value and the stream of a call; read it before this thread's next call."""
        value, out = self._answered(name, stream, arguments)
        if out is None:
            raise ProtocolError("The node answered without the object.", where=name)
        return value, out

    def _answered(
        self, name: str, stream: BinaryIO | None, arguments: dict[str, Any]
    ) -> tuple[Any, BinaryIO | None]:
        """One call, repeated under its number while the node's service is away."""
        own = self._own
        if getattr(own, "process", 0) != os.getpid():
            # Also a forked child is a client of its own, with another connection.
            own.client, own.process, own.channel = secrets.token_hex(8), os.getpid(), None
        own.number = getattr(own, "number", 0) + 1
        header = {"call": name, "number": own.number, "arguments": arguments}
        deadline: float | None = None
        while True:
            try:
                channel = self._channel()
                if stream is not None:
                    stream.seek(0)
                channel.send(header, stream)
                answer, out = channel.receive()
                break
            except (EOFError, OSError) as error:
                self._forget()
                deadline = deadline or time.monotonic() + self._reconnect_seconds
                if time.monotonic() >= deadline:
                    raise NodeUnavailable("The node's service does not answer.") from error
                time.sleep(0.1)
        if "error" in answer:
            raise from_record(answer["error"])
        return answer.get("value"), out

    def _channel(self) -> Channel:
        channel: Channel | None = getattr(self._own, "channel", None)
        if channel is None:
            channel = Channel(self._connected())
            channel.send({"token": self._token, "client": self._own.client})
            self._own.channel = channel
        return channel

    def _connected(self) -> socket.socket:
        host, colon, port = self._address.rpartition(":")
        if colon and host == "127.0.0.1" and port.isdigit():
            return socket.create_connection((host, int(port)))
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(self._address)
        except OSError:
            connection.close()
            raise
        return connection

    def _forget(self) -> None:
        channel: Channel | None = getattr(self._own, "channel", None)
        if channel is not None:
            channel.close()
            self._own.channel = None
