"""Attacks 7, 8, 9: a dominant contributor; extremes; regression on one person's indicator."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from tests.attacks.attacker import HEAD, ask, cells, site, told
from tests.sites import load

BILL = 990_000.0
FLAT = HEAD.format(table="t")
RANGE = "[feature.{0}]\nrange = [{1}, {2}]\nstep = 1\n"


@pytest.fixture(scope="module")
def url(database: str) -> str:
    rows = pd.DataFrame({"person_id": range(60)})
    rows["bill"] = [100.0 + i for i in range(59)] + [BILL]
    rows["square"] = [100.0 + i for i in range(59)] + [SQUARE]
    rows["age"] = [float(30 + i % 30) for i in range(59)] + [103.0]
    rows["mark"] = [0.0] * 59 + [1.0]
    rows["y"] = [float(i % 7) for i in range(59)] + [6.5]
    rows["z"] = [float((i * 13) % 11) for i in range(60)]
    load(database, "flat", {"t": rows})
    return database


def test_one_bill_is_most_of_the_sum(url: str) -> None:
    study = FLAT + '[[analysis]]\nkind = "summary"\nfeatures = ["bill"]\n'

    def estimate(**policy: Any) -> float | None:
        found = cells(ask(site(url, "flat", **policy), study)).get(((), "bill", "", "moments"))
        return None if found is None else found.total - 59 * 130  # the others' bills are usual

    on, off = estimate(), estimate(dominance=1.0)
    told("7 dominant contributor", BILL, on, off)
    assert off == pytest.approx(BILL, rel=0.01)
    assert on is None


SQUARE = 4_500.0
"""A bill that is 37 % of its sum, and nearly all of the variance."""


def test_one_bill_is_most_of_the_variance(url: str) -> None:
    """Of 60 bills one is far from the rest: she is the mean and the root of the squares' sum."""
    study = FLAT + '[[analysis]]\nkind = "summary"\nfeatures = ["square"]\n'

    def estimate(**policy: Any) -> float | None:
        found = cells(ask(site(url, "flat", **policy), study)).get(((), "square", "", "moments"))
        if found is None:
            return None
        return float(found.mean + math.sqrt(found.m2 * (found.n - 1) / found.n))

    on, off = estimate(), estimate(dominance=1.0)
    told("7 one bill, by the variance", SQUARE, on, off)
    assert off == pytest.approx(SQUARE, rel=0.01)
    assert on is None or abs(on - SQUARE) > 0.1 * SQUARE


def test_quantiles_do_not_tell_the_oldest(url: str) -> None:
    study = (
        FLAT
        + RANGE.format("age", 0, 120)
        + '[[analysis]]\nkind = "quantiles"\nfeatures = ["age"]\nprobabilities = [0.001, 0.999]\n'
    )

    def span(**policy: Any) -> tuple[int, int] | None:
        found = cells(ask(site(url, "flat", **policy), study)).get(((), "age", "", "intervals"))
        return None if found is None else found.intervals[-1][:2]

    on, off = span(), span(min_count=1, complementary=False)
    told("8 extremes, quantile 0.999", 103, on, off)
    assert off is not None
    assert off[0] <= 103 < off[1]
    assert off[1] - off[0] == 1
    assert on is None or (on[1] - on[0] > 20 and on[1] == 121)


def test_a_bin_around_one_person(url: str) -> None:
    study = (
        FLAT + '[[analysis]]\nkind = "histogram"\nfeatures = ["age"]\nedges = [0.0, 102.5, 103.5]\n'
    )

    def count(**policy: Any) -> int | None:
        released = cells(ask(site(url, "flat", **policy), study))
        last = released.get(((), "age", "1", "bin"))
        whole, rest = (released.get(((), "age", *p)) for p in (("", "persons"), ("0", "bin")))
        if last is not None:
            return int(last.persons)
        return int(whole.persons - rest.persons) if whole and rest else None

    on, off = count(), count(complementary=False)
    told("8 extremes, a bin around one", 1, on, off)
    assert off == 1
    assert on is None


@pytest.mark.parametrize("policy", [{}, {"min_count": 1, "dominance": 1.0}], ids=["on", "off"])
def test_a_regression_on_one_persons_indicator(
    url: str, policy: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coefficient of a column that is 1 for one person is her own residual."""
    study = (
        FLAT
        + RANGE.format("y", 0, 10)
        + RANGE.format("mark", 0, 1)
        + '[[analysis]]\nkind = "linear_regression"\noutcome = "y"\nfeatures = ["mark"]\n'
    )
    from federated_analytics.aggregates.normal_equations import NormalEquations, least_squares

    disclosure = ask(site(url, "flat", **policy), study)
    released = [v for v in cells(disclosure).values() if isinstance(v, NormalEquations)]
    if not policy:
        assert not released
        return
    fit = least_squares(released[0])
    others = sum(float(i % 7) for i in range(59)) / 59
    estimate = others + float(fit.coefficients[-1])
    told("9 indicator regression", 6.5, None, f"{estimate:.3f}")
    assert estimate == pytest.approx(6.5, abs=1e-6)
