"""A site that is not ready is asked again, and holds no other up."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from federated_analytics import asking as asking_module
from federated_analytics import wire
from federated_analytics.couriers import InProcessCourier
from federated_analytics.errors import TooFewSites
from federated_analytics.federation import Event, Terms, run_study
from federated_analytics.messages import Refusal
from federated_analytics.privacy.policy import refuse
from tests.answers import STUDY, honest


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking_module, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(asking_module, "LONGEST_PAUSE_SECONDS", 0.05)


def not_yet(code: str) -> bytes:
    refusal = Refusal(code, "", "Not yet.", "Wait.")
    return wire.encode_release(refuse(refusal, site="slow", study="", round=1, version="0"))


def ready_after(times: int, code: str, asked: list[bytes]) -> Callable[[bytes], bytes]:
    def answer(body: bytes) -> bytes:
        asked.append(body)
        return not_yet(code) if len(asked) <= times else honest("slow")(body)

    return answer


@pytest.mark.parametrize("code", sorted(asking_module.NOT_YET))
def test_the_same_request_is_sent_until_the_site_is_ready(code: str) -> None:
    asked: list[bytes] = []
    events: list[Event] = []
    sites = {"fast": honest("fast"), "slow": ready_after(3, code, asked)}
    result = run_study(STUDY, InProcessCourier(sites), Terms(2, 20), on_progress=events.append)
    assert len(asked) == 4
    assert len(set(asked)) == 1
    assert result.settings[1]["sites_answered"] == "2"
    assert [e.kind for e in events if e.site == "slow"] == ["waiting", "answered"]
    order = [e.site for e in events if e.kind == "answered"]
    assert order == ["fast", "slow"]


def test_a_site_that_never_is_ready_is_named_with_its_own_reason() -> None:
    sites = {"a": honest("a"), "b": lambda body: not_yet("waiting_for_approval")}
    started = time.monotonic()
    with pytest.raises(TooFewSites, match="waiting_for_approval"):
        run_study(STUDY, InProcessCourier(sites), Terms(2, 0.5))
    assert time.monotonic() - started < 5


def test_another_refusal_is_final() -> None:
    asked: list[bytes] = []
    sites = {"a": honest("a"), "b": ready_after(9, "budget_spent", asked)}
    with pytest.raises(TooFewSites, match="budget_spent"):
        run_study(STUDY, InProcessCourier(sites), Terms(2, 20))
    assert len(asked) == 1
