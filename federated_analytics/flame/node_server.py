"""The socket on which a node answers its worker; each of the worker's threads has a connection."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import socket
import sqlite3
import stat
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from federated_analytics import unix_sockets
from federated_analytics.errors import FederatedAnalyticsError
from federated_analytics.flame.errors import FlameError, to_record
from federated_analytics.flame.socket_protocol import Channel, ChannelStream

log = logging.getLogger(__name__)
_MAX_HEADER_BYTES = 16_000_000
_MAX_CONNECTIONS = 256
_MAX_PATH_BYTES = 100


class Answers(Protocol):
    """What answers a worker's calls: `NodeCalls`, a `Recorder` of them, or a `Replay`."""

    def answer(
        self,
        client: str,
        number: int,
        name: str,
        arguments: Mapping[str, Any],
        stream: BinaryIO | None,
    ) -> tuple[Any, BinaryIO | None]: ...


class NodeServer:
    """Serves a node's calls on a Unix socket (mode 0600), or on the loopback without them.

    Args:
        token: what the worker presents first; other processes of the same user lack it.
    """

    def __init__(self, calls: Answers, path: Path, token: str) -> None:
        self._calls = calls
        self._token = token
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._given, self._path = path, _short(path)
        self._listener = self._listening()
        self._thread = threading.Thread(
            target=self._accept, name=f"node {path.parent.name}", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """The socket's path, or `127.0.0.1:PORT`."""
        if self._listener.family == socket.AF_INET:
            return f"127.0.0.1:{self._listener.getsockname()[1]}"
        return str(self._path)

    def close(self) -> None:
        """End all connections; a call that is being answered is not waited for."""
        self._listener.close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            _shut(connection)
        self._path.unlink(missing_ok=True)
        if self._path.parent != self._given.parent:
            self._path.parent.rmdir()

    def _listening(self) -> socket.socket:
        if not hasattr(socket, "AF_UNIX"):
            return socket.create_server(("127.0.0.1", 0))
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        unix_sockets.bind(listener, self._path, 0o600)
        listener.listen(64)
        return listener

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            with self._lock:
                if len(self._connections) >= _MAX_CONNECTIONS:
                    connection.close()
                    continue
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        channel = Channel(connection, max_header_bytes=_MAX_HEADER_BYTES)
        try:
            greeting, _ = channel.receive()
            if not hmac.compare_digest(
                str(greeting.get("token", "")).encode(), self._token.encode()
            ):
                return
            while True:
                self._one(channel, str(greeting.get("client", "")))
        except (EOFError, OSError, ValueError, KeyError, FlameError, sqlite3.Error):
            log.debug("a worker's connection ended", exc_info=True)
        finally:
            with self._lock:
                self._connections.discard(connection)
            _shut(connection)
            channel.close()

    def _one(self, channel: Channel, client: str) -> None:
        header, stream = channel.receive()
        try:
            value, out = self._calls.answer(
                client, int(header["number"]), str(header["call"]), header["arguments"], stream
            )
        except FederatedAnalyticsError as error:
            _drain(stream)
            channel.send({"error": to_record(error)})
            return
        except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError):
            log.exception("a call of the worker failed: %s", str(header.get("call"))[:40])
            _drain(stream)
            failed = FlameError(
                "The node could not answer the call.",
                where=str(header.get("call"))[:40],
                remedy="Check the arguments; the node's own log has the cause.",
                code="call_failed",
            )
            channel.send({"error": to_record(failed)})
            return
        _drain(stream)
        if out is None:
            channel.send({"value": value})
            return
        with out:
            channel.send({"value": value}, out)


def _short(path: Path) -> Path:
    """The path itself, or where it is too long for a socket a short one that it determines.

    A service that restarts finds the same one, so its worker does too.
    """
    if len(os.fsencode(path)) <= _MAX_PATH_BYTES:
        return path
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:24]
    folder = Path("/tmp") / f"fa-{os.getuid()}-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise FlameError(
            "The node's socket has no safe place.",
            where=str(folder),
            remedy="Remove it, or give the service a folder with a shorter path.",
        )
    return folder / "s"


def _drain(stream: object) -> None:
    if isinstance(stream, ChannelStream):
        stream.drain()


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        log.debug("the connection was closed by the other side")
