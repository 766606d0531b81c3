"""Parts of unknown length inside a stream: chunks with their lengths, closed by an empty one."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from federated_analytics.flame.errors import FlameError

CHUNK = 1 << 20
"""Bytes of a chunk at most; also the piece in which every stream is copied."""


class DamagedObject(FlameError):
    """Stored or received bytes that are not what was saved."""

    code = "damaged_object"
    default_remedy = "Save the data again; if it happens again, a disk or the network is at fault."


def exactly(source: BinaryIO, length: int) -> bytes:
    """The next bytes of a stream that may give fewer than asked for.

    Raises:
        DamagedObject: the stream ends before.
    """
    got = source.read(length)
    if got is not None and len(got) == length:
        return got
    pieces = [got or b""]
    missing = length - len(pieces[0])
    while missing:
        piece = source.read(missing)
        if not piece:
            raise DamagedObject("The bytes end before the value does.")
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


def copy(source: BinaryIO, out: BinaryIO) -> None:
    """Copy a stream in pieces of `CHUNK` bytes."""
    while piece := source.read(CHUNK):
        out.write(piece)


class ChunkWriter(io.RawIOBase):
    """A part being written; `finish` closes the part and leaves the stream open."""

    def __init__(self, out: BinaryIO) -> None:
        super().__init__()
        self._out = out

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        for start in range(0, len(view), CHUNK):
            piece = view[start : start + CHUNK]
            self._out.write(struct.pack(">I", len(piece)))
            self._out.write(piece)
        return len(view)

    def finish(self) -> None:
        self._out.write(struct.pack(">I", 0))


class ChunkReader(io.RawIOBase):
    """A part being read; `finish` skips what its reader left."""

    def __init__(self, source: BinaryIO) -> None:
        super().__init__()
        self._source = source
        self._rest = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object, /) -> int:
        if not self._rest and not self._ended:
            self._next()
        target = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def finish(self) -> None:
        while not self._ended:
            self._next()

    def _next(self) -> None:
        (length,) = struct.unpack(">I", exactly(self._source, 4))
        if length > CHUNK:
            raise DamagedObject("A chunk claims an impossible size.")
        self._ended = length == 0
        self._rest = memoryview(exactly(self._source, length))
