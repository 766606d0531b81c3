"""Attacks 4, 5, 6: single out by strata; total minus the rest; two codings of one number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.attacks.attacker import HEAD, ask, bounds, cells, persons, pinned, site, told
from tests.sites import load
from tests.test_guarded_site import guarded

FLAT = HEAD.format(table="t")
LEVELS = {"sex": ["F", "M"], "region": ["north", "south", "west"]}
SIZES = {
    ("F", "north"): 40,
    ("F", "south"): 33,
    ("F", "west"): 2,  # the secret
    ("M", "north"): 51,
    ("M", "south"): 28,
    ("M", "west"): 37,
}
SECRET = (("sex", "F"), ("region", "west"))


@pytest.fixture(scope="module")
def url(database: str) -> str:
    rows = [{"sex": s, "region": r} for (s, r), n in SIZES.items() for _ in range(n)]
    table = pd.DataFrame(rows)
    table["person_id"] = range(len(table))
    # Ages: two persons of 44, so that [40, 45) less [40, 44) is two persons.
    ages = [float(20 + i % 20) for i in range(len(table) - 60)]
    table["age"] = ages + [41.0] * 30 + [44.0] * 2 + [47.0] * 28
    load(database, "flat", {"t": table})
    return database


def counts(by: list[str], extra: str = "") -> str:
    return f'{extra}[[analysis]]\nkind = "counts"\nby = {by}\n'.replace("'", '"')


def test_a_unique_combination_is_not_counted(url: str) -> None:
    study = FLAT + counts(["sex", "region"])
    on, off = (persons(ask(site(url, "flat", **p), study)) for p in ({}, {"min_count": 1}))
    told("4 single out", 2, on.get(SECRET), off.get(SECRET))
    assert off[SECRET] == 2
    assert SECRET not in on


def _interval(disclosures: list[Any]) -> tuple[float, float]:
    known: dict[tuple[tuple[str, str], ...], int] = {}
    for disclosure in disclosures:
        for answer in disclosure.answers:
            known |= persons(disclosure, answer.analysis)
    ordered = {
        tuple(sorted(g, key=lambda p: list(LEVELS).index(p[0]))): n for g, n in known.items()
    }
    return bounds(LEVELS, ordered, [SECRET])[SECRET]


@pytest.mark.parametrize(
    "analyses",
    [
        counts(["region", "sex"]),
        counts(["sex", "region"]) + counts(["sex"]),
        counts(["sex"]) + counts(["region"]) + counts(["sex", "region"]),
    ],
)
def test_total_minus_the_rest(url: str, analyses: str) -> None:
    on = _interval([ask(site(url, "flat"), FLAT + analyses)])
    off = _interval([ask(site(url, "flat", complementary=False), FLAT + analyses)])
    told("5 total minus the rest", 2, _shown(on), _shown(off))
    assert off == pytest.approx((2, 2))
    assert on[1] - on[0] >= 5
    assert not pinned(on)


def test_total_minus_the_rest_in_two_studies(tmp_path: Path, url: str) -> None:
    """One study by sex and one by region first; the crossed table then."""
    studies = [FLAT + counts(["sex"]), FLAT + counts(["region"]), FLAT + counts(["sex", "region"])]
    found = []
    for name, policy in (("on", ""), ("off", "complementary = false\n")):
        (tmp_path / name).mkdir()
        one = guarded(tmp_path / name, url, policy)
        found.append(_interval([one.ask(study) for study in studies]))
    on, off = found
    told("5 the same, in three studies", 2, _shown(on), _shown(off))
    assert off == pytest.approx((2, 2))
    assert not pinned(on)


def test_two_codings_of_one_number(url: str) -> None:
    """Persons of 40 to 44 in one histogram, of 40 to 43 in the other."""
    edges = ("[40.0, 45.0]", "[40.0, 44.0]")
    study = FLAT + "".join(
        f'[[analysis]]\nkind = "histogram"\nfeatures = ["age"]\nedges = {e}\n' for e in edges
    )

    def difference(**policy: Any) -> int | None:
        disclosure = ask(site(url, "flat", **policy), study)
        found = [cells(disclosure, i).get(((), "age", "0", "bin")) for i in (0, 1)]
        return None if None in found else found[0].persons - found[1].persons  # type: ignore[union-attr]

    on, off = difference(), difference(complementary=False)
    told("6 two codings", 2, on, off)
    assert off == 2
    assert on is None or not 0 < on < 5


def test_two_codings_in_two_studies(tmp_path: Path, url: str) -> None:
    found = []
    for name, policy in (("on", ""), ("off", "complementary = false\n")):
        (tmp_path / name).mkdir()
        one = guarded(tmp_path / name, url, policy)
        sizes = []
        for edges in ("[40.0, 45.0]", "[40.0, 44.0]"):
            text = f'[[analysis]]\nkind = "histogram"\nfeatures = ["age"]\nedges = {edges}\n'
            bin_ = cells(one.ask(FLAT + text)).get(((), "age", "0", "bin"))
            sizes.append(bin_.persons if bin_ else None)
        found.append(None if None in sizes else sizes[0] - sizes[1])
    told("6 two codings, in two studies", 2, *found)
    assert found[1] == 2
    assert found[0] is None or not 0 < found[0] < 5


def _shown(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.0f} to {interval[1]:.0f}"
