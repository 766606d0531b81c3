"""The storage client's methods of `FlameCoreSDK`."""

from __future__ import annotations

import time
import uuid
from typing import Any, BinaryIO, Literal, TypedDict

from federated_analytics.flame.arguments import check_choice, node_ids, waiting_limit
from federated_analytics.flame.broker import BrokerMethods, Responses, nodeID
from federated_analytics.flame.errors import InvalidArgument, NotTheAggregator
from federated_analytics.flame.node_connection import NodeConnection
from federated_analytics.flame.transfer import dumped, loaded, spooled

Saved = dict[str, str]


class LocalDifferentialPrivacyParams(TypedDict):
    """Laplace noise of scale sensitivity / epsilon."""

    epsilon: float
    sensitivity: float


class StorageMethods(BrokerMethods):
    """Final results, intermediate data on the hub or at the node, and tags."""

    _connection: NodeConnection
    _role: str

    def submit_final_result(
        self,
        result: Any,
        output_type: Literal["str", "bytes", "pickle"] = "str",
        local_dp: LocalDifferentialPrivacyParams | None = None,
    ) -> Saved:
        """Submit a final result for the analysts to download; at the aggregator only.

        Args:
            output_type: `str` writes str(result) as text, `bytes` the bytes themselves,
                `pickle` a pickle that only the analyst ever opens.
            local_dp: noise for a number or a numeric array, charged to the privacy budget.

        Returns:
            {"status": "success", "id": …}

        Raises:
            NotTheAggregator: get_role() is not "aggregator".
            BudgetSpent: the budget does not cover `local_dp`.
        """
        if self._role != "aggregator":
            raise NotTheAggregator("Only the aggregator submits a final result.")
        _check_output(result, output_type, local_dp is not None)
        if local_dp is not None:
            result = self._with_noise(result, local_dp)
        with spooled() as file:
            file.write(_encoded(result, output_type))
            saved = self._connection.call(
                "submit", file, id=uuid.uuid4().hex, output_type=output_type
            )
        return dict(saved)

    def save_intermediate_data(
        self,
        data: Any,
        location: Literal["local", "global"],
        remote_node_ids: list[str] | None = None,
        tag: str | None = None,
    ) -> dict[nodeID, Saved] | Saved:
        """Save data on the hub ("global") or at this node ("local").

        Args:
            data: JSON values, bytes, numpy arrays, pandas frames, and lists and dictionaries
                of these.
            remote_node_ids: global only: encrypt it for each of these nodes.
            tag: local only: a name under which later analyses of the project find it.

        Returns:
            {"status", "url", "id"}; with `remote_node_ids` one of these for each node.
        """
        check_choice(location, ("local", "global"), "location")
        if location == "global" and tag is not None:
            raise InvalidArgument(
                "A tag names local data.", where="tag", remedy="Use location='local'."
            )
        if location == "local" and remote_node_ids is not None:
            raise InvalidArgument(
                "Local data stays at this node, so no other node can read it.",
                where="remote_node_ids",
                remedy="Use location='global', or leave out remote_node_ids.",
            )
        with dumped(data) as file:
            if location == "local":
                return dict(self._connection.call("save_local", file, tag=tag))
            if remote_node_ids is None:
                return dict(self._connection.call("save_global", file))
            return self._save_sealed(file, list(remote_node_ids), None, partial=False)

    def get_intermediate_data(
        self,
        location: Literal["local", "global"],
        id: str | None = None,
        tag: str | None = None,
        tag_option: Literal["all", "last", "first"] | None = "all",
        sender_node_id: str | None = None,
    ) -> Any:
        """Data that was saved before, by its id or (local only) by its tag.

        Args:
            tag_option: `all` gives a list, oldest first; `first` and `last` the one value.
            sender_node_id: who saved it, when it is encrypted.

        Raises:
            UnknownObject: no such object, or it is for others.
            UnknownTag: `first` or `last` of a tag that is not in use.
        """
        check_choice(location, ("local", "global"), "location")
        if (id is None) == (tag is None):
            raise InvalidArgument(
                "Data is found by its id or by its tag.", where="id", remedy="Give one of the two."
            )
        if tag is not None:
            if location != "local":
                raise InvalidArgument(
                    "A tag names local data.", where="tag", remedy="Use location='local'."
                )
            option = tag_option or "all"
            ids = self._connection.call("tagged", tag=tag, option=option)
            values = [self._loaded("open_local", id=found) for found in ids]
            return values if option == "all" else values[0]
        if location == "local":
            return self._loaded("open_local", id=str(id))
        return self._loaded("open_global", id=str(id), sender=sender_node_id)

    def send_intermediate_data(
        self,
        receivers: list[nodeID],
        data: Any,
        message_category: str = "intermediate_data",
        max_attempts: int = 1,
        timeout: int | None = None,
        attempt_timeout: int = 10,
        encrypted: bool = True,
    ) -> tuple[list[nodeID], list[nodeID]]:
        """Save data on the hub, and tell the receivers where: of any size, encrypted for each.

        Returns:
            As `send_message`.
        """
        started = time.monotonic()
        waiting_limit(max_attempts, timeout, attempt_timeout)
        named = node_ids(receivers, "receivers")
        with dumped(data) as file:
            if encrypted:
                saved = self._save_sealed(file, named, timeout, partial=True)
                ids = {node: one["id"] for node, one in saved.items()}
            else:
                id = self._connection.call("save_global", file)["id"]
                ids = dict.fromkeys(named, id)
        rest = None if timeout is None else max(0.0, timeout - (time.monotonic() - started))
        acknowledged, _ = self.send_message(
            list(ids),
            message_category,
            {"ids": ids, "encrypted": bool(encrypted)},
            max_attempts,
            rest,  # type: ignore[arg-type]
            attempt_timeout,
        )
        return acknowledged, [node for node in named if node not in acknowledged]

    def await_intermediate_data(
        self,
        senders: list[nodeID],
        message_category: str = "intermediate_data",
        timeout: int | None = None,
    ) -> dict[nodeID, Any]:
        """Wait for data that was sent with `send_intermediate_data`, and fetch it.

        Returns:
            For each sender the data that it sent last; None where none came.
        """
        messages = self.await_messages(senders, message_category, timeout=timeout)
        return self._fetched(messages)

    def get_local_tags(self, filter: str | None = None) -> list[str]:
        """The tags of this project at this node, sorted; those that contain `filter`."""
        return [str(tag) for tag in self._connection.call("tags", containing=filter)]

    def _fetched(self, messages: Responses) -> dict[nodeID, Any]:
        found: dict[nodeID, Any] = {}
        for sender, received in messages.items():
            if not received:
                found[sender] = None
                continue
            body = received[-1].body
            own = body.get("ids", {}).get(self._node) if isinstance(body.get("ids"), dict) else None
            if own is None:
                raise InvalidArgument(
                    "The message was not sent with send_intermediate_data.",
                    where="message_category",
                    remedy="Use a category of its own for intermediate data.",
                )
            encrypted = sender if body.get("encrypted") else None
            found[sender] = self._loaded("open_global", id=own, sender=encrypted)
        return found

    _node: str

    def _save_sealed(
        self, file: BinaryIO, receivers: list[str], timeout: float | None, *, partial: bool
    ) -> dict[nodeID, Saved]:
        return dict(
            self._connection.call(
                "save_sealed", file, receivers=receivers, timeout=timeout, partial=partial
            )
        )

    def _loaded(self, call: str, **arguments: Any) -> Any:
        return loaded(self._connection, call, **arguments)

    def _with_noise(self, result: Any, local_dp: LocalDifferentialPrivacyParams) -> Any:
        from federated_analytics.flame.local_dp import noisy

        try:
            epsilon, sensitivity = local_dp["epsilon"], local_dp["sensitivity"]
        except (KeyError, TypeError):
            raise InvalidArgument(
                "local_dp has two numbers.",
                where="local_dp",
                remedy="Write {'epsilon': 1.0, 'sensitivity': 1.0}.",
            ) from None
        return noisy(
            result,
            epsilon=epsilon,
            sensitivity=sensitivity,
            charge=lambda spent: self._connection.call("charge", epsilon=spent),
        )


def _check_output(result: Any, output_type: str, noise: bool) -> None:
    check_choice(output_type, ("str", "bytes", "pickle"), "output_type")
    if output_type == "bytes" and (noise or not isinstance(result, bytes | bytearray | memoryview)):
        raise InvalidArgument(
            "output_type='bytes' writes bytes, and bytes get no noise.",
            where="result",
            remedy="Give bytes, or use output_type='str' or 'pickle'.",
        )


def _encoded(result: Any, output_type: str) -> bytes:
    if output_type == "pickle":
        from federated_analytics.flame.final_pickle import pickled

        return pickled(result)
    return bytes(result) if output_type == "bytes" else str(result).encode()
