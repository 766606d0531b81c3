"""Attacks 1 and 2: everybody, then everybody but one; a small set padded with a large one.

References: Denning & Denning (1979), The Tracker, ACM Transactions on Database Systems 4:76
"""

from __future__ import annotations

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


def _folder(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    return folder
