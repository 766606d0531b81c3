"""All that the server holds before it unmasks, and what it can make of it."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from federated_analytics import wire
from federated_analytics.errors import FederatedAnalyticsError, TooFewSites
from federated_analytics.privacy.policy import Policy
from federated_analytics.secure_aggregation.errors import TooFewPeers
from federated_analytics.secure_aggregation.layout import Layout
from federated_analytics.secure_aggregation.messages import (
    Contribution,
    Masked,
    Shares,
    Unmasking,
    bytes_in,
    opened,
)
from federated_analytics.secure_aggregation.shamir import joined
from federated_analytics.secure_aggregation.words import expanded, numbers_of, subtract, words_in
from tests.secure_aggregation.hospitals import BY_SEX, Play, play

COUNTS = {"a": (1_234_567, 7_654_321), "b": (40, 50), "c": (20, 30)}


def _masked(counts: dict[str, tuple[int, int]], site: str = "a") -> bytes:
    return opened(Masked, play(counts).until(3).replies[3][site]).blob


def test_a_masked_vector_is_uniform() -> None:
    """Bytes over many runs, at every position of the vector, and their lowest and highest bits."""
    drawn = np.array([list(_masked(COUNTS)) for _ in range(120)], dtype=float)
    counts = np.bincount(drawn.astype(int).ravel(), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-4
    means = drawn.mean(axis=0)
    error = np.sqrt((256**2 - 1) / 12 / len(drawn))
    assert (np.abs(means - 127.5) < 5.5 * error).all()


def test_two_runs_with_other_data_look_the_same() -> None:
    other = {**COUNTS, "a": (0, 0)}
    first, second = (
        np.array([list(_masked(counts)) for _ in range(60)], dtype=float).ravel()
        for counts in (COUNTS, other)
    )
    assert stats.ks_2samp(first, second).pvalue > 1e-4
    assert abs(first.mean() - second.mean()) < 5 * np.sqrt(2 * (256**2 - 1) / 12 / len(first))


def test_one_run_s_masks_are_not_the_next_one_s() -> None:
    assert _masked(COUNTS) != _masked(COUNTS)


def test_no_number_travels_in_clear() -> None:
    """The planted count, as text or as bytes, in nothing that a site sends."""
    done = play(COUNTS).until(4)
    for replies in done.replies.values():
        for body in replies.values():
            assert b"1234567" not in body
            assert (1_234_567).to_bytes(4, "little") not in body
    shares = opened(Shares, done.replies[2]["a"]).message
    contribution = opened(Contribution, bytes_in(shares.contribution)).message
    assert all(not answer.cells for answer in contribution.disclosure.answers)
    assert "1234567" not in json.dumps(wire.to_plain(contribution))


def _seed(done: Play, site: str, givers: tuple[str, ...], need: int) -> bytes:
    names = sorted(done.participants)
    told = {g: opened(Unmasking, done.replies[4][g]).message for g in givers}
    shares = {names.index(g) + 1: bytes_in(one.seeds[site]) for g, one in told.items()}
    return joined(shares, need)


def test_with_one_share_too_few_the_seed_is_as_good_as_guessed() -> None:
    """Any t - 1 shares, forced through a lower threshold, give another seed or none."""
    counts = dict.fromkeys("abcdefg", (10, 10))
    done = play(counts).until(4)
    whole = _seed(done, "a", tuple("bcdef"), 5)
    for givers in combinations("abcdefg", 4):
        with pytest.raises(FederatedAnalyticsError):
            _seed(done, "a", givers, 5)
        try:
            assert _seed(done, "a", givers, 4) != whole
        except FederatedAnalyticsError:
            continue


def test_own_mask_gone_the_vector_is_still_hidden() -> None:
    """After the last round the server has a's seed: the masks with b and c are still on."""
    done = play(COUNTS).until(4)
    seed = _seed(done, "a", ("a", "b", "c"), 3)
    vector = words_in(opened(Masked, done.replies[3]["a"]).blob)
    layout = Layout.of(BY_SEX)
    found = numbers_of(subtract(vector, expanded(seed, layout.size)))
    assert all(abs(number) > 2**80 for number in found)


def test_only_what_has_enough_sites_behind_it_is_summed() -> None:
    """b and c withhold their women: a's alone would be the sum, so a does not add them."""
    counts = {"a": (4_321, 50), "b": (3, 70), "c": (2, 30)}
    done = play(counts, policy=Policy(complementary=False))
    assert done.sums() == {"": 4_371 + 73 + 32, "Male": 150, "Female": 0}


def test_a_dropout_does_not_leave_a_cell_with_one_site() -> None:
    """Of four sites a and b alone have women; b goes after it has sent its numbers' masks."""
    policy = Policy(complementary=False)
    counts = {"a": (99, 9), "b": (88, 8), "c": (3, 7), "d": (2, 6)}
    with pytest.raises(TooFewPeers, match="a cell has too few behind it"):
        play(counts, {3: frozenset("b")}, policy=policy).until(4)
    assert play(counts, {3: frozenset("c")}, policy=policy).sums()["Female"] == 187


def test_the_site_that_answers_alone() -> None:
    """The attack on R12: all others are said to have timed out, at every round."""
    done = play(COUNTS).until(2)
    alone = {"a": done.replies[2]["a"]}
    with pytest.raises(TooFewSites):
        done.server.deliveries(alone)
    done = play(COUNTS).until(1)
    with pytest.raises(TooFewSites):
        done.server.roster({"a": done.replies[1]["a"]})
