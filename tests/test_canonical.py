"""R8: questions that mean the same have one form, and no others do."""

from __future__ import annotations

import ast
import copy
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from federated_analytics import canonical as module
from federated_analytics.analyses.base import FeatureQuery, analyses
from federated_analytics.canonical import (
    canonical,
    feature_key,
    question_key,
    questions,
    variables,
)
from federated_analytics.omop.feature import Feature
from federated_analytics.omop.features import catalogue
from federated_analytics.study import Study

STUDIES = Path(__file__).parents[1] / "studies"
Data = dict[str, Any]

GLUCOSE = {
    "domain": "measurement",
    "type": "numeric",
    "concepts": [3004501, 3000483],
    "unit_concept_id": 8840,
    "units": [
        {"unit_concept_id": 8753, "factor": 18.0},
        {"unit_concept_id": 8751, "factor": 0.1, "offset": 0.0},
    ],
    "range": [20, 600],
    "step": 1,
}
BASE: Data = {
    "study": {"name": "Before"},
    "population": [
        {"kind": "everyone", "name": "all"},
        {
            "kind": "condition",
            "name": "diabetes",
            "concepts": [201826, 201254, 443238],
            "exclude": [4058243, 195771],
            "prior_observation_days": 365,
        },
    ],
    "feature": {"glucose": GLUCOSE},
    "strata": {"age_band": {"feature": "age", "breaks": [0, 20, 40, 60, 80]}},
    "analysis": [
        {"kind": "counts", "by": ["sex", "age_band"]},
        {"kind": "summary", "features": ["bmi", "glucose", "age"], "by": ["sex", "age_band"]},
        {"kind": "histogram", "features": ["glucose"], "populations": ["diabetes"]},
        {"kind": "quantiles", "features": ["bmi"], "by": ["sex"]},
        {"kind": "frequencies", "features": ["sex", "metformin"]},
        {"kind": "top_concepts", "domain": "drug", "populations": ["all"]},
        {"kind": "linear_regression", "outcome": "bmi", "features": ["age", "sex", "glucose"]},
    ],
}


def form(data: Data, **options: Any) -> str:
    return canonical(Study.from_data(data), **options)


def renamed(data: Any, old: str, new: str) -> Any:
    """Everything called `old` is called `new`."""
    if isinstance(data, dict):
        return {new if k == old else k: renamed(v, old, new) for k, v in data.items()}
    if isinstance(data, list):
        return [renamed(v, old, new) for v in data]
    return new if data == old else data


ORDERED = ("breaks", "range", "edges", "probabilities", "window")


def shuffled(data: Any, chance: Any) -> Any:
    """The same with every list in another order that means the same."""
    if isinstance(data, list):
        items = [shuffled(item, chance) for item in data]
        chance.shuffle(items)
        return items
    if isinstance(data, dict):
        return {k: v if k in ORDERED else shuffled(v, chance) for k, v in data.items()}
    return data


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False))
def test_order_makes_no_difference(chance: Any) -> None:
    assert form(shuffled(BASE, chance)) == form(BASE)


NEW = st.from_regex(r"q[a-z]{3,9}", fullmatch=True)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["glucose", "age_band", "all", "diabetes", "Before"]), NEW)
def test_names_make_no_difference(old: str, new: str) -> None:
    assert form(renamed(BASE, old, new)) == form(BASE)


def edited(edit: Callable[[Data], object]) -> Data:
    data = copy.deepcopy(BASE)
    edit(data)
    return data


def _diabetes(data: Data) -> Data:
    found: Data = data["population"][1]
    return found


def _own_bmi(data: Data) -> None:
    """A catalogue feature written out under another name."""
    definition = catalogue()["bmi"].model_dump(mode="json", exclude={"name", "label", "source"})
    data["analysis"] = renamed(data["analysis"], "bmi", "mass")
    data["feature"]["mass"] = {**definition, "label": "Mass"}


