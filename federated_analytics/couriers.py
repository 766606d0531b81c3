"""How requests reach sites and releases come back: over Flower, or within this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from concurrent.futures import TimeoutError as FuturesTimeout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from flwr.app import Message
    from flwr.serverapp import Grid

REQUEST, RELEASE, BODY = "request", "release", "body"
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 1.0
SETTLE_SECONDS = 1.0
"""After enough sites are seen, how long others may still turn up."""


@dataclass(frozen=True)
class Reply:
    """What came back from one site; `body` is None where its app failed, `error` says how."""

    address: str
    body: bytes | None
    error: str = ""
    seconds: float = 0.0


class Courier(Protocol):
    """Carries bytes to sites and back; knows nothing of what they say."""

    def addresses(self) -> list[str]:
        """Every site that can be reached."""
        ...

    def exchange(self, requests: Mapping[str, bytes], deadline: float) -> Iterator[Reply]:
        """Send all requests at once and yield replies as they come, until `deadline`.

        Args:
            deadline: in the seconds of `time.monotonic`. A site that has not answered by then
                is not yielded.
        """
        ...


@dataclass
class InProcessCourier:
    """Sites in this process, each asked in a thread of its own."""

    sites: Mapping[str, Callable[[bytes], bytes]]

    def addresses(self) -> list[str]:
        return list(self.sites)

    def exchange(self, requests: Mapping[str, bytes], deadline: float) -> Iterator[Reply]:
        started = time.monotonic()
        pool = ThreadPoolExecutor(max_workers=max(1, len(requests)))
        try:
            asked = {
                pool.submit(self.sites[address], body): address
                for address, body in requests.items()
            }
            for done in as_completed(asked, timeout=max(0.0, deadline - started)):
                seconds = time.monotonic() - started
                if done.exception() is not None:
                    yield Reply(asked[done], None, "site_failed", seconds)
                else:
                    yield Reply(asked[done], done.result(), seconds=seconds)
        except FuturesTimeout:
            return
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@dataclass
class GridCourier:
    """Sites behind SuperNodes, reached through a ServerApp's grid.

    Args:
        grid: Flower's grid.
        min_sites: how many nodes to wait for before asking.
        wait_seconds: how long to wait for them.
    """

    grid: Grid
    min_sites: int = 1
    wait_seconds: float = 30.0
    _round: int = field(default=0, init=False)

    def addresses(self) -> list[str]:
        limit = time.monotonic() + self.wait_seconds
        while time.monotonic() < limit:
            if len(list(self.grid.get_node_ids())) >= self.min_sites:
                time.sleep(SETTLE_SECONDS)
                break
            time.sleep(LONGEST_PAUSE_SECONDS)
        return sorted(str(node) for node in self.grid.get_node_ids())

    def exchange(self, requests: Mapping[str, bytes], deadline: float) -> Iterator[Reply]:
        started = time.monotonic()
        self._round += 1
        life = deadline - started
        messages = [self._message(node, body, life) for node, body in requests.items()]
        pushed = zip(self.grid.push_messages(messages), requests, strict=False)
        # By message, not by sender: where a node is lost, the SuperLink answers in its own name.
        waiting = {message_id: node for message_id, node in pushed if message_id}
        pause = FIRST_PAUSE_SECONDS
        while waiting and time.monotonic() < deadline:
            arrived = list(self.grid.pull_messages(list(waiting)))
            for message in arrived:
                node = waiting.pop(message.metadata.reply_to_message_id, "")
                if node and not _is_lost(message):
                    yield _reply(message, node, time.monotonic() - started)
            pause = FIRST_PAUSE_SECONDS if arrived else min(pause * 1.5, LONGEST_PAUSE_SECONDS)
            if waiting:
                time.sleep(max(0.0, min(pause, deadline - time.monotonic())))

    def _message(self, node: str, body: bytes, seconds: float) -> Message:
        from flwr.app import ConfigRecord, Message, MessageType, RecordDict

        return Message(
            RecordDict({REQUEST: ConfigRecord({BODY: body})}),
            message_type=MessageType.QUERY,
            dst_node_id=int(node),
            group_id=str(self._round),
            ttl=max(1.0, seconds),
        )


def _is_lost(message: Message) -> bool:
    """Whether Flower itself says that no answer will come: a node that went away, an expiry."""
    from flwr.common.constant import ErrorCode

    lost = (
        ErrorCode.NODE_UNAVAILABLE,
        ErrorCode.MESSAGE_UNAVAILABLE,
        ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
    )
    return message.has_error() and message.error.code in lost


def _reply(message: Message, address: str, seconds: float) -> Reply:
    """A site's answer. An app that failed says so by a code: Flower's reason holds its text."""
    if message.has_error():
        return Reply(address, None, "site_failed", seconds)
    body = None
    if RELEASE in message.content.config_records:
        body = message.content.config_records[RELEASE].get(BODY)
    return Reply(address, body if isinstance(body, bytes) else b"", seconds=seconds)
