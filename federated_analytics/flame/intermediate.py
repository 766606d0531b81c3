"""Intermediate data at a node: saved on the hub or locally, sealed for chosen nodes."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Sequence
from typing import Any, BinaryIO, cast

from federated_analytics.flame.errors import InvalidArgument, UnknownNode, UnknownObject
from federated_analytics.flame.hub_objects import HubObjects
from federated_analytics.flame.local_storage import LocalStorage
from federated_analytics.flame.node_host import NodeHost

_IN_MEMORY_BYTES = 1 << 20


class IntermediateData:
    """What a node's script saves and reads; plain text of sealed objects never leaves it."""

    def __init__(self, host: NodeHost, hub: HubObjects, local: LocalStorage) -> None:
        self._host = host
        self._hub = hub
        self._local = local

    def save_local(self, source: BinaryIO, tag: str | None) -> dict[str, str]:
        settings = self._host.settings
        id = self._local.save(source, tag=tag, analysis=settings.analysis)
        return _saved(f"local://{settings.project}/{id}", id)

    def save_global(self, source: BinaryIO) -> dict[str, str]:
        """Unencrypted: every node of the analysis may read it."""
        id = self._hub.put(source, None)
        return _saved(f"hub://{self._host.settings.analysis}/{id}", id)

    def save_sealed(
        self, source: BinaryIO, receivers: Sequence[str], timeout: float | None, partial: bool
    ) -> dict[str, dict[str, str]]:
        """One sealed object for each receiver.

        The id of a sealed object is two parts: of the store, and of the seal that binds it to
        analysis, sender and receiver, so that the hub cannot put one in place of another.

        Args:
            timeout: how long to wait for the keys of receivers that have not joined yet.
            partial: leave out receivers that never joined, instead of raising.
        """
        keys = self._keys(receivers, timeout, partial)
        with tempfile.TemporaryFile(dir=str(self._host.folder)) as plain:
            while chunk := source.read(1 << 20):
                plain.write(chunk)
            return {
                node: self._sealed(cast(BinaryIO, plain), node, key) for node, key in keys.items()
            }

    def open_local(self, id: str) -> BinaryIO:
        return self._local.open(id)

    def open_global(self, id: str, sender: str | None) -> BinaryIO:
        """The plain bytes of an object on the hub.

        Raises:
            UnknownObject: no object that this node may read.
            InvalidArgument: it is sealed and no sender is named, or the other way round.
        """
        stored, _, seal = id.partition("-")
        if seal and sender is None:
            raise InvalidArgument(
                "The data is encrypted.",
                where="sender_node_id",
                remedy="Give the id of the node that saved it as sender_node_id.",
            )
        if sender is None:
            return self._hub.open(stored)
        if not seal:
            raise InvalidArgument(
                "The data is not encrypted.",
                where="sender_node_id",
                remedy="Leave out sender_node_id, or save it with remote_node_ids.",
            )
        self._host.check_nodes([sender], "sender_node_id")
        return self._opened(stored, seal, sender)

    def _opened(self, stored: str, seal: str, sender: str) -> BinaryIO:
        from federated_analytics.flame.encryption import NodeKey, binding, unseal

        settings = self._host.settings
        public = self._public(sender)
        self._host.check_key(sender)
        if not public:
            raise UnknownObject("There is no such object for this node.", where="id")
        plain = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=str(self._host.folder))  # noqa: SIM115
        bound = binding(settings.analysis, sender, settings.node, seal)
        with self._hub.open(stored) as sealed:
            own = NodeKey(self._host.secret)
            unseal(sealed, cast(BinaryIO, plain), own, bytes.fromhex(public), bound)
        plain.seek(0)
        return cast(BinaryIO, plain)

    def _sealed(self, plain: BinaryIO, receiver: str, key: bytes) -> dict[str, str]:
        from federated_analytics.flame.encryption import NodeKey, binding, seal

        settings = self._host.settings
        id = secrets.token_hex(16)
        bound = binding(settings.analysis, settings.node, receiver, id)
        plain.seek(0)
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=str(self._host.folder)) as sealed:
            out = cast(BinaryIO, sealed)
            seal(plain, out, key, NodeKey(self._host.secret), bound)
            sealed.seek(0)
            stored = self._hub.put(out, [receiver])
        return _saved(f"hub://{settings.analysis}/{stored}", f"{stored}-{id}")

    def _keys(
        self, receivers: Sequence[str], timeout: float | None, partial: bool
    ) -> dict[str, bytes]:
        self._host.check_nodes(receivers, "remote_node_ids")
        deadline = None if timeout is None else time.monotonic() + timeout
        self._host.wait_for(
            lambda: all(self._public(node) or self._host.gone(node) for node in receivers), deadline
        )
        for node in receivers:
            self._host.check_key(node)
        found = {node: bytes.fromhex(self._public(node)) for node in receivers}
        for node in [node for node, key in found.items() if not key]:
            if not partial:
                raise UnknownNode(
                    f"Node {node!r} has not joined, so nothing can be encrypted for it.",
                    where="remote_node_ids",
                    remedy="Wait for it with ready_check first.",
                )
            del found[node]
        return found

    def _public(self, node: str) -> str:
        if node == self._host.settings.node:
            from federated_analytics.flame.encryption import NodeKey

            return NodeKey(self._host.secret).public.hex()
        return str(self._host.partner(node).get("public", ""))


def _saved(url: str, id: str) -> dict[str, str]:
    return {"status": "success", "url": url, "id": id}


def no_object(id: Any) -> UnknownObject:
    return UnknownObject(f"{str(id)[:80]!r} is no id of an object.", where="id")