def _split(data: Data) -> None:
    """One analysis of three features in two populations as six."""
    asked = data["analysis"].pop(1)
    data["analysis"] += [
        {**asked, "features": [feature], "populations": [population]}
        for feature in asked["features"]
        for population in ("all", "diabetes")
    ]


SAME: dict[str, Callable[[Data], object]] = {
    "study text": lambda d: d["study"].update(name="After", description="Of something else"),
    "title": lambda d: d["analysis"][0].update(title="Another"),
    "prior 0": lambda d: d["population"][0].update(sex=None),
    "washout 0": lambda d: _diabetes(d).update(washout_days=0, occurrence="first"),
    "duplicates": lambda d: _diabetes(d)["concepts"].append(201826),
    "descendants": lambda d: _diabetes(d).update(descendants=True),
    "feature label": lambda d: d["feature"]["glucose"].update(label="G", group="laboratory"),
    "feature defaults": lambda d: d["feature"]["glucose"].update(
        aggregation="latest", window=[-365, 0], descendants=False, unit="mg/dL", source="here"
    ),
    "concept names": lambda d: d["feature"]["glucose"].update(
        concepts=[{"id": 3000483, "name": "Glucose"}, 3004501, 3004501]
    ),
    "default breaks": lambda d: d.update(analysis=renamed(d["analysis"], "age_band", "age_group")),
    "catalogue feature": _own_bmi,
    "unused": lambda d: (
        d["feature"].update(other={"domain": "condition", "type": "boolean", "concepts": [1]}),
        d["strata"].update(other={"feature": "bmi", "breaks": [30]}),
    ),
    "shown": lambda d: (
        d["analysis"][1].update(estimates=["mean"]),
        d["analysis"][3].update(probabilities=[0.5]),
        d["analysis"][5].update(top=7),
    ),
    "site": lambda d: d["analysis"][0]["by"].append("site"),
    "bins": lambda d: d["analysis"][2].update(bins=30),
    "named populations": lambda d: d["analysis"][0].update(populations=["diabetes", "all"]),
    "asked twice": lambda d: d["analysis"].append(d["analysis"][0]),
    "split": _split,
    "outcome among features": lambda d: d["analysis"][6].update(
        features=["bmi", "glucose", "sex", "age"]
    ),
}
OTHER: dict[str, Callable[[Data], object]] = {
    "concept": lambda d: _diabetes(d)["concepts"].append(4000),
    "exclude": lambda d: _diabetes(d)["exclude"].pop(),
    "no descendants": lambda d: _diabetes(d).update(descendants=False),
    "kind": lambda d: _diabetes(d).update(kind="drug"),
    "prior": lambda d: _diabetes(d).update(prior_observation_days=364),
    "occurrence": lambda d: _diabetes(d).update(occurrence="any"),
    "washout": lambda d: _diabetes(d).update(occurrence="any", washout_days=1),
    "sex": lambda d: d["population"][0].update(sex="Female"),
    "age": lambda d: d["population"][0].update(min_age=0),
    "dates": lambda d: _diabetes(d).update(from_date="2020-01-01"),
    "population": lambda d: d["population"].pop(0) and d["analysis"].pop(5),
    "stratum": lambda d: d["analysis"][0]["by"].pop(),
    "breaks": lambda d: d["strata"]["age_band"].update(breaks=[0, 20, 40, 60, 81]),
    "stratum feature": lambda d: d["strata"]["age_band"].update(feature="bmi"),
    "analysis": lambda d: d["analysis"].pop(),
    "feature": lambda d: d["analysis"][1]["features"].append("height"),
    "domain": lambda d: d["analysis"][5].update(domain="condition"),
    "edges": lambda d: d["analysis"][2].update(edges=[20, 100, 200, 600]),
    "many bins": lambda d: d["analysis"][2].update(bins=100),
    "outcome": lambda d: d["analysis"][6].update(outcome="glucose", features=["age", "sex", "bmi"]),
    "covariate": lambda d: d["analysis"][6]["features"].pop(),
    "reference": lambda d: d["analysis"][6].update(levels={"sex": ["Male", "Female"]}),
    **{
        f"glucose {name}": lambda d, name=name, value=value: d["feature"]["glucose"].update(  # type: ignore[misc]
            {name: value}
        )
        for name, value in {
            "concepts": [3004501],
            "window": [-364, 0],
            "range": [20, 601],
            "step": 2,
            "histogram": [20, 300],
            "aggregation": "mean",
            "descendants": True,
            "unit_concept_id": 9999,
            "units": [{"unit_concept_id": 8753, "factor": 18.5}],
            "domain": "observation",
        }.items()
    },
}


