"""Random studies of every kind that counts, against all that was released together.

No group of 1 to k - 1 persons, of those that the studies' strata, categories and edges form (each
alone and crossed in every way), may be known to be one: numbers are cut at every edge of a
question or an answer. A tenth of FEDERATED_ANALYTICS_ATTACKS (100 where it is not set) is sent as
studies in a row to a site that remembers.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from federated_analytics.messages import Disclosure
from federated_analytics.study import Study
from tests.attacks.attacker import HEAD, K, ask, site, told
from tests.attacks.everything_released import MISSING, Attacker, Condition, Levels, Programme
from tests.sites import load
from tests.test_guarded_site import guarded

STUDIES = int(os.environ.get("FEDERATED_ANALYTICS_ATTACKS", "100"))
PARTS = 10
SEEDS_THAT_TELL = (6, 8, 9)
"""Of three questions that R2 lets through one by one, and that tell together."""
PERSONS = 220
TEXTS = {
    "ward": ["a", "b", "c", "d", MISSING],
    "drug": ["p", "q", "r", MISSING],
    "sex": ["Female", "Male", MISSING],
}
RANGES = {"x": (0.0, 80.0), "y": (0.0, 30.0)}
DEFINED = "".join(
    f"[feature.{name}]\nrange = [{low}, {high}]\nstep = 1\n" for name, (low, high) in RANGES.items()
)


def _persons() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    rows = pd.DataFrame({"person_id": range(PERSONS)})
    shares = {"ward": (60, 25, 10, 3, 2), "drug": (70, 24, 4, 2), "sex": (50, 47, 3)}
    for name, weights in shares.items():
        levels = [None if level == MISSING else level for level in TEXTS[name]]
        rows[name] = rng.choice(
            np.array(levels, dtype=object), PERSONS, p=np.array(weights) / sum(weights)
        )
    rows["x"] = np.floor(rng.gamma(3.0, 8.0, PERSONS).clip(0, 79))
    rows["y"] = rng.binomial(30, 0.2 + 0.004 * rows["x"])
    rows.loc[rng.choice(PERSONS, 9, replace=False), "x"] = np.nan
    return rows


TABLE = _persons()


@pytest.fixture(scope="module")
def url(database: str) -> str:
    load(database, "flat", {"t": TABLE})
    return database


def _edges(rng: random.Random, name: str) -> list[float]:
    low, high = RANGES[name]
    inner = rng.sample(range(int(low) + 1, int(high)), rng.randint(1, 5))
    return [low, *sorted(map(float, inner))]


def random_study(rng: random.Random, most: int = 3) -> str:
    """1 to `most` analyses of one table, of any kind that counts persons."""
    blocks, strata = [], {}
    for i in range(rng.randint(1, most)):
        kind = rng.choice(["counts", "frequencies", "histogram", "summary", "quantiles"])
        name = rng.choice(list(RANGES))
        lines = [f'[[analysis]]\nkind = "{kind}"']
        if kind == "frequencies":
            lines.append(f"features = {rng.sample(list(TEXTS), rng.randint(1, 2))}")
        elif kind != "counts":
            lines.append(f'features = ["{name}"]')
        if kind == "histogram":
            lines.append(f"edges = {[*_edges(rng, name), RANGES[name][1] + 1]}")
        by: list[str] = rng.sample(list(TEXTS), rng.randint(0, 2))
        if rng.random() < 0.4:
            strata[f"group_{i}"] = (other := rng.choice(list(RANGES)), _edges(rng, other))
            by.insert(rng.randint(0, len(by)), f"group_{i}")
        blocks.append("\n".join([*lines, f"by = {by}\n"]))
    defined = "".join(
        f'[strata.{n}]\nfeature = "{f}"\nbreaks = {breaks}\n' for n, (f, breaks) in strata.items()
    )
    text = HEAD.format(table="t") + DEFINED + defined + "".join(blocks)
    return text.replace("'", '"')


def small_groups(levels: Levels) -> Iterator[tuple[Condition, ...]]:
    """Groups of 1 to k - 1 persons: no other can be found out to be one."""
    members = {name: np.array([_members(name, one) for one in of]) for name, of in levels.items()}
    for number in range(1, len(levels) + 1):
        for chosen in itertools.combinations(levels, number):
            table = np.ones((1, PERSONS), dtype=int)
            for name in chosen:
                table = (table[:, None] * members[name][None]).reshape(-1, PERSONS)
            places = itertools.product(*(levels[name] for name in chosen))
            for persons, place in zip(table.sum(axis=1), places, strict=True):
                if 0 < persons < K:
                    yield tuple((n, (one,)) for n, one in zip(chosen, place, strict=True))


def _members(name: str, level: Any) -> np.ndarray[Any, Any]:
    column = TABLE[name]
    if level == MISSING:
        return np.asarray(column.isna(), dtype=int)
    if isinstance(level, str):
        return np.asarray(column == level, dtype=int)
    return np.asarray((column >= level[0]) & (column < level[1]), dtype=int)


def attacker() -> Attacker:
    return Attacker(TEXTS, {name: (low, 1.0) for name, (low, _) in RANGES.items()})


def found_out(one: Attacker) -> str:
    """A small group that is known to be small, in words; "" where there is none."""
    programme = Programme(one.divided(), one.known)
    found = programme.pinned(list(small_groups(programme.levels)), K)
    return f"{found[0]} is of {found[1][0]:.2f} to {found[1][1]:.2f} persons" if found else ""


@pytest.mark.parametrize("part", range(PARTS))
def test_nobody_is_found_out_by_one_study(part: int, url: str) -> None:
    asked = site(url, "flat")
    for seed in range(part, STUDIES, PARTS):
        one, text = attacker(), random_study(random.Random(seed))
        disclosure = ask(asked, text)
        assert disclosure.refusal is None
        assert not any(answer.refusal for answer in disclosure.answers)
        one.read(Study.parse(text), disclosure)
        assert not found_out(one), (seed, text)


def test_without_the_rules_many_are_found_out(url: str) -> None:
    """The same attacker and the same studies without R2: he is no straw man."""
    on, off = 0, 0
    for seed in range(20):
        text = random_study(random.Random(seed))
        for policy in ({}, {"complementary": False}):
            one = attacker()
            one.read(Study.parse(text), ask(site(url, "flat", **policy), text))
            on, off = (
                (on, off + bool(found_out(one))) if policy else (on + bool(found_out(one)), off)
            )
    told("all of a random study together", "small groups", f"in {on} of 20", f"in {off} of 20")
    assert on == 0
    assert off > 5


@pytest.mark.parametrize("part", range(PARTS))
def test_nobody_is_found_out_by_studies_in_a_row(part: int, url: str, tmp_path: Path) -> None:
    """Three questions to a site that remembers, and all of its answers together."""
    for seed in range(part, max(PARTS, STUDIES // 10), PARTS):
        (folder := tmp_path / str(seed)).mkdir()
        assert not by_three_studies(_remembering(folder, url), seed), seed


def test_a_site_that_forgets_tells_by_three_studies(url: str, tmp_path: Path) -> None:
    """The same questions, each of them harmless by itself, to a site without a state folder."""
    on, off = 0, 0
    for seed in SEEDS_THAT_TELL:
        (folder := tmp_path / str(seed)).mkdir()
        on += bool(by_three_studies(_remembering(folder, url), seed))
        off += bool(by_three_studies(lambda text: ask(site(url, "flat"), text), seed))
    of = f"of {len(SEEDS_THAT_TELL)}"
    told("three random studies together", "small groups", f"in {on} {of}", f"in {off} {of}")
    assert (on, off) == (0, len(SEEDS_THAT_TELL))


def by_three_studies(send: Callable[[str], Disclosure], seed: int) -> str:
    """Who is found out by three questions that follow from `seed`."""
    one = attacker()
    for i in range(3):
        text = random_study(random.Random(f"{seed}/{i}"), most=1)
        one.read(Study.parse(text), send(text))
    return found_out(one)


def _remembering(folder: Path, url: str) -> Callable[[str], Disclosure]:
    """Asks a site with a ledger; an answer that takes long is fetched by the same envelope."""
    asked = guarded(folder, url)

    def send(text: str) -> Disclosure:
        envelope = asked.signed(text)
        disclosure = asked.send(envelope)
        while disclosure.refusal is not None:
            assert disclosure.refusal.code == "working", disclosure.refusal
            disclosure = asked.send(envelope)
        return disclosure

    return send
