"""R1 and R12 where they matter: in the bytes that leave a site, for random studies."""

from __future__ import annotations

import random
import zlib

import pandas as pd
import pytest

from federated_analytics import wire
from federated_analytics.analyses.base import analyses
from federated_analytics.messages import Disclosure, Request
from federated_analytics.privacy.policy import Policy
from federated_analytics.study import Study
from tests import pooled
from tests.sites import ask, load, sites

NUMERIC = ["age", "systolic_bp", "bmi", "hba1c", "outpatient_visits"]
CATEGORICAL = ["sex", "race", "hypertension"]
STRATA = ["sex", "age_group", "race", "hypertension"]
FEATURES = {
    "counts": [],
    "top_concepts": [],
    "frequencies": CATEGORICAL,
    "survival": ["hypertension"],
    "linear_regression": ["age", "bmi", "sex", "hypertension"],
}
POPULATIONS = [
    'kind = "everyone"',
    'kind = "everyone"\nmin_age = 70',
    f'kind = "condition"\nconcepts = [{pooled.DIABETES}]',
    f'kind = "condition"\nconcepts = [{pooled.DIABETES}]\nprior_observation_days = 1500',
]


@pytest.fixture(scope="module")
def schemas(database: str) -> list[str]:
    load(database, "vocabulary", pooled.concept_tables())
    tables = pooled.random_tables(7, 260)
    for i in range(3):
        load(database, f"s{i}", pooled.part_of(tables, i, 3, empty=False))
    names = [f"Name {i}" for i in range(30)]
    flat = pd.DataFrame(
        {
            "person_id": range(1, 31),
            "surname": names,
            "group": ["common"] * 26 + ["rare"] * 4,
            "marker": [0] * 27 + [1] * 3,
            "code": [2] * 27 + [1] * 3,
            "value": [float(i) for i in range(30)],
        }
    )
    load(database, "flat", {"cohort_table": flat})
    return ["s0", "s1", "s2"]


def released(study: Study, url: str, schema: str, policy: Policy) -> tuple[Disclosure, bytes]:
    site = sites(url, [schema], policy, "vocabulary")[0]
    request = Request(study.to_json(), 1, "run", 60.0)
    body = site.answer(wire.encode_request(request))
    return wire.decode_release(body), body


def random_study(rng: random.Random) -> str:
    blocks = []
    population = rng.choice(POPULATIONS)
    kinds = [
        k for k, a in analyses().items() if "everyone" not in population or not a.needs_index_date
    ]
    for kind in rng.sample(kinds, 3):
        features = FEATURES.get(kind, NUMERIC)
        lines = [f'[[analysis]]\nkind = "{kind}"']
        if kind == "linear_regression":
            lines.append('outcome = "hba1c"')
        if features:
            known = [f for f in features if f != "outpatient_visits" or kind == "summary"]
            lines.append(f"features = {rng.sample(known, rng.randint(1, len(known)))}")
        lines.append(f"by = {rng.sample(STRATA, rng.randint(0, 3))}")
        blocks.append("\n".join(lines))
    return f'[study]\nname = "random"\n[population]\n{population}\n' + "\n".join(blocks)


@pytest.mark.parametrize("seed", range(25))
def test_no_group_below_the_threshold_leaves_a_site(
    seed: int, database: str, schemas: list[str]
) -> None:
    study = Study.parse(random_study(random.Random(seed)).replace("'", '"'))
    disclosure, _ = released(study, database, schemas[seed % 3], Policy())
    assert disclosure.refusal is None
    assert all(answer.refusal is None for answer in disclosure.answers), disclosure
    for answer in disclosure.answers:
        for cell in answer.cells:
            assert not [n for n in cell.value.support if 0 < n < 5], cell
        hidden = {w.key for w in answer.withheld}
        assert not hidden & {cell.key for cell in answer.cells}


def test_the_random_studies_do_withhold(database: str, schemas: list[str]) -> None:
    """Without small groups among them, the test above would prove nothing."""
    withheld = loose = 0
    for seed in range(6):
        study = Study.parse(random_study(random.Random(seed)).replace("'", '"'))
        strict, _ = released(study, database, schemas[0], Policy())
        open_, _ = released(study, database, schemas[0], Policy(min_count=1))
        withheld += sum(len(answer.withheld) for answer in strict.answers)
        loose += sum(
            any(0 < n < 5 for n in c.value.support) for a in open_.answers for c in a.cells
        )
    assert withheld > 20
    assert loose > 20


