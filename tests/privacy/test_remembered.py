"""R5 of sets in memory finds what R5 over the ledger finds, in whatever part they are in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federated_analytics.privacy import neighbours, remembered
from federated_analytics.privacy.ledger import Ledger
from federated_analytics.privacy.overlap import Answered, too_similar
from federated_analytics.privacy.person_bitmap import PersonBitmap
from federated_analytics.privacy.remembered import Remembered

ROWS = frozenset({"rows"})
PEOPLE = 60


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path, durable=False)


def among(ledger: Ledger, k: int = 5, about: frozenset[str] = ROWS) -> Remembered:
    return Remembered(ledger, about, "rows", k)


def of(*ids: int) -> PersonBitmap:
    return PersonBitmap.from_ids(ids)


def some(flags: np.ndarray) -> PersonBitmap:
    return PersonBitmap.from_flags(flags)


SET = st.sets(st.integers(0, PEOPLE), min_size=1)


@st.composite
def questions(draw: st.DrawFn) -> list[set[int]]:
    """Sets by chance, intervals, and what becomes of earlier ones by a few steps."""
    sets = [set(range(PEOPLE))]
    for _ in range(draw(st.integers(2, 10))):
        kind = draw(st.sampled_from(["chance", "above", "|", "-", "^"]))
        a, b = (draw(st.sampled_from(sets)) for _ in "ab")
        made = {
            "chance": draw(SET),
            "above": set(range(draw(st.integers(0, PEOPLE)), PEOPLE)),
            "|": a | b,
            "-": a - b,
            "^": a ^ {draw(st.integers(0, PEOPLE)) for _ in range(draw(st.integers(1, 3)))},
        }
        sets.append(made[kind] or a)
    return sets


@pytest.mark.parametrize("most_bytes", [0, 200, 10**9], ids=["none", "some", "all in memory"])
@pytest.mark.parametrize("sample", [1, 20, 2_048])
@settings(max_examples=25, deadline=None)
@given(sets=questions(), k=st.integers(1, 6), restart=st.integers(0, 9))
def test_it_finds_what_the_whole_ledger_finds(
    most_bytes: int, sample: int, sets: list[set[int]], k: int, restart: int
) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(remembered, "MOST_BYTES", most_bytes)
        patch.setattr(remembered, "SAMPLE", sample)
        patch.setattr(neighbours, "ENOUGH", 3)
        ledger = Ledger.open(Path(folder), durable=False)
        held = among(ledger, k)
        told: list[Answered] = []
        for i, ids in enumerate(sets):
            if i == restart:
                held = among(ledger, k)
            asked = of(*ids)
            expected = too_similar(asked, ROWS, told, k) is not None
            assert held.refuses([asked]) == expected
            if not expected:
                told.append(Answered(asked, ROWS, "", str(i)))
        assert {a.population for a in ledger.populations()} == {a.population for a in told}


def test_a_person_of_the_sample_who_is_looked_at_besides_is_one_person(ledger: Ledger) -> None:
    """Counted twice, the four who are in neither would be more than the five that may be."""
    held = among(ledger, k=6)
    one = {1, 4, 6, 8, 10, 11, 12, 16}
    assert not held.refuses([of(*range(20))])
    assert not held.refuses([of(*one)])
    assert held.refuses([of(3, 4, 6, 7, 9, 10, 12, 13, 14, 17, 18, 19, 20)])


def test_equal_sets_are_kept_once(ledger: Ledger) -> None:
    held = among(ledger)
    for _ in range(3):
        assert not held.refuses([of(*range(50))])
    assert not among(ledger).refuses([of(*range(50))])
    assert len(list(ledger.populations())) == 1


def test_of_sets_that_are_asked_for_at_once_the_later_see_the_earlier(ledger: Ledger) -> None:
    held = among(ledger)
    assert held.refuses([of(*range(50)), of(*range(49))])
    assert not list(ledger.populations()), "nothing was answered"
    assert not held.refuses([of(*range(49))]), "nor is it remembered"


def test_what_others_keep_is_seen(ledger: Ledger) -> None:
    one, other = among(ledger), among(ledger)
    assert not one.refuses([of(*range(50))])
    assert other.refuses([of(*range(49))])
    assert not other.refuses([of(*range(50, 90))])
    assert one.refuses([of(*range(50, 89))])


def test_other_variables_do_not_count(ledger: Ledger) -> None:
    assert not among(ledger).refuses([of(*range(50))])
    other = among(ledger, about=frozenset({"others"}))
    assert not other.refuses([of(*range(49))])
    assert not among(ledger).refuses([of(*range(50))])


def test_a_ledger_that_was_put_back_is_read_anew(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    held = among(ledger)
    for lower in (0, 100, 200):
        assert not held.refuses([of(*range(lower, lower + 50))])
    ledger.file.path.unlink()
    for rest in tmp_path.glob("ledger.sqlite-*"):
        rest.unlink()
    older = Ledger.open(tmp_path)
    assert not among(older).refuses([of(*range(300, 350))])
    assert held.refuses([of(*range(300, 349))])


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows that were read of a ledger."""
    rows: list[int] = []
    one, several = Ledger.population, Ledger.populations_after

    def noted(self: Ledger, row: int) -> Answered:
        rows.append(row)
        return one(self, row)

    def all_noted(self: Ledger, row: int) -> Iterator[tuple[int, Answered]]:
        for found in several(self, row):
            rows.append(found[0])
            yield found

    monkeypatch.setattr(Ledger, "population", noted)
    monkeypatch.setattr(Ledger, "populations_after", all_noted)
    return rows


def test_what_is_in_memory_is_not_read_again(ledger: Ledger, read: list[int]) -> None:
    held = among(ledger)
    values = np.arange(100_000)
    for limit in range(0, 100_000, 5_000):
        assert not held.refuses([some(values >= limit)])
    assert not read


def test_beyond_the_bound_of_memory_only_neighbours_are_read(
    ledger: Ledger, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "MOST_BYTES", 100_000)
    held, chance = among(ledger), np.random.default_rng(1)
    assert not held.refuses([some(np.ones(100_000, dtype=np.bool_))])
    for _ in range(12):
        assert not held.refuses([some(chance.random(100_000) < 0.5)])
    assert sum(len(one.data) for one in held._held.values()) < 50_000
    assert not read
    last = list(ledger.populations())[-1].population
    assert held.refuses([PersonBitmap.from_ids(np.asarray(last.bitmap()) - 2**63)]) is False
    assert read == [13]
