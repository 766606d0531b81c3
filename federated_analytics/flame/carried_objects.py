"""Objects between nodes that share no disk: they travel as letters, a part at a time.

A node announces an object, sends its parts and says that it is whole; all of it stands in the
outbox, so it arrives in order, once, and before any message that names it. A node that wants
one asks for it, and the hub hands out the next part when there is room in a bundle.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from federated_analytics.flame.blob_store import BlobStore
from federated_analytics.flame.chunks import DamagedObject
from federated_analytics.flame.errors import UnknownObject
from federated_analytics.flame.node_host import NodeHost
from federated_analytics.flame.node_keys import SiteKeys
from federated_analytics.flame.node_settings import NodeSettings
from federated_analytics.flame.router import NodeRecord, Router

PART_BYTES = 384 * 1024
"""Of an object in one letter; a third more as base64."""
_ID = re.compile(r"[0-9a-f]{32}")


class CarriedHost(NodeHost):
    """A node whose objects come as letters; whole ones lie in `folder / "objects"`.

    Args:
        keys: checks the keys that the hub names; None takes them as they come.
    """

    def __init__(
        self, settings: NodeSettings, folder: Path, *, keys: SiteKeys | None = None, **options: Any
    ) -> None:
        self._keys = keys
        super().__init__(settings, folder, **options)

    def check_key(self, node: str) -> None:
        if self._keys is not None and node != self.settings.node:
            self._keys.check({**self.partner(node), "node": node})

    def _voucher(self, public: str) -> str:
        return "" if self._keys is None else self._keys.voucher(self.settings.node, public)

    @property
    def objects(self) -> Path:
        folder = self.folder / "objects"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _take_part(self, letter: Mapping[str, Any]) -> None:
        """Parts come in order; one that was appended before a crash is not appended again."""
        path = self.objects / f"{_known(letter['id'])}.part"
        piece = base64.b64decode(letter["data"])
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.seek(int(letter["at"]))
            file.write(piece)
            file.truncate()
        if letter["last"]:
            path.replace(self.objects / _known(letter["id"]))

    def _take_unknown(self, letter: Mapping[str, Any]) -> None:
        (self.objects / f"{_known(letter['id'])}.unknown").touch()


class CarriedObjects:
    """The hub's objects as a node far from the hub sees them."""

    def __init__(self, host: CarriedHost) -> None:
        self._host = host

    def put(self, source: BinaryIO, readers: Collection[str] | None) -> str:
        id, digest, at = secrets.token_hex(16), hashlib.sha256(), 0
        named = None if readers is None else sorted(readers)
        self._host.post({"kind": "object", "id": id, "readers": named})
        while piece := source.read(PART_BYTES):
            digest.update(piece)
            data = base64.b64encode(piece).decode()
            self._host.post({"kind": "part", "id": id, "at": at, "data": data})
            at += len(piece)
        self._host.post({"kind": "whole", "id": id, "bytes": at, "sha256": digest.hexdigest()})
        return id

    def open(self, id: str) -> BinaryIO:
        if not _ID.fullmatch(id):
            raise UnknownObject("There is no such object for this node.", where="id")
        path = self._host.objects / id
        unknown = path.with_suffix(".unknown")
        if not path.exists():
            unknown.unlink(missing_ok=True)
            self._host.post({"kind": "want", "id": id})
            self._host.wait_for(lambda: path.exists() or unknown.exists(), None)
        if not path.exists():
            raise UnknownObject("There is no such object for this node.", where="id")
        return path.open("rb")


@dataclass
class _Wanted:
    """An object on its way to a node, and how much of it is in letters."""

    id: str
    file: BinaryIO
    at: int = 0

    def next_part(self) -> dict[str, Any]:
        piece = self.file.read(PART_BYTES)
        letter = {
            "kind": "part",
            "id": self.id,
            "at": self.at,
            "data": base64.b64encode(piece).decode(),
            "last": len(piece) < PART_BYTES,
        }
        self.at += len(piece)
        return letter