@pytest.mark.parametrize("name", SAME)
def test_what_means_the_same_has_one_form(name: str) -> None:
    data = edited(SAME[name])
    assert data != BASE
    assert form(data) == form(BASE)


@pytest.mark.parametrize("name", OTHER)
def test_what_means_something_else_has_another(name: str) -> None:
    assert form(edited(OTHER[name])) != form(BASE)


def test_no_two_changes_give_the_same_form() -> None:
    forms = [form(edited(edit)) for edit in OTHER.values()]
    assert len(set(forms)) == len(forms)


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda p: p.stem)
def test_every_study_keeps_its_form_over_the_wire(path: Path) -> None:
    study = Study.load(path)
    assert canonical(Study.from_json(study.to_json())) == canonical(study)
    assert json.loads(canonical(study))
    assert len({q.text for q in questions(study)}) == len(questions(study))


def test_a_split_study_has_the_same_keys() -> None:
    whole = Study.from_data(BASE)
    parts = [
        Study.from_data({**BASE, "analysis": [{**a, "populations": [p]}]})
        for a in BASE["analysis"]
        for p in a.get("populations", ["all", "diabetes"])
    ]
    keys = {q.key("v1") for part in parts for q in questions(part)}
    assert keys == {q.key("v1") for q in questions(whole)}
    assert not keys & {q.key("v2") for q in questions(whole)}


def test_the_key_of_a_query_is_that_of_its_questions() -> None:
    study = Study.from_data(BASE)
    other = Study.from_data(renamed(edited(SAME["feature label"]), "glucose", "sugar"))
    for mine, theirs in zip(study.analysis, other.analysis, strict=True):
        for p, q in zip(study.populations_of(mine), other.populations_of(theirs), strict=True):
            key = question_key(study, mine, p, "v1")
            assert key == question_key(other, theirs, q, "v1")
            assert key != question_key(study, mine, p, "v2")


def test_a_question_says_where_it_stands_and_what_it_is_called() -> None:
    study = Study.from_data(BASE)
    found = [q for q in questions(study) if q.analysis == 1 and q.population == "all"]
    assert [q.features for q in found] == [("bmi",), ("glucose",), ("age",)]
    assert {frozenset(q.by) for q in found} == {frozenset({"sex", "age_band"})}
    together = [q for q in questions(study) if q.analysis == 6]
    assert [set(q.features) for q in together] == [{"age", "sex", "glucose", "bmi"}] * 2


def test_variables_are_definitions_and_always_the_persons() -> None:
    study = Study.from_data(renamed(BASE, "glucose", "sugar"))
    sugar = next(q for q in questions(study) if q.features == ("sugar",) and q.by)
    glucose = next(q for q in questions(Study.from_data(BASE)) if q.features == ("glucose",))
    assert variables(sugar) == variables(glucose)
    counts = questions(study)[0]
    assert "persons" in variables(counts) & variables(sugar)
    assert feature_key(catalogue()["sex"]) in variables(counts)
    assert feature_key(catalogue()["height"]) not in variables(sugar)


def test_windows_do_not_count_where_there_is_no_index_date() -> None:
    near, far = (catalogue()["bmi"].model_copy(update={"window": w}) for w in ((-9, 0), (-8, 0)))
    assert feature_key(near) != feature_key(far)
    assert feature_key(near, indexed=False) == feature_key(far, indexed=False)


