"""Messages to the nodes of a Flower grid and back, by a grid that answers as it is told."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from federated_analytics import couriers
from federated_analytics.couriers import BODY, RELEASE, REQUEST, GridCourier
from federated_analytics.errors import NoSites
from federated_analytics.federation import Terms, run_study
from federated_analytics.report.result import Result
from tests.answers import STUDY, honest, participation


class Replies:
    """A grid whose nodes answer when polled, in the order and with what they are told."""

    def __init__(self, answers: Mapping[int, Any], seen: Iterable[list[int]] = ()) -> None:
        self.answers = answers
        self.seen = iter(seen)
        self.sent: list[Any] = []
        self.polls = 0

    def get_node_ids(self) -> list[int]:
        return next(self.seen, sorted(self.answers))

    def push_messages(self, messages: Iterable[Any]) -> list[str]:
        for message in messages:
            message.metadata.__dict__["_message_id"] = f"m{len(self.sent)}"
            self.sent.append(message)
        return [m.metadata.message_id for m in self.sent]

    def pull_messages(self, waiting: Iterable[str]) -> Iterator[Any]:
        self.polls += 1
        for message in self.sent:
            answer = self.answers[message.metadata.dst_node_id]
            if message.metadata.message_id in set(waiting) and answer is not None:
                yield _flower_reply(message, answer)


def _flower_reply(message: Any, answer: Any) -> Any:
    from flwr.app import ConfigRecord, Error, Message, RecordDict

    if isinstance(answer, Error):
        reply = Message(answer, reply_to=message)
    else:
        content = RecordDict(
            {name: ConfigRecord(record) for name, record in answer.items()},
        )
        reply = Message(content, reply_to=message)
    reply.metadata.__dict__["_src_node_id"] = message.metadata.dst_node_id
    return reply


@pytest.fixture
def _in_a_server_app(monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr.supercore.task_identity import TaskIdentity

    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    monkeypatch.setattr(couriers, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(couriers, "LONGEST_PAUSE_SECONDS", 0.05)


@dataclass
class _Asked:
    grid: Replies
    replies: dict[str, couriers.Reply] = field(default_factory=dict)


def _exchange(answers: Mapping[int, Any], seconds: float = 0.4) -> _Asked:
    asked = _Asked(Replies(answers))
    courier = GridCourier(asked.grid, 1, 1)  # type: ignore[arg-type]
    requests = {str(node): b"question" for node in answers}
    for reply in courier.exchange(requests, time.monotonic() + seconds):
        asked.replies[reply.address] = reply
    return asked


@pytest.mark.usefixtures("_in_a_server_app")
def test_one_message_goes_to_each_node_and_its_bytes_come_back() -> None:
    asked = _exchange({1001: {RELEASE: {BODY: b"answer"}}, 1002: {RELEASE: {BODY: b"other"}}})
    assert [m.metadata.dst_node_id for m in asked.grid.sent] == [1001, 1002]
    contents = [m.content.config_records[REQUEST][BODY] for m in asked.grid.sent]
    assert contents == [b"question", b"question"]
    assert {a: r.body for a, r in asked.replies.items()} == {"1001": b"answer", "1002": b"other"}
    assert asked.grid.polls == 1


@pytest.mark.usefixtures("_in_a_server_app")
@pytest.mark.parametrize(
    "content",
    [{}, {"other": {BODY: b"x"}}, {RELEASE: {}}, {RELEASE: {BODY: "text"}}, {RELEASE: {BODY: 7}}],
)
def test_a_reply_without_a_release_is_no_message_of_ours(content: Any) -> None:
    asked = _exchange({1001: content})
    assert asked.replies["1001"].body == b""
    study = run_study_over({1001: content, 1002: {RELEASE: {BODY: honest("b")(b"")}}})
    assert participation(study)["site-1001"]["code"] == "invalid_message"


@pytest.mark.usefixtures("_in_a_server_app")
def test_an_app_that_failed_is_named_without_flowers_reason() -> None:
    from flwr.app import Error

    error = Error(code=2, reason="<class 'ValueError'>:<'secret password'>")
    result = run_study_over({1001: error, 1002: {RELEASE: {BODY: honest("b")(b"")}}})
    assert participation(result)["site-1001"]["code"] == "site_failed"
    assert "secret" not in repr(result)


@pytest.mark.usefixtures("_in_a_server_app")
@pytest.mark.parametrize("code", [3, 4, 5])
def test_a_node_that_went_away_has_not_answered(code: int) -> None:
    from flwr.app import Error

    gone = Error(code=code, reason="Node Unavailable")
    started = time.monotonic()
    result = run_study_over({1001: gone, 1002: {RELEASE: {BODY: honest("b")(b"")}}}, seconds=30)
    assert participation(result)["site-1001"]["status"] == "no_answer"
    assert time.monotonic() - started < 5


@pytest.mark.usefixtures("_in_a_server_app")
def test_polling_ends_at_the_deadline() -> None:
    started = time.monotonic()
    asked = _exchange({1001: None, 1002: {RELEASE: {BODY: b"answer"}}})
    assert list(asked.replies) == ["1002"]
    assert 0.4 <= time.monotonic() - started < 2
    assert asked.grid.polls > 2


@pytest.mark.usefixtures("_in_a_server_app")
def test_a_message_that_could_not_be_pushed_is_not_waited_for() -> None:
    class Refusing(Replies):
        def push_messages(self, messages: Iterable[Any]) -> list[Any]:
            return [None, *list(super().push_messages(messages))[1:]]

    grid = Refusing({1001: {RELEASE: {BODY: b"lost"}}, 1002: {RELEASE: {BODY: b"answer"}}})
    started = time.monotonic()
    requests = {"1001": b"question", "1002": b"question"}
    courier = GridCourier(grid, 1, 1)  # type: ignore[arg-type]
    replies = list(courier.exchange(requests, started + 30))
    assert {reply.address: reply.body for reply in replies} == {"1002": b"answer"}
    assert time.monotonic() - started < 5


def run_study_over(answers: Mapping[int, Any], seconds: float = 0.4) -> Result:
    courier = GridCourier(Replies(answers), 1, 1)  # type: ignore[arg-type]
    return run_study(STUDY, courier, Terms(1, seconds))


@pytest.mark.usefixtures("_in_a_server_app")
def test_nodes_are_waited_for_until_enough_are_there() -> None:
    grid = Replies({1: None, 2: None}, seen=[[], [1], [1, 2]])
    courier = GridCourier(grid, 2, 5)  # type: ignore[arg-type]
    assert courier.addresses() == ["1", "2"]


@pytest.mark.usefixtures("_in_a_server_app")
def test_without_any_node_the_wait_ends() -> None:
    started = time.monotonic()
    courier = GridCourier(Replies({}), 2, 0.3)  # type: ignore[arg-type]
    with pytest.raises(NoSites):
        run_study(STUDY, courier, Terms(2, 1))
    assert 0.3 <= time.monotonic() - started < 2
