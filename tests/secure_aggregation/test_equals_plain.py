"""A result made behind masks is the one made in clear, whatever the partition."""

from __future__ import annotations

import math
from collections import Counter
from functools import cache

import numpy as np
import pandas as pd
import pytest

from federated_analytics import wire
from federated_analytics.federation import request_of
from federated_analytics.privacy.policy import Policy
from federated_analytics.study import Study
from tests import pooled
from tests.secure_aggregation.hospitals import OPEN, hospitals, numbers, run
from tests.sites import load, sites

STUDY = Study.parse(
    f"""
    [study]
    name = "All that adds up"
    [[population]]
    kind = "everyone"
    [[population]]
    name = "diabetes"
    kind = "condition"
    concepts = [{pooled.DIABETES}]
    prior_observation_days = 180
    [[analysis]]
    kind = "counts"
    by = ["sex", "age_group"]
    [[analysis]]
    kind = "summary"
    features = ["age", "systolic_bp", "hba1c"]
    by = ["sex"]
    [[analysis]]
    kind = "histogram"
    features = ["systolic_bp"]
    [[analysis]]
    kind = "quantiles"
    features = ["bmi"]
    by = ["sex"]
    [[analysis]]
    kind = "frequencies"
    features = ["sex"]
    by = ["age_group"]
    [[analysis]]
    kind = "survival"
    populations = ["diabetes"]
    features = ["death"]
    by = ["sex"]
    [[analysis]]
    kind = "linear_regression"
    outcome = "systolic_bp"
    features = ["age", "sex", "bmi"]
    """
)
CASES = {
    "2 sites, nothing withheld": (2, OPEN),
    "3 sites, strict": (3, Policy()),
    "3 sites, zeros withheld": (3, Policy(zero_is_sensitive=True, complementary=False)),
    "7 sites, rounded": (7, Policy(rounding=5, complementary=False)),
}


def _random_parts(count: int) -> list[dict[str, pd.DataFrame]]:
    """Every person at one site, some sites much larger than others."""
    rng = np.random.default_rng(count)
    tables = pooled.random_tables(4, 1_200)
    at = rng.choice(count, 1_201, p=rng.dirichlet(np.full(count, 2.0)))
    return [
        {name: table[at[table.person_id] == site] for name, table in tables.items()}
        for site in range(count)
    ]


@pytest.fixture(scope="module")
def partitions(database: str) -> dict[int, list[str]]:
    """Schemas of each partition."""
    load(database, "vocabulary", pooled.concept_tables())
    made = {}
    for count in {count for count, _ in CASES.values()}:
        made[count] = [f"site_{count}_{i}" for i in range(count)]
        for name, part in zip(made[count], _random_parts(count), strict=True):
            load(database, name, part)
    return made


def _is_estimate(key: tuple[str, ...]) -> bool:
    """A quantile's: between its bounds, it is not the same (see `IntervalCounts.additive`)."""
    return key[7] == "median" or (key[7][0] == "q" and not key[7].endswith(("_lower", "_upper")))


@pytest.mark.parametrize(("count", "policy"), CASES.values(), ids=CASES)
def test_the_secure_result_is_the_plain_one(
    count: int, policy: Policy, database: str, partitions: dict[int, list[str]]
) -> None:
    found = sites(database, partitions[count], policy, "vocabulary")
    answers = {site.name: cache(site.answer) for site in found}
    request = wire.encode_request(request_of(STUDY, 60))
    once = {name: (lambda _, a=answer: a(request)) for name, answer in answers.items()}
    plain = numbers(run(STUDY, once, secure=False))
    held = {name: one.answer for name, one in hospitals(once).items()}
    secure = numbers(run(STUDY, held, secure=True))
    assert secure.keys() == plain.keys()
    compared: Counter[str] = Counter()
    for key, text in plain.items():
        if _is_estimate(key) and text not in ("-", "NA"):
            low, high = (float(plain[(*key[:7], key[7] + s, key[8])]) for s in ("_lower", "_upper"))
            assert low <= float(secure[key]) <= high, key
        elif text != secure[key]:
            assert "." in text, (key, text, secure[key])
            assert math.isclose(float(text), float(secure[key]), rel_tol=1e-9), (key, text)
        compared[key[0]] += text not in ("-", "NA")
    assert sum(compared.values()) > 100
    if policy is OPEN:
        assert all(compared[str(i + 1)] > 5 for i in range(len(STUDY.analysis)))
