"""The ledger: charged once, remembered durably, the same for everybody who asks."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from federated_analytics.errors import BudgetSpent, LedgerError, RequestRefused, ReusedNonce
from federated_analytics.privacy import answered_sets
from federated_analytics.privacy.accounting import Charge
from federated_analytics.privacy.ledger import Ledger
from federated_analytics.privacy.overlap import Answered
from federated_analytics.privacy.person_bitmap import PersonBitmap

COST = Charge(0.25, 1e-7, analyst="ann", dataset="database", at=1_000.0)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "state")


def up_to(rho: float) -> Callable[[list[Charge]], None]:
    def allowed(before: list[Charge]) -> None:
        if sum(c.rho for c in before) + COST.rho > rho:
            raise BudgetSpent("The budget is spent.")

    return allowed


def test_a_request_is_charged_once(ledger: Ledger) -> None:
    assert ledger.charge("one", COST, up_to(0.25)) == COST
    again = Charge(0.25, 1e-7, analyst="ann", dataset="database", at=2_000.0)
    assert ledger.charge("one", again, up_to(0.25)) == COST
    assert [(e.request, e.charge) for e in ledger.charges()] == [("one", COST)]


def test_a_spent_budget_charges_nothing(ledger: Ledger) -> None:
    ledger.charge("one", COST, up_to(0.25))
    with pytest.raises(BudgetSpent):
        ledger.charge("two", COST, up_to(0.25))
    assert [e.request for e in ledger.charges()] == ["one"]


def test_another_analyst_or_data_set_has_a_budget_of_its_own(ledger: Ledger) -> None:
    ledger.charge("one", COST, up_to(0.25))
    for number, (analyst, dataset) in enumerate([("bob", "database"), ("ann", "other")]):
        other = Charge(0.25, 1e-7, analyst=analyst, dataset=dataset, at=1_000.0)
        ledger.charge(f"other {number}", other, up_to(0.25))
    assert len(list(ledger.charges())) == 3


@pytest.mark.parametrize(
    "other",
    [
        Charge(0.5, 1e-7, analyst="ann", dataset="database"),
        Charge(0.25, 1e-6, analyst="ann", dataset="database"),
        Charge(0.25, 1e-7, analyst="bob", dataset="database"),
        Charge(0.25, 1e-7, analyst="ann", dataset="other"),
    ],
)
def test_a_charge_covers_nothing_else(ledger: Ledger, other: Charge) -> None:
    ledger.charge("one", COST, up_to(1))
    with pytest.raises(RequestRefused, match="charged before"):
        ledger.charge("one", other, up_to(1))


def test_one_of_fifty_threads_gets_the_last_budget(ledger: Ledger) -> None:
    start = threading.Barrier(50)

    def ask(number: int) -> bool:
        start.wait()
        try:
            ledger.charge(f"request {number}", COST, up_to(0.25))
        except BudgetSpent:
            return False
        return True

    with ThreadPoolExecutor(50) as pool:
        assert sum(pool.map(ask, range(50))) == 1
    assert len(list(ledger.charges())) == 1


def test_a_charge_survives_a_new_start(ledger: Ledger) -> None:
    ledger.charge("one", COST, up_to(1))
    assert [e.charge for e in Ledger.open(ledger.file.path.parent).charges()] == [COST]


def test_every_writing_transaction_counts(ledger: Ledger, tmp_path: Path) -> None:
    seen = [ledger.head().counter]
    for act in (
        lambda: ledger.charge("one", COST, up_to(1)),
        lambda: ledger.use_nonce("ann", b"n", "one", time.time() + 60),
        lambda: ledger.keep_answer("key", b"body"),
        lambda: ledger.keep_population(_answered(range(9))),
        lambda: ledger.keep_strata([_answered(range(9))]),
        lambda: ledger.note_audit(1, "0" * 64),
    ):
        act()
        seen.append(ledger.head().counter)
    assert seen == list(range(7))
    assert Ledger.open(tmp_path / "other").head().id != ledger.head().id


def test_a_nonce_is_one_request_s(ledger: Ledger) -> None:
    until = time.time() + 60
    ledger.use_nonce("ann", b"nonce", "one", until)
    ledger.use_nonce("ann", b"nonce", "one", until)
    ledger.use_nonce("bob", b"nonce", "two", until)
    with pytest.raises(ReusedNonce):
        ledger.use_nonce("ann", b"nonce", "two", until)


def test_one_of_twenty_requests_gets_a_nonce(ledger: Ledger) -> None:
    def use(number: int) -> bool:
        try:
            ledger.use_nonce("ann", b"nonce", str(number), time.time() + 60)
        except ReusedNonce:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(use, range(20))) == 1


def test_expired_nonces_are_dropped(ledger: Ledger) -> None:
    for number in range(5):
        ledger.use_nonce("ann", bytes([number]), "one", time.time() - 1)
    ledger.use_nonce("ann", b"new", "one", time.time() + 60)
    with ledger.file.reading() as connection:
        kept = [row["nonce"] for row in connection.execute("SELECT nonce FROM nonces")]
    assert kept == [b"new"]


def test_the_first_answer_holds(ledger: Ledger) -> None:
    assert ledger.answer("question") is None
    with ThreadPoolExecutor(20) as pool:
        given = pool.map(lambda i: ledger.keep_answer("question", b"%d" % i), range(20))
    assert len({*given, ledger.answer("question")}) == 1
    assert ledger.answer("another") is None


def _answered(ids: range, key: str = "study") -> Answered:
    return Answered(PersonBitmap.from_ids(ids), frozenset({"age", "sex"}), "1", key)


def test_populations_are_kept_in_their_order(ledger: Ledger) -> None:
    kept = [_answered(range(50 - i), f"study {i}") for i in range(3)]
    for answered in [*kept, kept[0]]:
        ledger.keep_population(answered)
    assert list(Ledger.open(ledger.file.path.parent).populations()) == kept


def test_sets_are_found_by_their_size(ledger: Ledger) -> None:
    kept = [_answered(range(20 + i), f"study {i}") for i in range(300)]
    for answered in kept[:5]:
        ledger.keep_population(answered)
    assert list(ledger.populations({21, 23, 999})) == [kept[1], kept[3]]
    ledger.keep_strata(kept)
    ledger.keep_strata(kept)
    found = list(ledger.strata(range(100, 104), besides="study 81"))
    assert [one.key for one in found] == ["study 80", "study 82", "study 83"]
    assert [one.population for one in found] == [kept[i].population for i in (80, 82, 83)]
    with ledger.file.reading() as connection:
        plan = "EXPLAIN QUERY PLAN SELECT * FROM {} IN (SELECT value FROM json_each('[1]'))"
        for table in ("populations WHERE hex(substr(persons, 1, 8))", "strata WHERE size"):
            assert "USING INDEX" in connection.execute(plan.format(table)).fetchone()["detail"]


def test_a_full_ledger_takes_no_more_strata(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answered_sets, "STRATA_KEPT", 2)
    ledger.keep_strata(_answered(range(9 + i)) for i in range(2))
    with pytest.raises(LedgerError, match="as many strata"):
        ledger.keep_strata([_answered(range(9))])


def test_a_full_ledger_takes_no_more_populations(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answered_sets, "POPULATIONS_KEPT", 2)
    for number in range(2):
        ledger.keep_population(_answered(range(9), str(number)))
    with pytest.raises(LedgerError, match="as many populations"):
        ledger.keep_population(_answered(range(9), "2"))


def test_exclusive_lets_one_in_at_a_time(ledger: Ledger) -> None:
    inside, most = [0], [0]

    def enter(_: int) -> None:
        with ledger.exclusive():
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.005)
            inside[0] -= 1

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(enter, range(10)))
    assert most == [1]


def test_exclusive_ends_with_an_error(ledger: Ledger) -> None:
    with pytest.raises(BudgetSpent), ledger.exclusive():
        raise BudgetSpent("The budget is spent.")
    with ledger.exclusive():
        assert ledger.file.path.with_suffix(".lock").exists()


def test_only_the_site_s_user_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ledger = Ledger.open(tmp_path / "state")
        ledger.charge("one", COST, up_to(1))
        with ledger.exclusive():
            modes = {
                p.name: stat.S_IMODE(p.stat().st_mode) for p in ledger.file.path.parent.iterdir()
            }
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert set(modes.values()) == {0o600}, modes


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no database" * 500)


def _other_version(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def _headless(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE head")
    connection.close()


@pytest.mark.parametrize("damage", [_garbage, _other_version])
def test_an_unusable_file_is_refused(ledger: Ledger, damage: Callable[[Path], None]) -> None:
    damage(ledger.file.path)
    with pytest.raises(LedgerError) as refused:
        Ledger.open(ledger.file.path.parent)
    assert str(ledger.file.path.parent) not in str(refused.value)


def test_a_charge_that_is_none_is_refused(ledger: Ledger) -> None:
    ledger.charge("one", COST, up_to(1))
    with ledger.file.transaction() as connection:
        connection.execute("UPDATE charges SET rho = -1")
    with pytest.raises(LedgerError):
        ledger.charge("two", COST, up_to(1))


def test_a_ledger_without_its_head_charges_nothing(ledger: Ledger) -> None:
    _headless(ledger.file.path)
    with pytest.raises(LedgerError):
        ledger.charge("one", COST, up_to(1))


def test_a_ledger_that_was_removed_does_not_start_anew(ledger: Ledger) -> None:
    ledger.file.path.unlink()
    with pytest.raises(LedgerError):
        ledger.charge("one", COST, up_to(1))
    assert not ledger.file.path.exists()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError):
        Ledger.open(tmp_path / "file" / "state")
