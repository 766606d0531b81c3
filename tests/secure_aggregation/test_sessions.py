"""A site's runs: kept for a while, one analyst's each, and worked on once."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from federated_analytics import wire
from federated_analytics.errors import FederatedAnalyticsError, RequestRefused, SiteBusy, WireError
from federated_analytics.federation import request_of
from federated_analytics.messages import Request
from federated_analytics.secure_aggregation import (
    KIND,
    SecureSite,
    first_request,
    is_secure_reply,
    run_of,
)
from federated_analytics.secure_aggregation.errors import AskedTwice, NoSuchRun, Working
from federated_analytics.secure_aggregation.messages import Roster, text_of, written
from federated_analytics.signing import SigningKey
from federated_analytics.study import Study
from tests.secure_aggregation.hospitals import BY_SEX, Memory, by_sex

FIRST = request_of(BY_SEX, 60, secure=True)
RUN = run_of(wire.encode_request(FIRST))
KEYS = {name: SigningKey.new() for name in "ab"}


def _site(name: str = "a", **options: float) -> SecureSite:
    other = "b" if name == "a" else "a"
    peers = {other: KEYS[other].public}
    return SecureSite(name, KEYS[name], peers, 2, Memory().keep, **options)  # type: ignore[arg-type]


def _release(request: Request) -> bytes:
    return by_sex({"a": (10, 20)})["a"](b"")


def _second(site: SecureSite) -> Request:
    """The list of a and b, after `site` (which is a) has advertised."""
    own = site.advertise(FIRST, _release, run=RUN)
    other = _site("b").advertise(FIRST, _release, run=RUN)
    text = written(Roster((text_of(own), text_of(other))))
    return Request(text, 2, RUN, 60, KIND)


def test_a_first_request_is_the_study_s_own_under_another_kind() -> None:
    plain = request_of(BY_SEX, 60)
    assert first_request(plain) == replace(plain, kind="secure")
    assert FIRST.kind == KIND


def test_the_same_request_is_answered_the_same() -> None:
    site = _site()
    body = site.advertise(FIRST, _release, run=RUN)
    assert is_secure_reply(body)
    assert site.advertise(FIRST, _release, run=RUN) == body
    second = _second(site)
    assert site.step(second) == site.step(second)


def test_the_study_reaches_the_site_as_a_plain_request() -> None:
    asked: list[Request] = []
    site = _site()

    def release(request: Request) -> bytes:
        asked.append(request)
        return _release(request)

    site.advertise(FIRST, release, run=RUN)
    site.step(_second(site))
    assert asked == [replace(FIRST, kind="study")]


def test_an_unknown_run_is_named() -> None:
    for number in (2, 3, 4):
        with pytest.raises(NoSuchRun):
            _site().step(Request("[]", number, RUN, 60, KIND))


def test_a_run_expires() -> None:
    site = _site(lifetime_seconds=0.05)
    second = _second(site)
    time.sleep(0.1)
    with pytest.raises(NoSuchRun):
        site.step(second)


def test_only_so_many_runs_are_open() -> None:
    site = _site(most=2)
    for run in ("1", "2"):
        site.advertise(FIRST, _release, run=run)
    with pytest.raises(SiteBusy):
        site.advertise(FIRST, _release, run="3")


def test_a_run_is_one_analyst_s_and_of_one_study() -> None:
    site = _site()
    site.advertise(FIRST, _release, run=RUN, owner="ada")
    with pytest.raises(RequestRefused, match="another analyst"):
        site.advertise(FIRST, _release, run=RUN, owner="eve")
    other = Study.parse('[study]\nname = "Other"\n[[analysis]]\nkind = "counts"\n')
    with pytest.raises(RequestRefused, match="another study"):
        site.advertise(replace(FIRST, study=other.to_json()), _release, run=RUN, owner="ada")


@pytest.mark.parametrize("change", [{"round": 5}, {"round": 1}, {"kind": "study"}])
def test_other_requests_are_no_round(change: dict[str, object]) -> None:
    site = _site()
    with pytest.raises(WireError):
        site.step(replace(_second(site), **change))  # type: ignore[arg-type]
    with pytest.raises(WireError):
        site.advertise(replace(FIRST, round=2), _release, run=RUN)


def test_a_long_study_is_fetched_by_the_same_request() -> None:
    go, count = threading.Event(), 0

    def slow(request: Request) -> bytes:
        nonlocal count
        count += 1
        go.wait(10)
        return _release(request)

    site = _site(wait_seconds=0.05)
    site.advertise(FIRST, slow, run=RUN)
    second = _second(site)
    for _ in range(2):
        with pytest.raises(Working):
            site.step(second)
    with pytest.raises(Working):
        site.step(replace(second, study="[[]]"))
    go.set()
    site.wait_seconds = 5
    assert is_secure_reply(site.step(second))
    assert count == 1
    with pytest.raises(AskedTwice):
        site.step(replace(second, study=second.study + " "))


def test_a_refusal_after_a_wait_is_told_and_may_be_asked_again() -> None:
    """As with a study that waits for its approval."""
    go, count = threading.Event(), 0

    def refused_once(request: Request) -> bytes:
        nonlocal count
        count += 1
        go.wait(10)
        if count == 1:
            error = RequestRefused("The study waits.")
            error.code = "waiting_for_approval"
            raise error
        return _release(request)

    site = _site(wait_seconds=0.05)
    site.advertise(FIRST, refused_once, run=RUN)
    second = _second(site)
    with pytest.raises(Working):
        site.step(second)
    go.set()
    site.wait_seconds = 5
    with pytest.raises(FederatedAnalyticsError) as caught:
        site.step(second)
    assert caught.value.code == "waiting_for_approval"
    assert is_secure_reply(site.step(second))
    assert count == 2
