"""Random studies over skewed tables: no count of 1 to 4 persons can be pinned down.

The attacker knows every released count of a study, and what a total is; a linear programme gives
the least and the most that each cell of the full cross-table can be.
"""

from __future__ import annotations

import itertools
import os
import random

import pandas as pd
import pytest

from federated_analytics.aggregates.count import Count
from tests.attacks.attacker import HEAD, K, ask, bounds, pinned, site, told
from tests.sites import load

STUDIES = int(os.environ.get("FEDERATED_ANALYTICS_ATTACKS", "100"))
LEVELS = {"a": ["x", "y", "z"], "b": ["u", "v", "w"], "c": ["p", "q"]}
FLAT = HEAD.format(table="t")
BATCHES = max(4, STUDIES // 250)
"""Tables: each of another skew, with its share of the studies."""


@pytest.fixture(scope="module")
def tables(database: str) -> dict[str, pd.DataFrame]:
    made = {}
    for batch in range(BATCHES):
        rows = skewed(random.Random(batch))
        load(database, f"r{batch}", {"t": rows})
        made[f"r{batch}"] = rows
    return made


def skewed(rng: random.Random) -> pd.DataFrame:
    """60 to 200 persons with groups of 1 to 4 that the counts of the others tell of."""
    while True:
        rows = pd.DataFrame({"person_id": range(rng.randint(60, 200))})
        for name, levels in LEVELS.items():
            weights = [rng.random() ** 4 + 0.005 for _ in levels]
            rows[name] = rng.choices(levels, weights, k=len(rows))
        if told_of(large_groups(rows), rows):
            return rows


def large_groups(rows: pd.DataFrame) -> dict[tuple[tuple[str, str], ...], int]:
    """The count of every group of at least K persons: minimum counts, and no other rule."""
    found = {(): len(rows)}
    for size in range(1, len(LEVELS) + 1):
        for chosen in itertools.combinations(LEVELS, size):
            for key, persons in rows.groupby(list(chosen)).size().items():
                if persons >= K:
                    found[tuple(zip(chosen, key, strict=True))] = int(persons)
    return found


def random_study(rng: random.Random) -> str:
    parts = []
    for _ in range(rng.randint(1, 3)):
        names = rng.sample(list(LEVELS), rng.randint(0, 3))
        if rng.random() < 0.5 or len(names) == 3:
            parts.append(f'[[analysis]]\nkind = "counts"\nby = {names}\n')
        else:
            asked = [n for n in LEVELS if n not in names]
            chosen = rng.sample(asked, rng.randint(1, len(asked)))
            parts.append(f'[[analysis]]\nkind = "frequencies"\nfeatures = {chosen}\nby = {names}\n')
    return FLAT + "".join(parts).replace("'", '"')


def known(
    url: str, schema: str, study: str, **policy: object
) -> dict[tuple[tuple[str, str], ...], int]:
    """Released counts by the levels that they are of, a total of nobody included."""
    disclosure = ask(site(url, schema, **policy), study)
    found = {}
    for answer in disclosure.answers:
        for cell in answer.cells:
            if isinstance(cell.value, Count):
                level = [(cell.key.variable, cell.key.level)] if cell.key.level else []
                found[tuple(sorted([*cell.key.strata, *level]))] = cell.value.persons
    return found


def told_of(
    released: dict[tuple[tuple[str, str], ...], int], rows: pd.DataFrame
) -> list[tuple[tuple[tuple[str, str], ...], tuple[float, float]]]:
    """The groups of 1 to 4 persons whose count the attacker knows to be of 1 to 4."""
    names = sorted({name for group in released for name, _ in group})
    levels = {name: LEVELS[name] for name in names}
    wanted = []
    for size in range(1, len(names) + 1):
        for chosen in itertools.combinations(names, size):
            sizes = rows.groupby(list(chosen)).size()
            for key, persons in sizes.items():
                values = key if isinstance(key, tuple) else (key,)
                if 0 < persons < K:
                    wanted.append(tuple(zip(chosen, values, strict=True)))
    found = bounds(levels, released, wanted)
    return [(group, interval) for group, interval in found.items() if pinned(interval)]


@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_small_count_is_pinned_down(
    batch: int, database: str, tables: dict[str, pd.DataFrame]
) -> None:
    schema = f"r{batch}"
    rng = random.Random(1_000 + batch)
    without = 0
    for _ in range(STUDIES // BATCHES):
        study = random_study(rng)
        released = known(database, schema, study)
        assert not told_of(released, tables[schema]), study
        open_ = known(database, schema, study, complementary=False)
        without += bool(told_of(open_, tables[schema]))
    told(f"random studies, batch {batch}", "small counts", 0, f"{without} of {STUDIES // BATCHES}")
    assert without > 0
