"""Studies of an OMOP database at a guarded site: one question however written, noise that fits."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from federated_analytics.messages import Disclosure
from tests import pooled
from tests.sites import load
from tests.test_guarded_site import Asked, guarded

HEAD = '[study]\nname = "x"\n'
COUNTS = '[[analysis]]\nkind = "counts"\nby = ["sex"]\n'
WIDE = f"concepts = [{pooled.DIABETES}]\n"
LISTED = f"concepts = [{pooled.DIABETES_CHILD}, {pooled.DIABETES}]\ndescendants = false\n"
ALONE = f"concepts = [{pooled.DIABETES}]\ndescendants = false\n"
NOISY = 'mode = "dp"\nepsilon = {epsilon}\nbudget_epsilon = {budget}\n'


@pytest.fixture(scope="module")
def url(database: str) -> str:
    tables = pooled.random_tables(7, 400)
    wards = pd.DataFrame({"person_id": range(1, 241), "ward": [*"abcdefgh"] * 30})
    ill = pd.concat([rows[number:] for number, (_, rows) in enumerate(wards.groupby("ward"))])
    tables |= {"everybody": wards, "ill": ill}  # of ward b all but 1 are ill, of c all but 2 …
    load(database, "flat", {**tables, **pooled.concept_tables()})  # the schema of `guarded`
    return database


def diabetics(concepts: str, name: str = "cohort", days: int = 0) -> str:
    return (
        f'[[population]]\nname = "{name}"\nkind = "condition"\n'
        f"prior_observation_days = {days}\n{concepts}"
    )


def test_a_concept_set_with_descendants_is_the_one_that_lists_them(
    tmp_path: Path, url: str
) -> None:
    one = guarded(tmp_path, url, NOISY.format(epsilon=1.0, budget=1.2))
    first = one.ask(HEAD + diabetics(WIDE) + COUNTS)
    assert first.charged == pytest.approx(1.0)
    listed = one.ask(HEAD + diabetics(LISTED) + COUNTS)
    assert listed.charged == 0
    assert listed.answers[0].cells == first.answers[0].cells
    assert one.code(HEAD + diabetics(ALONE) + COUNTS) == "budget_spent"


def test_features_are_compared_by_their_members_too(tmp_path: Path, url: str) -> None:
    def study(concepts: str) -> str:
        names = concepts.replace("[", "[{ id = ").replace(", ", " }, { id = ").replace("]", " }]")
        feature = (
            '[feature.ill]\ndomain = "condition"\ntype = "boolean"\naggregation = "any"\n' + names
        )
        return HEAD + feature + '[[analysis]]\nkind = "frequencies"\nfeatures = ["ill"]\n'

    one = guarded(tmp_path, url, NOISY.format(epsilon=1.0, budget=1.2))
    first = one.ask(study(WIDE))
    assert (first.refusal, first.charged) == (None, pytest.approx(1.0))
    assert one.ask(study(LISTED)).answers[0].cells == first.answers[0].cells
    assert one.code(study(ALONE)) == "budget_spent"


def steps(disclosure: Disclosure, answer: int) -> list[int]:
    cells = sorted((c.key, c.value) for c in disclosure.answers[answer].cells)
    return [value.support[0] for key, value in cells if key.variable == "attrition"]


def test_nobody_is_left_out_by_noise_twice(tmp_path: Path, url: str) -> None:
    """With noise wider than the steps, an attrition still falls, to the population's persons."""
    one = guarded(tmp_path, url, NOISY.format(epsilon=0.02, budget=1.0))
    populations = [diabetics(WIDE, f"p{i}", days) for i, days in enumerate((0, 90, 365, 700))]
    disclosure = one.ask(HEAD + "".join(populations) + COUNTS)
    assert disclosure.refusal is None
    for i, answer in enumerate(disclosure.answers):
        left = steps(disclosure, i)
        persons = {
            c.key.strata: c.value.support[0] for c in answer.cells if c.key.variable == "persons"
        }
        assert len(left) > 2
        assert left == sorted(left, reverse=True)
        assert left[-1] == persons[()] >= 0


def told(site: Asked, table: str) -> dict[str, int]:
    """The persons of each ward that are told."""
    population = f'[population]\nkind = "table"\ntable = "{table}"\n'
    (answer,) = site.ask(HEAD + population + COUNTS.replace("sex", "ward")).answers
    assert answer.refusal is None
    return {
        dict(c.key.strata)["ward"]: c.value.support[0]
        for c in answer.cells
        if c.key.strata and c.key.variable == "persons"
    }


@pytest.mark.parametrize("order", [("everybody", "ill"), ("ill", "everybody")])
def test_a_group_with_few_others_is_not_told_beside_everybody(
    tmp_path: Path, url: str, order: tuple[str, str]
) -> None:
    def others(policy: str) -> dict[str, int]:
        (folder := tmp_path / (policy[:3] or "on")).mkdir()
        site = guarded(folder, url, policy)
        first, second = (told(site, table) for table in order)
        return {ward: abs(first[ward] - n) for ward, n in second.items()}

    assert others("overlap = false\n") == {ward: i for i, ward in enumerate("abcdefgh")}
    # One similar group does not take the others along, and one without any difference is told.
    assert others("") == {"a": 0, "f": 5, "g": 6, "h": 7}
