"""What a node needs of the hub's store, and the store in a folder that gives it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO, Protocol

from federated_analytics.flame.blob_store import BlobStore


class HubObjects(Protocol):
    """The hub's objects as one node of one analysis sees them."""

    def put(self, source: BinaryIO, readers: Collection[str] | None) -> str:
        """Store the rest of a stream for `readers`, for everybody when None; its id."""

    def open(self, id: str) -> BinaryIO:
        """An object that this node may read.

        Raises:
            UnknownObject: there is none, or it is for others: one answer for both.
        """


class FolderHub:
    """A hub's store in a folder of this machine, as `node` sees it."""

    def __init__(self, folder: Path, node: str, analysis: str) -> None:
        self._store = BlobStore(folder)
        self._node = node
        self._analysis = analysis

    def put(self, source: BinaryIO, readers: Collection[str] | None) -> str:
        return self._store.put(source, owner=self._node, readers=readers, analysis=self._analysis)

    def open(self, id: str) -> BinaryIO:
        return self._store.open(id, reader=self._node, analysis=self._analysis)
