"""A message between nodes: a JSON payload and what the broker knows about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from federated_analytics.flame.errors import InvalidPayload, MessageTooLarge

MAX_BYTES = 2_000_000
_BY_REFERENCE = "Send data of this kind with send_intermediate_data."


@dataclass(frozen=True)
class Message:
    """What `await_messages` and `get_messages` return.

    body: the sender's payload, and under "meta": type ("incoming"), category, id, akn_id
        (the id of its acknowledgement), status ("unread" | "read"), sender, created_at and
        arrived_at (ISO 8601, UTC), number (of arrival at this node, from 1).
    recipients: the nodes that it was sent to.
    """

    body: dict[str, Any]
    recipients: list[str]

    @property
    def id(self) -> str:
        return str(self.body["meta"]["id"])

    @property
    def sender(self) -> str:
        return str(self.body["meta"]["sender"])

    @property
    def category(self) -> str:
        return str(self.body["meta"]["category"])


def from_record(record: Mapping[str, Any]) -> Message:
    """A message from the two fields that a node hands to its worker."""
    return Message(dict(record["body"]), list(record["recipients"]))


def payload_text(payload: Any) -> str:
    """A payload as JSON text.

    Raises:
        InvalidPayload: not a dictionary, or it holds `meta`, NaN, or no JSON value.
        MessageTooLarge: more than MAX_BYTES.
    """
    if not isinstance(payload, dict):
        raise InvalidPayload("A message is a dictionary.", where="message")
    if "meta" in payload:
        raise InvalidPayload(
            "The key 'meta' is the broker's own.", where="message", remedy="Use another key."
        )
    try:
        text = json.dumps(payload, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        cyclic = "Circular" in str(error)
        raise InvalidPayload(
            "A message cannot hold itself." if cyclic else "JSON has no NaN and no infinity.",
            where="message",
            remedy="Send None in its place, or the data with send_intermediate_data.",
        ) from None
    except (TypeError, RecursionError):
        raise InvalidPayload(
            f"A message holds JSON values only, not {_foreign(payload)}.",
            where="message",
            remedy=f"Use .item() or .tolist() for numbers of numpy. {_BY_REFERENCE}",
        ) from None
    if len(text.encode()) > MAX_BYTES:
        raise MessageTooLarge(
            f"A message of {len(text.encode())} bytes is above the limit of {MAX_BYTES}.",
            where="message",
        )
    return text


def _foreign(value: Any, depth: int = 0) -> str:
    """The name of the first type in `value` that is not one of JSON's."""
    if depth > 50:
        return "so deep a nesting"
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str | int | float | bool | None):
                return f"a key of type {type(key).__name__}"
            if found := _foreign(item, depth + 1):
                return found
    elif isinstance(value, list | tuple):
        for item in value:
            if found := _foreign(item, depth + 1):
                return found
    elif not isinstance(value, str | int | float | bool | None):
        return f"a value of type {type(value).__name__}"
    return ""


def inbox_record(row: Mapping[str, Any], status: str) -> dict[str, Any]:
    """A row of a node's inbox as the two fields of a `Message`."""
    body = json.loads(row["payload"])
    body["meta"] = {
        "type": "incoming",
        "category": row["category"],
        "id": row["id"],
        "akn_id": f"akn-{row['id']}",
        "status": status,
        "sender": row["sender"],
        "created_at": _iso(row["created_at"]),
        "arrived_at": _iso(row["arrived_at"]),
        "number": row["number"],
    }
    return {"body": body, "recipients": json.loads(row["recipients"])}


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