def test_the_vocabulary_tells_what_an_exclusion_does() -> None:
    def expand(concepts: frozenset[int]) -> frozenset[int]:
        return concepts | ({11, 12} if 10 in concepts else set())

    def condition(**fields: Any) -> Data:
        population = {"kind": "condition", **fields}
        return {"study": BASE["study"], "population": population, "analysis": [{"kind": "counts"}]}

    plain = condition(concepts=[10])
    listed = condition(concepts=[12, 10])
    unrelated = condition(concepts=[10], exclude=[99])
    exact = condition(concepts=[10, 11, 12], descendants=False)
    less = condition(concepts=[10], exclude=[11])
    assert len({form(d) for d in (plain, listed, unrelated, exact, less)}) == 5
    assert len({form(d, expand=expand) for d in (plain, listed, unrelated, exact)}) == 1
    assert form(less, expand=expand) != form(plain, expand=expand)


@pytest.mark.parametrize("descendants", [True, False])
def test_an_included_concept_that_is_excluded_is_not_included(descendants: bool) -> None:
    def population(concepts: list[int], exclude: list[int]) -> str:
        fields = {"concepts": concepts, "exclude": exclude, "descendants": descendants}
        data = edited(lambda d: _diabetes(d).update(fields))
        return form(data)

    assert population([1, 2], [2]) == population([1, 2, 2], [2, 2])
    assert (population([1, 2], [2]) == population([1], [])) is not descendants
    assert population([2], [2]) == population([3], [3, 4])


def test_descriptions_in_an_atlas_definition_do_not_count() -> None:
    path = STUDIES / "phenotypes" / "type_2_diabetes.json"
    definition = json.loads(path.read_text())

    def asked(changed: Any) -> str:
        population = {"kind": "atlas", "file": "x.json", "definition": json.dumps(changed)}
        analysis = [{"kind": "counts"}]
        return form({"study": BASE["study"], "population": population, "analysis": analysis})

    before = asked(definition)
    text = json.dumps(definition)
    definition["ConceptSets"][0]["name"] = "Called otherwise"
    assert asked(definition) == before
    definition["ConceptSets"][0]["expression"]["items"][0]["concept"]["CONCEPT_ID"] += 1
    assert asked(definition) != before
    assert asked(json.loads(text)) == before


class _Listed(FeatureQuery):
    kind: Literal["listed"] = "listed"
    words: tuple[str, ...] = Field(default=(), json_schema_extra={"canonical": "set"})
    ordered: tuple[str, ...] = ()
    decimals: int = Field(default=2, json_schema_extra={"canonical": "shown"})


def test_a_query_declares_what_order_means() -> None:
    def fields(**given: Any) -> Data:
        query = _Listed(features=("bmi",), **given)
        return module._fields_form(query, {"bmi": "key"}, {"bmi": catalogue()["bmi"]})

    assert fields(words=("a", "b")) == fields(words=("b", "a", "b"))
    assert fields(words=("a",)) != fields(words=("b",))
    assert fields(ordered=("a", "b")) != fields(ordered=("b", "a"))
    assert fields(decimals=3) == fields(decimals=4) == fields()


@pytest.mark.parametrize("kind", analyses())
def test_what_is_taken_for_shown_is_read_by_the_report_alone(kind: str) -> None:
    source = inspect.getsource(sys.modules[type(analyses()[kind]).__module__])
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef) and function.name != "finalize":
            read = {
                node.attr
                for node in ast.walk(function)
                if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "query"
            }
            assert not read & module._SHOWN, function.name


def test_every_field_of_a_feature_is_in_its_key_or_known_to_make_no_difference() -> None:
    text = {"label", "group", "source", "unit", "example_descendants"}
    form = module._feature_form(Feature.model_validate({"name": "g", **GLUCOSE}), True, None)
    # `name` is the definition of a column of `person`; the unit's concept is kept as `unit`.
    assert set(Feature.model_fields) - text - {"name"} - set(form) == {
        "unit_concept_id",
        "descendants",
    }
    assert form["concepts"]["descendants"] is False
