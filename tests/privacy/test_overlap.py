"""R5: differences, partitions and trackers are refused; what tells nothing new is not."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federated_analytics.errors import LedgerError
from federated_analytics.privacy import union_search
from federated_analytics.privacy.overlap import (
    Answered,
    similar_strata,
    sizes_near,
    too_similar,
)
from federated_analytics.privacy.person_bitmap import PersonBitmap

K = 5
BMI = frozenset({"bmi"})
EVERYONE = range(1, 1_001)


def persons(ids: Iterable[int]) -> PersonBitmap:
    return PersonBitmap.from_ids(ids)


def answered(*sets: Iterable[int], variables: frozenset[str] = BMI) -> list[Answered]:
    return [Answered(persons(s), variables, "v1", str(i)) for i, s in enumerate(sets)]


def refused(asked: Iterable[int], *past: Iterable[int], k: int = K) -> bool:
    return too_similar(persons(asked), BMI, answered(*past), k) is not None


def without(ids: Iterable[int], *gone: int) -> list[int]:
    return [i for i in ids if i not in gone]


IDS = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=60)


@given(IDS, IDS)
def test_a_bitmap_is_the_set_of_its_ids(left: list[int], right: list[int]) -> None:
    a, b = persons(left), persons(np.array(right, dtype=np.int64))
    assert (len(a), len(b)) == (len(set(left)), len(set(right)))
    assert a.common(b) == len(set(left) & set(right))
    assert a.only(b) == len(set(left) - set(right))
    assert a.union(b) == persons(left + right)
    assert PersonBitmap.from_bytes(a.to_bytes()) == a


@given(IDS)
def test_fingerprints_of_disjoint_sets_add_up(ids: list[int]) -> None:
    distinct = sorted(set(ids))
    parts = persons(distinct[::2]).fingerprint + persons(distinct[1::2]).fingerprint
    assert parts % 2**64 == persons(distinct).fingerprint


def test_damaged_bytes_are_an_error_with_a_remedy() -> None:
    stored = persons(EVERYONE).to_bytes()
    other = persons(range(7)).to_bytes()
    for damaged in (b"", stored[:12], stored[:-3], other[:8] + stored[8:]):
        with pytest.raises(LedgerError, match="restores"):
            PersonBitmap.from_bytes(damaged)


@pytest.mark.parametrize("gone", [1, 2, K - 1])
def test_everybody_but_a_few_is_refused_in_either_order(gone: int) -> None:
    fewer = EVERYONE[gone:]
    assert refused(fewer, EVERYONE)
    assert refused(EVERYONE, fewer)


def test_a_few_exchanged_for_a_few_are_refused() -> None:
    assert refused([*EVERYONE[3:], 2_001], EVERYONE)


def test_the_same_population_and_one_k_persons_smaller_are_answered() -> None:
    assert not refused(EVERYONE, EVERYONE)
    assert not refused(EVERYONE[K:], EVERYONE)
    assert refused(EVERYONE[K:], EVERYONE, k=K + 1)


def test_the_similar_one_is_named_and_other_variables_do_not_count() -> None:
    past = answered(EVERYONE[:500], EVERYONE)
    hit = too_similar(persons(EVERYONE[1:]), BMI, past, K)
    assert hit is past[1]
    assert too_similar(persons(EVERYONE[1:]), frozenset({"ldl"}), past, K) is None
    assert too_similar(persons(EVERYONE[1:]), frozenset({"ldl", "bmi"}), past, K) is hit


def test_sets_below_the_minimum_count_tell_nothing() -> None:
    assert not refused(range(3), range(2))
    assert not refused(range(K), range(K - 1))


@pytest.mark.parametrize("parts", [2, 3, 10, 50])
def test_a_partition_and_then_the_whole_but_one(parts: int) -> None:
    pieces = [EVERYONE[i::parts] for i in range(parts)]
    assert not refused(EVERYONE, *pieces)
    assert refused(without(EVERYONE, 7), *pieces)
    for stranger in (-1, 5_000):
        assert refused([stranger, *EVERYONE], *pieces)


def test_the_whole_and_then_a_part_but_one() -> None:
    pieces = [EVERYONE[i::4] for i in range(4)]
    assert not refused(pieces[3], EVERYONE, *pieces[:3])
    assert refused(pieces[3][1:], EVERYONE, *pieces[:3])
    assert refused(EVERYONE[500:], EVERYONE, EVERYONE[:499])


def test_partitions_of_partitions_are_followed() -> None:
    levels = [EVERYONE[i::n] for n in (4, 20, 100) for i in range(n)]
    assert not refused(EVERYONE, *levels)
    assert refused(without(EVERYONE, 500), *levels)


SMALL = range(1, 31)
RARE = {400}


def tracker() -> list[list[int]]:
    """Denning & Denning's: C or T, C or not T, everybody; together they count C."""
    padding = set(EVERYONE[:350])
    return [sorted(padding | RARE), sorted(set(EVERYONE) - padding | RARE), list(EVERYONE)]


def beside_a_large_one() -> list[list[int]]:
    """27 of 30 lie in a large population, which is asked with and without them."""
    large = list(range(4, 1_001))
    return [list(SMALL), large, [i for i in large if i not in SMALL]]


