"""Couriers carry bytes and time; what became of a site is told by what they yield."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.supercore.task_identity import TaskIdentity

from federated_analytics import couriers
from federated_analytics.couriers import BODY, RELEASE, REQUEST, GridCourier, InProcessCourier

Answer = Callable[[Message], Message | None]


@pytest.fixture(autouse=True)
def _inside_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower makes messages only within a run; waits are cut short."""
    monkeypatch.setattr(TaskIdentity, "_run_id", 1)
    monkeypatch.setattr(TaskIdentity, "_node_id", 1)
    monkeypatch.setattr(TaskIdentity, "_task_id", 1)
    monkeypatch.setattr(couriers, "SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(couriers, "LONGEST_PAUSE_SECONDS", 0.05)


@dataclass
class FakeGrid:
    """A grid whose nodes answer by functions, each after some pulls."""

    nodes: dict[int, Answer]
    appear_after: int = 0
    delay: int = 0
    asked: list[Message] = field(default_factory=list)
    seen: int = 0
    pulls: int = 0

    def get_node_ids(self) -> list[int]:
        self.seen += 1
        return list(self.nodes) if self.seen > self.appear_after else []

    def push_messages(self, messages: Iterable[Message]) -> list[str | None]:
        ids: list[str | None] = []
        for message in messages:
            assert message.metadata.ttl > 0
            name = f"m{message.metadata.dst_node_id}"
            message.metadata.__dict__["_message_id"] = name
            self.asked.append(message)
            ids.append(name)
        return ids

    def pull_messages(self, ids: Iterable[str]) -> Iterator[Message]:
        self.pulls += 1
        for message in self.asked:
            if self.pulls > self.delay and message.metadata.message_id in set(ids):
                answer = self.nodes[message.metadata.dst_node_id](message)
                if answer is not None:
                    yield answer


def released(body: object) -> Answer:
    return lambda asked: Message(
        RecordDict({RELEASE: ConfigRecord({BODY: body})}),  # type: ignore[dict-item]
        reply_to=asked,
    )


def failed(code: int, reason: str = "password in postgresql://u:pw@h/db") -> Answer:
    return lambda asked: Message(Error(code=code, reason=reason), reply_to=asked)


def lost(asked: Message) -> Message:
    """As the SuperLink answers for a node that is gone: in its own name."""
    reply = Message(Error(code=ErrorCode.NODE_UNAVAILABLE, reason="gone"), reply_to=asked)
    reply.metadata.__dict__["_src_node_id"] = 1
    return reply


def exchange(grid: FakeGrid, seconds: float = 5.0) -> dict[str, couriers.Reply]:
    courier = GridCourier(grid, wait_seconds=1)  # type: ignore[arg-type]
    requests = {address: b"question" for address in courier.addresses()}
    return {r.address: r for r in courier.exchange(requests, time.monotonic() + seconds)}


def test_requests_reach_nodes_and_bytes_come_back() -> None:
    grid = FakeGrid({5: released(b"five"), 7: released(b"seven")}, delay=2)
    replies = exchange(grid)
    assert {a: r.body for a, r in replies.items()} == {"5": b"five", "7": b"seven"}
    assert [m.content.config_records[REQUEST][BODY] for m in grid.asked] == [b"question"] * 2
    assert {m.metadata.group_id for m in grid.asked} == {"1"}


def test_an_app_that_fails_is_named_by_a_code_alone() -> None:
    code = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    replies = exchange(FakeGrid({5: failed(code), 7: released(b"x")}))
    assert (replies["5"].body, replies["5"].error) == (None, "site_failed")
    assert "password" not in repr(replies["5"])


def test_a_node_that_is_gone_is_not_waited_for_and_not_yielded() -> None:
    started = time.monotonic()
    assert set(exchange(FakeGrid({5: lost, 7: released(b"x")}), seconds=30)) == {"7"}
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("body", ["text", 3, [1.0]])
def test_what_is_not_bytes_counts_as_an_empty_answer(body: object) -> None:
    assert exchange(FakeGrid({5: released(body)}))["5"].body == b""


def test_an_answer_without_a_release_is_an_empty_answer() -> None:
    grid = FakeGrid({5: lambda asked: Message(RecordDict(), reply_to=asked)})
    assert exchange(grid)["5"].body == b""


def test_a_silent_node_is_left_at_the_deadline() -> None:
    started = time.monotonic()
    replies = exchange(FakeGrid({5: lambda asked: None, 7: released(b"x")}), seconds=0.5)
    assert set(replies) == {"7"}
    assert time.monotonic() - started < 2


def test_a_message_that_could_not_be_pushed_is_not_waited_for() -> None:
    class Refusing(FakeGrid):
        def push_messages(self, messages: Iterable[Message]) -> list[str | None]:
            return [None if name == "m5" else name for name in super().push_messages(messages)]

    started = time.monotonic()
    replies = exchange(Refusing({5: released(b"x"), 7: released(b"y")}), seconds=30)
    assert {a: r.body for a, r in replies.items()} == {"7": b"y"}
    assert time.monotonic() - started < 5


def test_nodes_that_come_late_are_waited_for() -> None:
    grid = FakeGrid({5: released(b"x"), 7: released(b"x")}, appear_after=3)
    courier = GridCourier(grid, min_sites=2, wait_seconds=5)  # type: ignore[arg-type]
    assert courier.addresses() == ["5", "7"]


def test_without_nodes_the_wait_ends() -> None:
    started = time.monotonic()
    courier = GridCourier(FakeGrid({}), min_sites=2, wait_seconds=0.3)  # type: ignore[arg-type]
    assert courier.addresses() == []
    assert 0.2 < time.monotonic() - started < 3


def test_each_round_has_its_group() -> None:
    grid = FakeGrid({5: released(b"x")})
    courier = GridCourier(grid)  # type: ignore[arg-type]
    for _ in range(2):
        list(courier.exchange({"5": b"q"}, time.monotonic() + 5))
        grid.asked, last = [], grid.asked
    assert last[0].metadata.group_id == "2"


def in_process(sites: dict[str, Callable[[bytes], bytes]], seconds: float) -> dict[str, object]:
    courier = InProcessCourier(sites)
    requests = {address: b"q" for address in courier.addresses()}
    replies = courier.exchange(requests, time.monotonic() + seconds)
    return {
        reply.address: reply.body if reply.body is not None else reply.error for reply in replies
    }


def test_sites_in_process_answer_as_they_come() -> None:
    def breaks(_: bytes) -> bytes:
        raise ValueError("secret")

    sites = {"a": lambda body: body + b"!", "b": breaks}
    assert in_process(sites, 5) == {"a": b"q!", "b": "site_failed"}


def test_a_slow_site_in_process_is_left_at_the_deadline() -> None:
    release = threading.Event()

    def slow(_: bytes) -> bytes:
        release.wait(20)
        return b"late"

    started = time.monotonic()
    assert in_process({"a": lambda body: b"x", "b": slow}, 0.3) == {"a": b"x"}
    assert time.monotonic() - started < 5
    release.set()
