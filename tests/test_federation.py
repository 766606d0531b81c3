"""A study over sites that fail in every way: each is named, and the others go on."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Mapping

import pytest

from federated_analytics import wire
from federated_analytics.couriers import InProcessCourier
from federated_analytics.errors import NoSites, TooFewSites
from federated_analytics.federation import Event, Terms, run_study
from federated_analytics.messages import Request
from federated_analytics.progress import line
from federated_analytics.report.result import Result
from tests.answers import OTHER, STUDY, Answer, failing, honest, participation, refusing


def ask(
    sites: Mapping[str, Answer], min_sites: int = 1, seconds: float = 10
) -> tuple[Result, list[Event]]:
    events: list[Event] = []
    courier = InProcessCourier(sites)
    return run_study(STUDY, courier, Terms(min_sites, seconds), on_progress=events.append), events


GARBAGE: dict[str, bytes] = {
    "nothing": b"",
    "text": b"<html>502 Bad Gateway</html>",
    "truncated": honest("b")(b"")[:-4],
    "more after it": honest("b")(b"") + b"x",
    "9 MB": b"\0" * 9_000_000,
    "bomb": zlib.compress(b" " * 30_000_000),
    "another version": zlib.compress(b"[99, []]"),
    "a request": wire.encode_request(Request("{}", 1, "r", 1.0)),
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
    assert caught.value.remedy


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
