"""Attack 5 with the words of the rules: what a release says of the cells that it withholds.

A site says that a withheld group is of 1 to k - 1 persons. Where a small group is divided into as
many groups that hold anybody as it can have persons, that alone counts all of them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog

from federated_analytics.messages import Disclosure
from tests.attacks.attacker import HEAD, ask, site, told
from tests.sites import load

SIZES = {(10, 5): 40, (10, 15): 33, (10, 25): 30, (10, 35): 35}
SINGLE = {(60, 5): 1, (60, 15): 1, (60, 25): 1, (60, 35): 1}
STUDY = (
    HEAD.format(table="t")
    + "[feature.x]\nrange = [0, 100]\nstep = 1\n[feature.y]\nrange = [0, 50]\nstep = 1\n"
    + '[strata.old]\nfeature = "x"\nbreaks = [0, 50]\n'
    + '[strata.group]\nfeature = "y"\nbreaks = [0, 10, 20, 30]\n'
    + '[[analysis]]\nkind = "counts"\nby = ["old", "group"]\n'
)
OLD = ("0 to 49", "50 or over")
GROUPS = ("0 to 9", "10 to 19", "20 to 29", "30 or over")


@pytest.fixture(scope="module")
def url(database: str) -> str:
    rows = [
        {"x": float(x), "y": float(y)} for (x, y), n in (SIZES | SINGLE).items() for _ in [0] * n
    ]
    table = pd.DataFrame(rows)
    table["person_id"] = range(len(table))
    load(database, "flat", {"t": table})
    return database


def estimate(disclosure: Disclosure, *, words: bool) -> tuple[float, float]:
    """The fewest and the most persons of the last cell. Unknown: the 2 × 4 cells."""
    equal, persons, at_most, most, at_least, least = [], [], [], [], [], []
    for answer in disclosure.answers:
        for cell in answer.cells:
            equal.append(_row(cell.key.strata))
            persons.append(cell.value.support[0])
        for withheld in answer.withheld:
            if words and withheld.below:
                at_most.append(_row(withheld.key.strata))
                most.append(withheld.below - 1)
            if words and withheld.key.variable:  # an empty group has no place in a release
                at_least.append(-_row(withheld.key.strata))
                least.append(-1)
    above = np.array([*at_most, *at_least]) if words else None
    limits = [*most, *least] if words else None
    cost = _row((("old", OLD[1]), ("group", GROUPS[3])))
    ends = []
    for sign in (1, -1):
        found = linprog(sign * cost, A_ub=above, b_ub=limits, A_eq=equal, b_eq=persons)
        assert found.status == 0, found.message
        ends.append(sign * found.fun)
    return ends[0], ends[1]


def _row(strata: tuple[tuple[str, str], ...]) -> np.ndarray:
    of = dict(strata)
    cells = [(old, group) for old in OLD for group in GROUPS]
    return np.array([float(of.get("old", o) == o and of.get("group", g) == g) for o, g in cells])


def test_the_words_of_the_rules_count_nobody(url: str) -> None:
    low, high = estimate(ask(site(url, "flat"), STUDY), words=True)
    told("5 by the words of the rules", 1, f"{low:.0f} to {high:.0f}", "1 to 1")
    assert high - low >= 1


def test_the_numbers_alone_count_nobody(url: str) -> None:
    on, off = (
        estimate(ask(site(url, "flat", **policy), STUDY), words=False)
        for policy in ({}, {"min_count": 1})
    )
    told("5 two-way, all of a row is small", 1, *(f"{a:.0f} to {b:.0f}" for a, b in (on, off)))
    assert off == pytest.approx((1, 1))
    assert on[1] - on[0] >= 5
