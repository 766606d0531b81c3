"""How requests reach sites, and what becomes of answers that are none."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from federated_analytics import couriers, wire
from federated_analytics.couriers import BODY, RELEASE, REQUEST, GridCourier, InProcessCourier
from federated_analytics.errors import FederatedAnalyticsError, NoSites, TooFewSites
from federated_analytics.federation import Event, Terms, run_study
from federated_analytics.messages import Refusal
from federated_analytics.privacy.policy import Policy, refuse
from federated_analytics.progress import line
from federated_analytics.report.result import Result
from federated_analytics.study import Study

STUDY = Study.parse('[study]\nname = "Ages"\n[[analysis]]\nkind = "counts"\n')
OTHER = Study.parse('[study]\nname = "Other"\n[[analysis]]\nkind = "counts"\n')
Answer = Callable[[bytes], bytes]


def honest(name: str, study: Study = STUDY, database: str = "") -> Answer:
    """A site that releases nothing of anybody, in good form."""
    policy = Policy(min_sites=1)
    release = policy.release(
        [],
        site=name,
        study=study.digest,
        round=1,
        version="0",
        database=database,
        synthetic=True,
        seconds=0.1,
    )
    body = wire.encode_release(release)
    return lambda request: body


def refusing(name: str) -> Answer:
    refusal = Refusal("missing_table", "", "The database lacks a table.", "Set cdm-schema.")
    release = refuse(refusal, site=name, study="", round=1, version="0")
    return lambda request: wire.encode_release(release)


def failing(request: bytes) -> bytes:
    raise ValueError("secret password in postgresql://u:pw@h/db")


def ask(
    sites: Mapping[str, Answer], min_sites: int = 1, seconds: float = 10
) -> tuple[Result, list[Event]]:
    events: list[Event] = []
    courier = InProcessCourier(sites)
    return run_study(STUDY, courier, Terms(min_sites, seconds), on_progress=events.append), events


def participation(result: Result) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for row in result.select(result_type="participation").rows:
        found.setdefault(row.cdm_name, {})[row.estimate_name] = row.estimate_value
    return found


GARBAGE: dict[str, bytes] = {
    "nothing": b"",
    "text": b"<html>502 Bad Gateway</html>",
    "truncated": honest("b")(b"")[:-4],
    "more after it": honest("b")(b"") + b"x",
    "9 MB": b"\0" * 9_000_000,
    "bomb": zlib.compress(b" " * 30_000_000),
    "another version": zlib.compress(b"[99, []]"),
    "a request": wire.encode_request(wire.Request("{}", 1, "r", 1.0)),
    "another study": honest("b", OTHER)(b""),
}


@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_named_and_the_study_goes_on(body: bytes) -> None:
    result, events = ask({"a": honest("a"), "b": lambda request: body})
    found = participation(result)
    assert found["a"]["status"] == "answered"
    assert found["site-b"]["status"] == "failed"
    assert found["site-b"]["code"] == "invalid_message"
    assert found["site-b"]["bytes_received"] == str(len(body))
    assert found["site-b"]["remedy"]
    assert [e.kind for e in events if e.site == "site-b"] == ["failed"]


def test_a_site_that_raises_is_named_without_its_words() -> None:
    result, events = ask({"a": honest("a"), "b": failing})
    assert participation(result)["site-b"]["code"] == "site_failed"
    said = repr(result) + repr(events) + "".join(map(line, events))
    assert "secret" not in said
    assert "pw" not in said


def test_a_refusal_carries_code_and_remedy() -> None:
    found = participation(ask({"a": honest("a"), "b": refusing("hospital-b")})[0])
    assert found["hospital-b"]["status"] == "refused"
    assert found["hospital-b"]["code"] == "missing_table"
    assert found["hospital-b"]["remedy"] == "Set cdm-schema."


def test_a_silent_site_is_not_waited_for_after_the_deadline() -> None:
    released = threading.Event()

    def silent(request: bytes) -> bytes:
        released.wait(30)
        return b""

    started = time.monotonic()
    try:
        result, _ = ask({"a": honest("a"), "b": silent}, seconds=1)
        assert time.monotonic() - started < 5
    finally:
        released.set()
    found = participation(result)
    assert found["site-b"]["status"] == "no_answer"
    assert "deadline-seconds" in found["site-b"]["remedy"]


def test_too_few_sites_names_each_one_that_is_missing() -> None:
    with pytest.raises(TooFewSites) as caught:
        ask({"a": honest("a"), "b": failing, "c": refusing("hospital-c")}, min_sites=2)
    assert caught.value.code == "too_few_sites"
    assert "1 of 3 sites answered; at least 2 must" in str(caught.value)
    assert "b: site_failed" in str(caught.value)
    assert "hospital-c: missing_table" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_no_site_at_all() -> None:
    with pytest.raises(NoSites, match="No site is connected") as caught:
        ask({})
    assert caught.value.code == "no_sites"


def test_two_sites_of_one_name_stay_two() -> None:
    result, _ = ask({"a": honest("hospital"), "b": honest("hospital")})
    assert set(participation(result)) == {"hospital", "hospital (2)"}


def test_two_sites_on_one_database_are_told_apart_from_two_databases() -> None:
    sites = {n: honest(n, database="same" if n != "c" else "other") for n in "abc"}
    notes = {name: p.get("note", "") for name, p in participation(ask(sites)[0]).items()}
    assert "same database as a" in notes["b"]
    assert not notes["a"]
    assert not notes["c"]


@pytest.mark.parametrize("name", ["", "  ", "pooled", "NA", "\x1b[31m", "\n"])
def test_a_site_cannot_call_itself_pooled_or_nothing(name: str) -> None:
    assert not {"pooled", "NA", ""} & participation(ask({"b": honest(name)})[0]).keys()


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


def test_every_error_of_a_study_has_code_and_remedy() -> None:
    for error in (NoSites("x"), TooFewSites("x", remedy="y")):
        assert isinstance(error, FederatedAnalyticsError)
        assert error.code != "error"
        assert error.remedy
