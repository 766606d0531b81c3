"""The message broker's methods of `FlameCoreSDK`."""

from __future__ import annotations

import time
import uuid
from typing import Any, Literal

from federated_analytics.flame.arguments import (
    check_choice,
    check_text,
    node_ids,
    seconds,
    waiting_limit,
)
from federated_analytics.flame.message import Message, from_record, payload_text
from federated_analytics.flame.node_connection import NodeConnection

nodeID = str  # the document's own name for it
Responses = dict[nodeID, list[Message] | None]


class BrokerMethods:
    """Small JSON messages between the nodes of an analysis."""

    _connection: NodeConnection

    def send_message(
        self,
        receivers: list[nodeID],
        message_category: str,
        message: dict[str, Any],
        max_attempts: int = 1,
        timeout: int | None = None,
        attempt_timeout: int = 10,
    ) -> tuple[list[nodeID], list[nodeID]]:
        """Send a message, and wait until its receivers' nodes have it.

        Delivery is durable, so a further attempt is a further time to wait, not a second copy.

        Args:
            message: JSON values, at most about 2 MB, without the key "meta".
            max_attempts: how many times `attempt_timeout` is waited.
            timeout: seconds over all attempts; None leaves the last attempt unbounded, until
                each receiver has the message or is known to be gone.
            attempt_timeout: seconds of one attempt.

        Returns:
            The receivers that acknowledged, and those that did not.

        Raises:
            InvalidPayload, MessageTooLarge: the message cannot be sent.
            UnknownNode: a receiver that is not of this analysis.
        """
        limit = waiting_limit(max_attempts, timeout, attempt_timeout)
        named = node_ids(receivers, "receivers")
        check_text(message_category, "message_category")
        payload = payload_text(message)
        acknowledged = self._connection.call(
            "send",
            id=str(uuid.uuid4()),
            receivers=named,
            category=message_category,
            payload=payload,
            limit=limit,
        )
        return acknowledged, [node for node in named if node not in acknowledged]

    def await_messages(
        self,
        senders: list[nodeID],
        message_category: str,
        message_id: str | None = None,
        timeout: int | None = None,
    ) -> Responses:
        """Wait until an unread message of a category is there from every sender.

        Args:
            message_id: only the message with this id.
            timeout: seconds; None waits until each sender has sent or is known to be gone.

        Returns:
            For each sender its unread messages, oldest first, now read; None where none came.
        """
        check_text(message_category, "message_category")
        return self._receive(
            node_ids(senders, "senders"),
            message_category,
            message_id,
            0,
            seconds(timeout, "timeout"),
        )

    def get_messages(self, status: Literal["unread", "read"] = "unread") -> list[Message]:
        """The received messages with a status, in order of arrival; it is not changed."""
        check_choice(status, ("unread", "read"), "status")
        return [from_record(record) for record in self._connection.call("messages", status=status)]

    def delete_messages(self, message_ids: list[str]) -> int:
        """Delete received messages; how many there were."""
        if isinstance(message_ids, str):
            message_ids = [message_ids]
        return int(self._connection.call("delete", ids=[str(id) for id in message_ids]))

    def clear_messages(
        self,
        status: Literal["read", "unread", "all"] = "read",
        min_age: int | None = None,
    ) -> int:
        """Delete received messages by status; how many there were.

        Args:
            min_age: only those that arrived more than this many seconds ago.
        """
        check_choice(status, ("read", "unread", "all"), "status")
        age = seconds(min_age, "min_age")
        return int(self._connection.call("clear", status=status, min_age=age))

    def send_message_and_wait_for_responses(
        self,
        receivers: list[nodeID],
        message_category: str,
        message: dict[str, Any],
        max_attempts: int = 1,
        timeout: int | None = None,
        attempt_timeout: int = 10,
    ) -> Responses:
        """Send a message, and wait for a message of the same category from every receiver.

        Args:
            timeout: seconds for acknowledgements and responses together.

        Returns:
            As `await_messages`; only messages that arrived after the sending count.
        """
        started = time.monotonic()
        after = int(self._connection.call("last_arrival"))
        self.send_message(
            receivers, message_category, message, max_attempts, timeout, attempt_timeout
        )
        rest = None if timeout is None else max(0.0, timeout - (time.monotonic() - started))
        return self._receive(node_ids(receivers, "receivers"), message_category, None, after, rest)

    def _receive(
        self, senders: list[str], category: str, id: str | None, after: int, timeout: float | None
    ) -> Responses:
        found = self._connection.call(
            "receive", senders=senders, category=category, id=id, after=after, timeout=timeout
        )
        return {
            sender: None if records is None else [from_record(record) for record in records]
            for sender, records in found.items()
        }
