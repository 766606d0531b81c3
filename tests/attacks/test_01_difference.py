"""Attacks 1 and 2: everybody, then everybody but one; a small set padded with a large one.

Also against strata: everybody by sex and then women but one, in either order.

References: Denning & Denning (1979), The Tracker, ACM Transactions on Database Systems 4:76
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from tests.attacks.attacker import HEAD, told
from tests.sites import load
from tests.test_guarded_site import Asked, guarded

SECRET = 87.0


@pytest.fixture(scope="module")
def url(database: str) -> str:
    values = [20.0 + i % 40 for i in range(300)]
    rows = pd.DataFrame({"person_id": range(1, 301), "x": values})
    rows.loc[299, "x"] = SECRET
    few = rows[297:]  # three persons, the victim among them
    load(
        database,
        "flat",
        {
            "everybody": rows,
            "but_one": rows[:-1],
            "padded": pd.concat([rows[:150], few]),
            "padding": rows[:150],
            "by_sex": rows.assign(sex=["Female"] * 150 + ["Male"] * 149 + ["Female"]),
            "women_but_one": rows[:150],
            "women_and_others_by_sex": pd.concat(
                [
                    rows[:150].assign(sex="Female"),
                    rows[200:240].assign(person_id=range(401, 441), sex="Male"),
                ]
            ),
        },
    )
    return database


def total(site: Asked, table: str) -> float | None:
    study = HEAD.format(table=table) + '[[analysis]]\nkind = "summary"\nfeatures = ["x"]\n'
    disclosure = site.ask(study)
    found = [c.value for a in disclosure.answers for c in a.cells if c.key.name == "moments"]
    return float(found[0].total) if found else None  # type: ignore[attr-defined]


def difference(site: Asked, larger: str, smaller: str) -> float | None:
    sums = total(site, larger), total(site, smaller)
    return None if None in sums else sums[0] - sums[1]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("larger", "smaller", "planted"),
    [("everybody", "but_one", SECRET), ("padded", "padding", SECRET + 20.0 + 17 + 20.0 + 18)],
)
def test_the_difference_of_two_populations(
    tmp_path: Path, url: str, larger: str, smaller: str, planted: float
) -> None:
    on = difference(guarded(_folder(tmp_path, "on"), url), larger, smaller)
    off = difference(guarded(_folder(tmp_path, "off"), url, "overlap = false\n"), larger, smaller)
    told(f"1, 2 difference ({smaller})", planted, on, off)
    assert off == pytest.approx(planted)
    assert on is None


def women(site: Asked, table: str) -> float | None:
    """The sum of a table's women: told, or what is left of everybody's."""
    text = '[[analysis]]\nkind = "summary"\nfeatures = ["x"]\nby = ["sex"]\n'
    disclosure = site.ask(HEAD.format(table=table) + text)
    found = {
        dict(c.key.strata).get("sex", ""): float(c.value.total)  # type: ignore[attr-defined]
        for a in disclosure.answers
        for c in a.cells
        if c.key.name == "moments"
    }
    if "Female" in found:
        return found["Female"]
    return found[""] - found["Male"] if found.keys() >= {"", "Male"} else None


@dataclass(frozen=True)
class Pair:
    """Two questions; who asks both knows the women with the victim, and without her."""

    with_her: Callable[[Asked], float | None]
    without: Callable[[Asked], float | None]


PAIRS = {
    "women but one": Pair(lambda s: women(s, "by_sex"), lambda s: total(s, "women_but_one")),
    "women of two populations": Pair(
        lambda s: women(s, "by_sex"), lambda s: women(s, "women_and_others_by_sex")
    ),
}


@pytest.mark.parametrize("victim_first", [True, False])
@pytest.mark.parametrize("name", PAIRS)
def test_the_difference_of_a_stratum(
    tmp_path: Path, url: str, name: str, victim_first: bool
) -> None:
    def attack(site: Asked) -> float | None:
        asked = [PAIRS[name].with_her, PAIRS[name].without]
        sums = [one(site) for one in (asked if victim_first else asked[::-1])]
        assert sums[0] is not None  # the first question is an honest one
        return None if sums[1] is None else abs(sums[0] - sums[1])

    on = attack(guarded(_folder(tmp_path, "on"), url))
    off = attack(guarded(_folder(tmp_path, "off"), url, "overlap = false\n"))
    told(f"1 difference ({name}, {'first' if victim_first else 'last'})", SECRET, on, off)
    assert off == pytest.approx(SECRET)
    assert on is None


def test_two_populations_of_one_study_are_both_remembered(tmp_path: Path, url: str) -> None:
    """Asked for together with another population, nobody is forgotten."""
    both = '[study]\nname = "x"\n' + "".join(
        f'[[population]]\nname = "{t}"\nkind = "table"\ntable = "{t}"\n'
        for t in ("padding", "everybody")
    )
    one = guarded(tmp_path, url)
    disclosure = one.ask(both + '[[analysis]]\nkind = "summary"\nfeatures = ["x"]\n')
    assert not any(a.refusal for a in disclosure.answers)
    assert total(one, "but_one") is None


@pytest.mark.parametrize("other", ["women_but_one", "women_and_others_by_sex"])
@pytest.mark.parametrize("victim_first", [True, False])
def test_the_difference_of_a_stratum_within_one_study(
    tmp_path: Path, url: str, other: str, victim_first: bool
) -> None:
    tables = ["by_sex", other] if victim_first else [other, "by_sex"]
    by = {t: '["sex"]' if t.endswith("by_sex") else "[]" for t in tables}
    text = '[study]\nname = "x"\n' + "".join(
        f'[[population]]\nname = "{t}"\nkind = "table"\ntable = "{t}"\n' for t in tables
    )
    text += "".join(
        f'[[analysis]]\nkind = "summary"\nfeatures = ["x"]\npopulations = ["{t}"]\nby = {by[t]}\n'
        for t in tables
    )

    def attack(site: Asked) -> float | None:
        disclosure = site.ask(text)
        assert not any(a.refusal for a in disclosure.answers)
        sums = {
            (a.population, dict(c.key.strata).get("sex", "")): float(c.value.total)  # type: ignore[attr-defined]
            for a in disclosure.answers
            for c in a.cells
            if c.key.name == "moments"
        }
        for t in tables:  # what is left of everybody
            if {(t, ""), (t, "Male")} <= sums.keys():
                sums.setdefault((t, "Female"), sums[t, ""] - sums[t, "Male"])
        with_her = sums.get(("by_sex", "Female"))
        without = sums.get((other, "Female" if other.endswith("by_sex") else ""))
        return None if with_her is None or without is None else with_her - without

    on = attack(guarded(_folder(tmp_path, "on"), url))
    off = attack(guarded(_folder(tmp_path, "off"), url, "overlap = false\n"))
    assert off == pytest.approx(SECRET)
    assert on is None


def _folder(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    return folder