@pytest.mark.parametrize("attack", [tracker(), beside_a_large_one()])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_last_question_of_a_tracker_is_refused(
    attack: list[list[int]], order: tuple[int, ...]
) -> None:
    first, second, last = (attack[i] for i in order)
    assert not refused(second, first)
    assert refused(last, first, second)


def test_unrelated_overlapping_populations_are_answered() -> None:
    chance = np.random.default_rng(3)
    past = [np.flatnonzero(chance.random(2_000) < p) for p in np.linspace(0.01, 0.9, 60)]
    for i in range(20, 60):
        assert not refused(past[i], *past[:i], *past[i + 1 :])


def test_a_search_without_end_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [EVERYONE[i::10] for i in range(10)]
    assert not refused(EVERYONE, *pieces)
    monkeypatch.setattr(union_search, "MAX_COMPARISONS", 30)
    assert refused(EVERYONE, *pieces)


def _exhaustively(asked: set[int], past: list[set[int]], k: int) -> bool:
    """The rule as its words say it, over every choice of past populations."""
    past = [p for p in past if len(p) >= k]
    found = False
    for count in range(1, len(past) + 1):
        for chosen in itertools.combinations(range(len(past)), count):
            parts = [past[i] for i in chosen]
            found |= _nearly(asked, parts, k)
            for i in range(len(past)):
                if i not in chosen:
                    found |= _nearly(past[i], [asked, *parts], k)
    return found and len(asked) >= k


def _nearly(whole: set[int], parts: list[set[int]], k: int) -> bool:
    together = set().union(*parts)
    left = len(whole - together)
    over = sum(map(len, parts)) - len(whole & together)
    return max(left, over) < k and left + over > 0


GROUP = st.sets(st.integers(0, 13), min_size=1, max_size=14)


@st.composite
def made_by_operations(draw: st.DrawFn) -> tuple[set[int], list[set[int]]]:
    """Sets that nearly add up: parts of a partition, and what becomes of them by a few steps."""
    owner = draw(st.lists(st.integers(0, 3), min_size=14, max_size=14))
    sets = [{i for i in range(14) if owner[i] == part} for part in range(4)]
    steps = st.tuples(st.sampled_from("|-^"), st.integers(0, 99), st.integers(0, 99))
    for operation, left, right in draw(st.lists(steps, min_size=1, max_size=4)):
        first, second = sets[left % len(sets)], sets[right % len(sets)]
        made = {"|": first | second, "-": first - second, "^": first ^ {right % 14}}
        sets.append(made[operation])
    return sets[-1], sets[:-1]


@settings(max_examples=400, deadline=None)
@given(st.tuples(GROUP, st.lists(GROUP, max_size=5)) | made_by_operations(), st.integers(1, 4))
def test_the_search_finds_what_trying_everything_finds(
    sets: tuple[set[int], list[set[int]]], k: int
) -> None:
    asked, past = sets
    distinct = [set(p) for p in {frozenset(p) for p in past} if p != asked]
    assert refused(asked, *distinct, k=k) == _exhaustively(asked, distinct, k)


def test_women_but_one_after_everybody_by_sex() -> None:
    women, men = persons(EVERYONE[:600]), persons(EVERYONE[600:])
    past = [Answered(s, BMI, "v1", "by sex") for s in (women, men)]
    but_one = persons(EVERYONE[1:600])
    assert similar_strata([but_one, men], BMI, past, K) == {but_one}
    assert not similar_strata([women, persons(EVERYONE[K:])], BMI, past, K)
    assert not similar_strata([but_one], frozenset({"ldl"}), past, K)


@given(st.lists(st.sets(st.integers(0, 12), min_size=1), max_size=6), st.integers(1, 4))
def test_strata_are_compared_one_by_one_and_by_size(sets: list[set[int]], k: int) -> None:
    asked, past = sets[::2], sets[1::2]
    expected = {
        persons(a)
        for a in asked
        for p in past
        if min(len(a), len(p)) >= k and a != p and max(len(a - p), len(p - a)) < k
    }
    assert similar_strata(map(persons, asked), BMI, answered(*past), k) == expected
    sizes = sizes_near(map(persons, asked), k)
    near = [p for p in past if len(p) in sizes]
    assert similar_strata(map(persons, asked), BMI, answered(*near), k) == expected


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 200_000), st.integers(1, 9_000), st.sampled_from([1, 2, 7, 300])),
        max_size=5,
    )
)
def test_flags_make_the_set_that_their_ids_make(runs: list[tuple[int, int, int]]) -> None:
    """Runs and combs of ids, dense and sparse, over several blocks of 2^16."""
    ids = np.unique(np.concatenate([np.arange(0), *(np.arange(a, a + n, by) for a, n, by in runs)]))
    flags = np.zeros(211_000, dtype=np.bool_)
    flags[ids] = True
    found = PersonBitmap.from_flags(flags)
    assert found == PersonBitmap.from_ids(ids)
    assert found.fingerprint == PersonBitmap.from_ids(ids).fingerprint
    assert list(found.bitmap()) == [int(i) + 2**63 for i in ids]
