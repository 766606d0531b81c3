"""Objects at rest: one file each and what it is beside it; the hub's store and a node's alike.

    <id>         the bytes as they came
    <id>.json    owner, readers, analysis, sha256, bytes, created (seconds since 1970)

Files appear under their name only when they are whole. The store holds what it is given: an
object that is encrypted before `put` is never there in plain text, nor its key.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import secrets
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from federated_analytics.flame.chunks import CHUNK, DamagedObject
from federated_analytics.flame.errors import UnknownObject

_ID = re.compile(r"[0-9a-f]{32}")
_UNFINISHED = ".tmp-"
_ABANDONED_SECONDS = 24 * 3600


@dataclass(frozen=True)
class StoredObject:
    """What the store knows of an object.

    Fields:
        owner: who put it, and may always read it
        readers: who else may; None: everyone of the analysis
        sha256: of the bytes, hexadecimal
        bytes: their number
        created: seconds since 1970
    """

    owner: str
    readers: tuple[str, ...] | None
    analysis: str
    sha256: str
    bytes: int
    created: float

    def readable_by(self, reader: str, analysis: str) -> bool:
        allowed = self.readers is None or reader == self.owner or reader in self.readers
        return allowed and analysis == self.analysis


class BlobStore:
    """A folder of objects; several threads and processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(
        self, source: BinaryIO, *, owner: str, readers: Collection[str] | None, analysis: str
    ) -> str:
        """Keep a stream, 1 MiB at a time.

        Returns:
            The object's id: 128 random bits, hexadecimal.
        """
        id = secrets.token_hex(16)
        with self._written(id) as file:
            digest, length = _copied(source, file)
            named = None if readers is None else tuple(sorted(readers))
            about = StoredObject(owner, named, analysis, digest, length, time.time())
            with self._written(f"{id}.json") as beside:
                beside.write(json.dumps(asdict(about)).encode())
        return id

    def about(self, id: str, *, reader: str, analysis: str) -> StoredObject:
        """What is known of an object, for who may read it.

        Raises:
            UnknownObject: a guessed id, another analysis, or a reader that was not named.
        """
        about = self._about(id)
        if about is None or not about.readable_by(reader, analysis):
            raise UnknownObject("There is no such object for this node.")
        return about

    def open(self, id: str, *, reader: str, analysis: str) -> BinaryIO:
        """The object's bytes; whoever reads them to the end has them checked.

        Raises:
            UnknownObject: as `about`.
            DamagedObject: while reading, when the bytes are not those that were put.
        """
        about = self.about(id, reader=reader, analysis=analysis)
        try:
            file = (self.folder / id).open("rb", buffering=0)
        except FileNotFoundError:
            raise UnknownObject("There is no such object for this node.") from None
        return cast(BinaryIO, io.BufferedReader(_CheckedReader(file, about), CHUNK))

    def delete(self, id: str, *, owner: str) -> bool:
        """Remove an object of one's own; whether there was one."""
        about = self._about(id)
        if about is None or about.owner != owner:
            return False
        self._remove(id)
        return True

    def expire(self, before: float) -> int:
        """Remove the objects created before a time (seconds since 1970), and count them."""
        expired = 0
        for beside in self.folder.glob("*.json"):
            about = self._about(beside.stem)
            if about is not None and about.created < before:
                self._remove(beside.stem)
                expired += 1
        for left in self.folder.glob(f"{_UNFINISHED}*"):
            if left.stat().st_mtime < min(before, time.time() - _ABANDONED_SECONDS):
                left.unlink(missing_ok=True)
        return expired

    def _remove(self, id: str) -> None:
        (self.folder / f"{id}.json").unlink(missing_ok=True)
        (self.folder / id).unlink(missing_ok=True)

    def _about(self, id: str) -> StoredObject | None:
        if not isinstance(id, str) or not _ID.fullmatch(id):
            return None
        try:
            fields: dict[str, Any] = json.loads((self.folder / f"{id}.json").read_bytes())
        except FileNotFoundError:
            return None
        named = fields.pop("readers")
        return StoredObject(readers=None if named is None else tuple(named), **fields)

    @contextmanager
    def _written(self, name: str) -> Iterator[BinaryIO]:
        """A file that appears under its name when the block ends well, else not at all."""
        unfinished = self.folder / f"{_UNFINISHED}{name}-{secrets.token_hex(4)}"
        try:
            with os.fdopen(
                os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "wb"
            ) as f:
                yield f
            unfinished.replace(self.folder / name)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


def _copied(source: BinaryIO, out: BinaryIO) -> tuple[str, int]:
    digest, length = hashlib.sha256(), 0
    while piece := source.read(CHUNK):
        digest.update(piece)
        length += len(piece)
        out.write(piece)
    return digest.hexdigest(), length


class _CheckedReader(io.RawIOBase):
    """A file that is compared with its checksum when its end is reached."""

    def __init__(self, file: io.FileIO, about: StoredObject) -> None:
        super().__init__()
        self._file = file
        self._about = about
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        count = self._file.readinto(buffer) or 0
        self._digest.update(memoryview(buffer)[:count])
        if not count and self._digest.hexdigest() != self._about.sha256:
            raise DamagedObject("The stored bytes are not those that were saved.")
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
