"""Attack 5 on sums: a withheld group's sum is the total's less those of the other groups.

R1, R3 and R7 look at each group's own sum. Where the sum of a group is withheld and the total's
and all others' are not, subtraction gives it; where two are withheld, their sum together may
still be one person's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pytest

from federated_analytics.site import Site
from tests.attacks.attacker import HEAD, ask, cells, site, told
from tests.sites import load

BILL = 60_000.0
MARKED = 3
FLAT = HEAD.format(table="t")


@pytest.fixture(scope="module")
def url(database: str) -> str:
    rows = pd.DataFrame({"person_id": range(120)})
    rows["ward"] = ["a"] * 40 + ["b"] * 40 + ["c"] * 40
    usual = [500.0 + i for i in range(40)] + [100.0 + i for i in range(40)]
    rows["bill"] = [*usual, *(600.0 + i for i in range(40))]
    rows.loc[79, "bill"] = BILL  # all of ward b's bills are 65 000, all bills 110 000
    rows["mark"] = [1.0] * 20 + [0.0] * 20 + [1.0] * MARKED + [0.0] * 37 + [1.0] * 15 + [0.0] * 25
    rows["y"] = [float(i * 7 % 11) for i in range(120)]
    load(database, "flat", {"t": rows})
    wards = ["a"] * 60 + ["b"] + ["c"] * 30 + ["d"] * 60
    small = pd.DataFrame({"person_id": range(len(wards)), "ward": wards})
    small["bill"] = [900.0] * 60 + [BILL] + [20.0] * 30 + [800.0] * 60
    load(database, "small", {"t": small})
    return database


def summaries(asked: Site, feature: str) -> dict[str, Any]:
    """The released moments by ward, "" for all."""
    text = f'[[analysis]]\nkind = "summary"\nfeatures = ["{feature}"]\nby = ["ward"]\n'
    return {
        dict(strata).get("ward", ""): value
        for (strata, _, _, name), value in cells(ask(asked, FLAT + text)).items()
        if name == "moments"
    }


def remainder(found: dict[str, Any]) -> float | None:
    """What is left of the total's sum after all wards that are told."""
    if "" not in found:
        return None
    return float(found[""].total - sum(value.total for ward, value in found.items() if ward))


def one_bill(asked: Site) -> float | None:
    """Ward b's sum; its other 39 bills are about 120 each, as everybody there knows."""
    found = summaries(asked, "bill")
    sum_ = found["b"].total if "b" in found else remainder(found)
    return None if sum_ is None else sum_ - 39 * 119.0


def bill_of_a_small_ward(asked: Site) -> float | None:
    """Ward b has one person; whichever others are withheld with it have small bills."""
    found = summaries(asked, "bill")
    return found["b"].total if "b" in found else remainder(found)


def marked(asked: Site) -> float | None:
    """How many in ward b have a 1 in a column of 0 and 1."""
    found = summaries(asked, "mark")
    return found["b"].total if "b" in found else remainder(found)


def marked_by_regression(asked: Site) -> float | None:
    """The same, from the means of a regression's columns."""
    ranges = "".join(
        f"[feature.{name}]\nrange = [0, {high}]\nstep = 1\n"
        for name, high in (("mark", 1), ("y", 20))
    )
    text = (
        '[[analysis]]\nkind = "linear_regression"\noutcome = "y"\nfeatures = ["mark"]\n'
        'by = ["ward"]\n'
    )
    found = {
        dict(strata).get("ward", ""): value.n * value.means[0]
        for (strata, _, _, _), value in cells(ask(asked, FLAT + ranges + text)).items()
        if hasattr(value, "means")
    }
    if "b" in found:
        return float(found["b"])
    return found[""] - sum(n for ward, n in found.items() if ward) if "" in found else None


@dataclass(frozen=True)
class Case:
    """One attack; `without` is the policy with which it succeeds."""

    attack: Callable[[Site], float | None]
    schema: str
    planted: float
    without: dict[str, Any]


CASES = {
    "7 one bill, by difference": Case(one_bill, "flat", BILL, {"dominance": 1.0}),
    "7 a small ward's bill": Case(
        bill_of_a_small_ward, "small", BILL, {"min_count": 1, "dominance": 1.0}
    ),
    "5 a mean's 0 and 1": Case(marked, "flat", MARKED, {"min_count": 1}),
    "9 a regression's 0 and 1": Case(marked_by_regression, "flat", MARKED, {"min_count": 1}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_sum_does_not_follow_from_the_others(url: str, name: str) -> None:
    case = CASES[name]
    on = case.attack(site(url, case.schema))
    off = case.attack(site(url, case.schema, **case.without))
    told(name, case.planted, on, off)
    assert off == pytest.approx(case.planted, rel=0.02)
    assert on is None or abs(on - case.planted) > max(1, 0.2 * case.planted)
