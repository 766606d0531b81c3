"""A ticket gives its result to whom it belongs, and nothing to anybody else."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from federated_analytics.errors import SiteBusy
from federated_analytics.privacy.tickets import (
    RESULT_SECONDS,
    RESULTS_KEPT,
    RUNNING_AT_ONCE,
    WAITING,
    Owner,
    Tickets,
)

ADA = Owner("ada", "a" * 64)


@pytest.fixture
def tickets(tmp_path: Path) -> Tickets:
    return Tickets.open_folder(tmp_path)


def test_a_ticket_waits_and_is_redeemed_as_often_as_it_is_asked(tickets: Tickets) -> None:
    assert tickets.redeem("r1", ADA) is None
    assert tickets.open("r1", ADA)
    assert not tickets.open("r1", ADA), "it runs once"
    assert tickets.redeem("r1", ADA) is WAITING
    tickets.done("r1", ADA, b"release")
    assert [tickets.redeem("r1", ADA) for _ in range(2)] == [b"release", b"release"]
    assert not tickets.open("r1", ADA), "its result is there"


@pytest.mark.parametrize("other", [replace(ADA, analyst="eve"), replace(ADA, request_hash="b")])
def test_anothers_ticket_is_no_ticket(tickets: Tickets, other: Owner) -> None:
    tickets.open("r1", ADA)
    assert tickets.redeem("r1", other) is None
    tickets.done("r1", ADA, b"release")
    assert tickets.redeem("r1", other) is None
    assert tickets.open("r1", other), "she is not told that somebody else has that id"
    tickets.done("r1", other, b"hers")
    assert tickets.redeem("r1", ADA) == b"release"


def test_results_outlive_the_process_and_running_studies_do_not(
    tickets: Tickets, tmp_path: Path
) -> None:
    tickets.open("r1", ADA)
    tickets.done("r1", ADA, b"release")
    tickets.open("r2", ADA)
    again = Tickets.open_folder(tmp_path)
    assert again.redeem("r1", ADA) == b"release"
    assert again.redeem("r2", ADA) is None
    assert again.open("r2", ADA), "it is run again"


def test_a_study_that_failed_can_be_run_again(tickets: Tickets) -> None:
    tickets.open("r1", ADA)
    tickets.drop("r1", ADA)
    assert tickets.redeem("r1", ADA) is None
    assert tickets.open("r1", ADA)


def test_tickets_are_bounded_and_expire(tickets: Tickets) -> None:
    for number in range(RUNNING_AT_ONCE):
        tickets.open(f"r{number}", ADA)
    with pytest.raises(SiteBusy):
        tickets.open("one more", ADA)
    now = time.time()
    tickets.done("r0", ADA, b"release", now)
    assert tickets.redeem("r0", ADA, now + RESULT_SECONDS) == b"release"
    assert tickets.redeem("r0", ADA, now + RESULT_SECONDS + 1) is None
    tickets.open("one more", ADA)


def test_the_oldest_results_make_room(tickets: Tickets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federated_analytics.privacy.tickets.RESULTS_KEPT", 3)
    assert RESULTS_KEPT >= 100
    now = time.time()
    for number in range(5):
        tickets.done(f"r{number}", ADA, b"release", now + number)
    kept = [tickets.redeem(f"r{number}", ADA, now + 5) for number in range(5)]
    assert kept == [None, None, b"release", b"release", b"release"]


def test_one_of_many_threads_runs_the_study(tickets: Tickets) -> None:
    with ThreadPoolExecutor(16) as pool:
        opened = list(pool.map(lambda _: tickets.open("r1", ADA), range(64)))
    assert sum(opened) == 1
