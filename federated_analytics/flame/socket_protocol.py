"""Frames between a node's service and its worker: a JSON header, then raw chunks if announced.

A frame is one byte of kind, four of length (big-endian), then the content. A header with
`"stream": true` is followed by chunks and an end, so that an object of any size crosses with
one chunk in memory.
"""

from __future__ import annotations

import io
import json
import socket
import struct
from typing import Any, BinaryIO, cast

from federated_analytics.flame.errors import FlameError, from_record, to_record

CHUNK_BYTES = 1 << 20
_HEAD = struct.Struct(">BI")
_JSON, _CHUNK, _END, _BROKEN = 1, 2, 3, 4


class ProtocolError(FlameError, ConnectionError):
    code = "broken_frame"
    default_remedy = "Use one version of federated_analytics for the node and its worker."


class Channel:
    """One end of a connection; a single thread uses it at a time."""

    def __init__(self, connection: socket.socket, *, max_header_bytes: int = 1 << 30) -> None:
        self._connection = connection
        self._reader = connection.makefile("rb", buffering=1 << 16)
        self._max_header_bytes = max_header_bytes

    def send(self, header: dict[str, Any], stream: BinaryIO | None = None) -> None:
        """Send a header and, if given, everything that `stream` still holds."""
        text = json.dumps({**header, "stream": stream is not None}, separators=(",", ":"))
        self._frame(_JSON, text.encode())
        if stream is None:
            return
        try:
            while chunk := stream.read(CHUNK_BYTES):
                self._frame(_CHUNK, chunk)
        except FlameError as error:  # damaged where it was kept: the other side is told
            self._frame(_BROKEN, json.dumps(to_record(error)).encode())
            raise
        except OSError:
            self._frame(_BROKEN, b"")
            raise
        self._frame(_END, b"")

    def receive(self) -> tuple[dict[str, Any], BinaryIO | None]:
        """The next header and its stream, which is read to its end before the next call.

        Raises:
            EOFError: the other side has closed the connection.
            ProtocolError: bytes that are no frame of ours.
        """
        kind, length = self._head()
        if kind != _JSON or length > self._max_header_bytes:
            raise ProtocolError("A header was expected.")
        header = json.loads(self._exactly(length))
        if not isinstance(header, dict):
            raise ProtocolError("A header is a dictionary.")
        stream = ChannelStream(self) if header.pop("stream", False) else None
        return header, cast(BinaryIO, stream)

    def next_chunk(self) -> bytes:
        """The next chunk of the stream that is being read; empty at its end."""
        kind, length = self._head()
        if kind == _END:
            return b""
        if kind == _BROKEN and 0 < length <= CHUNK_BYTES:
            raise from_record(json.loads(self._exactly(length)))
        if kind == _BROKEN:
            raise ProtocolError("The sender could not read its object to the end.")
        if kind != _CHUNK or length > CHUNK_BYTES:
            raise ProtocolError("A chunk was expected.")
        return self._exactly(length)

    def close(self) -> None:
        self._reader.close()
        self._connection.close()

    def _frame(self, kind: int, content: bytes) -> None:
        head = _HEAD.pack(kind, len(content))
        if len(content) < 1 << 16:
            self._connection.sendall(head + content)
        else:
            self._connection.sendall(head)
            self._connection.sendall(content)

    def _head(self) -> tuple[int, int]:
        head = self._reader.read(_HEAD.size)
        if not head:
            raise EOFError
        if len(head) < _HEAD.size:
            raise ProtocolError("The connection ended within a frame.")
        kind, length = _HEAD.unpack(head)
        return kind, length

    def _exactly(self, length: int) -> bytes:
        content: bytes = self._reader.read(length)
        if len(content) < length:
            raise ProtocolError("The connection ended within a frame.")
        return content


class ChannelStream(io.RawIOBase):
    """The chunks that follow a header, read as a file."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel
        self._rest = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest and not self._ended:
            self._rest = self._channel.next_chunk()
            self._ended = not self._rest
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)

    def drain(self) -> None:
        """Read what nobody wanted, so that the next header can be read."""
        while not self._ended:
            self._ended = not self._channel.next_chunk()