FLAT = '[study]\nname = "flat"\n[population]\nkind = "table"\ntable = "cohort_table"\n'


def test_texts_of_withheld_levels_stay(database: str, schemas: list[str]) -> None:
    study = Study.parse(
        FLAT
        + '[[analysis]]\nkind = "frequencies"\nfeatures = ["surname", "group"]\n'
        + '[[analysis]]\nkind = "counts"\nby = ["surname"]\n'
    )
    disclosure, body = released(study, database, "flat", Policy(complementary=False))
    text = zlib.decompress(body).decode()
    assert all(answer.refusal is None for answer in disclosure.answers), disclosure
    assert "common" in text
    assert "Name" not in text
    assert "rare" not in text
    assert sum(len(answer.withheld) for answer in disclosure.answers) == 30 + 1 + 30


@pytest.mark.parametrize("column", ["marker", "code"])
def test_the_mean_of_two_values_is_a_count(column: str, database: str, schemas: list[str]) -> None:
    """27 zeros and three ones, or 27 twos and three ones: the mean alone tells three."""
    study = Study.parse(FLAT + f'[[analysis]]\nkind = "summary"\nfeatures = ["{column}"]\n')
    disclosure, _ = released(study, database, "flat", Policy())
    names = {cell.key.name for cell in disclosure.answers[0].cells}
    assert "moments" not in names
    open_, _ = released(study, database, "flat", Policy(min_count=3))
    assert "moments" in {cell.key.name for cell in open_.answers[0].cells}


def test_quantiles_tell_no_extreme(database: str, schemas: list[str]) -> None:
    study = Study.parse(
        FLAT
        + "[feature.value]\nrange = [0, 100]\nstep = 1\n"
        + '[[analysis]]\nkind = "quantiles"\nfeatures = ["value"]\nprobabilities = [0.01, 0.99]\n'
    )
    disclosure, _ = released(study, database, "flat", Policy())
    intervals = disclosure.answers[0].cells[0].value.intervals  # type: ignore[attr-defined]
    assert sum(n for _, _, n in intervals) == 30
    assert min(n for _, _, n in intervals) >= 5
    lengths = [high - low for low, high, _ in intervals]
    assert min(lengths) >= 5


STUDY = '[study]\nname = "x"\n[[analysis]]\nkind = "summary"\nfeatures = ["age"]\nby = ["race"]\n'


def test_a_pooled_number_of_one_site_is_withheld(database: str, schemas: list[str]) -> None:
    """R12: where two of three sites withheld a stratum, the third one's number is not pooled."""
    policies = [Policy(min_count=2), Policy(min_count=10_000), Policy(min_count=10_000)]
    asked = [
        sites(database, [s], p, "vocabulary")[0] for s, p in zip(schemas, policies, strict=True)
    ]
    result = ask(STUDY, asked, min_sites=2)
    pooled_rows = [r for r in result.rows if r.cdm_name == "pooled"]
    means = [r.estimate_value for r in pooled_rows if r.estimate_name == "mean"]
    assert means
    assert set(means) == {"-"}


def test_a_site_may_ask_for_more_sites(database: str, schemas: list[str]) -> None:
    from federated_analytics.errors import TooFewSites

    asked = sites(database, schemas, Policy(min_sites=4), "vocabulary")
    with pytest.raises(TooFewSites, match="at least 4"):
        ask(STUDY, asked, min_sites=1)


def test_own_numbers_are_shown_only_where_the_policy_lets_them(
    database: str, schemas: list[str]
) -> None:
    text = STUDY.replace('by = ["race"]', 'by = ["site"]')
    asked = [
        sites(database, [schemas[0]], Policy(per_site=True), "vocabulary")[0],
        *sites(database, schemas[1:], Policy(), "vocabulary"),
    ]
    result = ask(text, asked, min_sites=2)
    numbers = [r for r in result.rows if result.result_type(r.result_id) == "summary"]
    assert {r.cdm_name for r in numbers} == {"pooled", "s0"}
    assert {r.strata_level for r in numbers if r.strata_name == "site"} == {"s0"}
    notes = {r.cdm_name for r in result.rows if r.estimate_name == "note"}
    assert notes == {"s1", "s2"}