class CarryingRouter(Router):
    """A hub that keeps the objects of its nodes in a store of its own.

    Args:
        folder: of the store.
    """

    def __init__(self, nodes: Mapping[str, str], folder: Path, analysis: str) -> None:
        super().__init__(nodes)
        self.store = BlobStore(folder)
        self.analysis = analysis
        self._incoming = folder / "incoming"
        self._incoming.mkdir(mode=0o700, exist_ok=True)
        self._readers: dict[tuple[str, str], list[str] | None] = {}
        self._stored: dict[str, str] = {}
        self._wanted: dict[str, list[_Wanted]] = {id: [] for id in nodes}

    def bundle_for(self, node: str, max_bytes: int = 16_000_000) -> dict[str, Any]:
        self._hand_out(node, max_bytes)
        return super().bundle_for(node, max_bytes)

    def with_traffic(self) -> list[str]:
        waiting = {node for node, wanted in self._wanted.items() if wanted}
        return [id for id in self.nodes if id in waiting or self.nodes[id].outgoing]

    def opened(self, id: str, reader: str) -> BinaryIO:
        """An object for a node; UnknownObject where there is none that it may read."""
        stored = self._stored.get(id, id)
        return self.store.open(stored, reader=reader, analysis=self.analysis)

    def _hand_out(self, node: str, max_bytes: int) -> None:
        """The next parts of what a node wants, as long as a bundle has room for them."""
        record, wanted = self.nodes[node], self._wanted[node]
        room = max_bytes - sum(_size(letter) for _, letter in record.outgoing.waiting(max_bytes))
        while wanted and room > 0:
            letter = wanted[0].next_part()
            record.outgoing.add(letter)
            room -= _size(letter)
            if letter["last"]:
                wanted.pop(0).file.close()

    def _take_object(self, record: NodeRecord, letter: Mapping[str, Any]) -> None:
        self._readers[record.id, _known(letter["id"])] = letter["readers"]
        self._file(record, letter).write_bytes(b"")

    def _take_part(self, record: NodeRecord, letter: Mapping[str, Any]) -> None:
        with self._file(record, letter).open("r+b") as file:
            file.seek(int(letter["at"]))
            file.write(base64.b64decode(letter["data"]))

    def _take_whole(self, record: NodeRecord, letter: Mapping[str, Any]) -> None:
        path, id = self._file(record, letter), str(letter["id"])
        readers = self._readers.pop((record.id, id))
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != letter["sha256"]:
                raise DamagedObject("An object was damaged on its way to the hub.")
            file.seek(0)
            self._stored[id] = self.store.put(
                file, owner=record.id, readers=readers, analysis=self.analysis
            )
        path.unlink()

    def _take_want(self, record: NodeRecord, letter: Mapping[str, Any]) -> None:
        id = _known(letter["id"])
        try:
            self._wanted[record.id].append(_Wanted(id, self.opened(id, record.id)))
        except UnknownObject:
            record.outgoing.add({"kind": "unknown", "id": id})

    def _file(self, record: NodeRecord, letter: Mapping[str, Any]) -> Path:
        # By owner too: a node cannot write into another's object.
        return self._incoming / f"{list(self.nodes).index(record.id)}-{_known(letter['id'])}"


class HubHere:
    """The hub's objects as a node beside the hub sees them."""

    def __init__(self, router: CarryingRouter, node: str) -> None:
        self._router = router
        self._node = node

    def put(self, source: BinaryIO, readers: Collection[str] | None) -> str:
        return self._router.store.put(
            source, owner=self._node, readers=readers, analysis=self._router.analysis
        )

    def open(self, id: str) -> BinaryIO:
        return self._router.opened(id, self._node)


def _known(id: object) -> str:
    """An id as it may stand in a file's name."""
    if not isinstance(id, str) or not _ID.fullmatch(id):
        raise UnknownObject("An object's id is 32 hexadecimal digits.", where="id")
    return id


def _size(letter: Mapping[str, Any]) -> int:
    return 300 + len(letter.get("data") or letter.get("payload") or "")
