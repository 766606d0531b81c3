"""The run-config: what its keys ask for; a wrong value is told before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from federated_analytics.errors import FederatedAnalyticsError
from federated_analytics.federation import Terms
from federated_analytics.run_config import SUMMARY, study_from
from federated_analytics.study import Study

ROOT = Path(__file__).parents[1]


def made(**keys: Any) -> Study:
    """The study of a run-config whose keys are written with underscores."""
    return study_from({name.replace("_", "-"): value for name, value in keys.items()}, ROOT)


def asked(study: Study) -> dict[str, dict[str, Any]]:
    """The analyses by kind, as plain data."""
    return {query.kind: query.model_dump() for query in study.analysis}


def test_nothing_said_asks_for_the_default_features() -> None:
    study = made()
    assert asked(study).keys() == {"summary"}
    assert study.analysis[0].features == ("age", "bmi", "systolic_bp", "diastolic_bp", "hba1c")
    assert asked(study)["summary"]["estimates"] == ("mean", "sd", "count")
    assert study.population[0].kind == "everyone"


def test_selected_features_are_asked_for_in_their_order() -> None:
    study = made(selected_features=" bmi, age ,")
    assert study.analysis[0].features == ("bmi", "age")


def test_numbers_and_categories_are_asked_for_by_their_own_analyses() -> None:
    study = made(selected_features="sex,age,hypertension,bmi", feature_aggregation="mean,median")
    found = asked(study)
    assert found.keys() == {"summary", "quantiles", "frequencies"}
    assert found["summary"]["features"] == found["quantiles"]["features"] == ("age", "bmi")
    assert found["frequencies"]["features"] == ("sex", "hypertension")


def test_categories_alone_make_frequencies_whatever_the_aggregation() -> None:
    assert asked(made(selected_features="sex")).keys() == {"frequencies"}


@pytest.mark.parametrize(("name", "estimate"), SUMMARY.items())
def test_each_aggregation_is_an_estimate_of_the_summary(name: str, estimate: str) -> None:
    study = made(selected_features="bmi", feature_aggregation=name)
    assert asked(study)["summary"]["estimates"] == (estimate,)


@pytest.mark.parametrize("kind", ["quantiles", "histogram", "summary"])
def test_an_aggregation_may_be_an_analysis(kind: str) -> None:
    found = asked(made(selected_features="bmi", feature_aggregation=f"{kind},mean"))
    assert found.keys() == {kind, "summary"}
    assert found["summary"]["estimates"] == (() if kind == "summary" else ("mean",))


def test_strata_go_to_every_analysis() -> None:
    study = made(
        selected_features="bmi,hypertension",
        feature_aggregation="mean,median,histogram",
        by="sex, age_group",
    )
    assert len(study.analysis) == 4
    assert {query.by for query in study.analysis} == {("sex", "age_group")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {"kind": "everyone"}),
        ("everyone", {"kind": "everyone"}),
        ("condition:201826", {"kind": "condition", "concepts": (201826,)}),
        ("drug:1503297+1539403", {"kind": "drug", "concepts": (1503297, 1539403)}),
        ("measurement: 3004410 ", {"kind": "measurement", "concepts": (3004410,)}),
        ("cohort:7", {"kind": "cohort", "cohort_definition_id": 7}),
    ],
)
def test_the_population(text: str, expected: dict[str, Any]) -> None:
    population = made(population=text).population[0].model_dump()
    assert {key: population[key] for key in expected} == expected


def test_a_table_name_makes_its_columns_the_features() -> None:
    study = made(table_name="person_features", selected_features="age,Weird column", by="ward")
    assert study.population[0].model_dump() == {
        "kind": "table",
        "name": "table",
        "table": "person_features",
    }
    assert study.analysis[0].features == ("age", "Weird column")
    assert study.analysis[0].by == ("ward",)


def test_a_study_of_the_app_and_a_study_in_json() -> None:
    study = made(study="studies/demo.toml")
    assert study.digest == Study.load(ROOT / "studies" / "demo.toml").digest
    assert made(study_json=study.to_json()).digest == study.digest


WRONG: list[tuple[dict[str, Any], str, str, str]] = [
    ({"selected_features": "agee"}, "unknown_feature", "agee", "'age'"),
    ({"selected_features": "age,bmii"}, "unknown_feature", "bmii", "'bmi'"),
    ({"selected_features": 3}, "invalid_config", "selected-features", "quotes"),
    ({"feature_aggregation": "meen"}, "invalid_config", "feature-aggregation", "'mean'"),
    ({"feature_aggregation": "mode"}, "invalid_config", "feature-aggregation", ""),
    ({"selected_features": "bmi", "feature_aggregation": "frequencies"}, "invalid_config",
     "feature-aggregation", "numbers"),
    ({"by": "sexx"}, "unknown_stratum", "by[0]", "'sex'"),
    ({"by": "bmi"}, "unknown_stratum", "by[0]", "breaks"),
    ({"by": "index_year"}, "invalid_study", "by", "index date"),
    ({"population": "diabetes"}, "invalid_config", "population", "condition:201826"),
    ({"population": "condition"}, "invalid_config", "population", "condition:201826"),
    ({"population": "condition:"}, "invalid_config", "population", "condition:201826"),
    ({"population": "condition:x"}, "invalid_config", "population", "condition:201826"),
    ({"population": "condition:0"}, "invalid_study", "concepts[0]", ""),
    ({"population": f"condition:{10**30}"}, "invalid_study", "concepts[0]", ""),
    ({"population": "cohort:1+2"}, "invalid_config", "population", "cohort:ID"),
    ({"population": "condition:²"}, "invalid_config", "population", "condition:201826"),
    ({"population": "everyone:1"}, "invalid_config", "population", "everyone"),
    ({"table_name": "t", "population": "everyone"}, "invalid_config", "run-config",
     "leave `population` out"),
    ({"table_name": "x" * 64}, "invalid_study", "table", ""),
    ({"study": "studies/demo.toml", "study_json": "{}"}, "invalid_config", "run-config", "one"),
    ({"study": "studies/demo.toml", "by": "sex"}, "invalid_config", "run-config", "study file"),
    ({"study_json": "{}", "table_name": "t"}, "invalid_config", "run-config", "study file"),
    ({"study_json": "{}"}, "invalid_study", "study-json", ""),
    ({"study_json": "[]"}, "invalid_study", "study-json", ""),
    ({"study_json": "{"}, "invalid_study", "study-json", ""),
    ({"study": "studies/none.toml"}, "invalid_study", "none.toml", "TOML"),
    ({"study": "../outside.toml"}, "invalid_config", "study", "relative"),
    ({"study": "/etc/passwd"}, "invalid_config", "study", "relative"),
    ({"study": "studies/\x00.toml"}, "invalid_config", "study", "relative"),
    ({"study": "x" * 5_000}, "invalid_study", "x", "TOML"),
    ({"study": True}, "invalid_config", "study", "quotes"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "code", "place", "remedy"), WRONG, ids=lambda v: str(v)[:50])
def test_a_wrong_value_is_told_with_its_key(
    keys: dict[str, Any], code: str, place: str, remedy: str
) -> None:
    with pytest.raises(FederatedAnalyticsError) as caught:
        made(**keys)
    error = caught.value
    assert error.code == code, error
    assert place in error.where, error.where
    assert remedy in error.remedy, error.remedy
    assert len(str(error)) < 1_000


def test_a_selection_of_everything_is_one_study() -> None:
    text = json.loads(made(selected_features="age,bmi,sex", by="sex").to_json())
    assert text["study"]["name"] == "Selected features: age, bmi, sex"


def test_very_many_selected_features_still_have_a_name() -> None:
    from federated_analytics.omop.features import catalogue

    study = made(selected_features=",".join(catalogue()))
    assert len(study.study.name) <= 200


def test_a_megabyte_of_features_is_refused_at_once() -> None:
    with pytest.raises(FederatedAnalyticsError) as caught:
        made(selected_features="a" * 1_000_000)
    assert len(str(caught.value)) < 1_000


def test_terms() -> None:
    assert Terms.from_run_config({}) == Terms(2, 300)
    assert Terms.from_run_config({"min-sites": 3, "deadline-seconds": 60}) == Terms(3, 60)


@pytest.mark.parametrize("key", ["min-sites", "deadline-seconds"])
@pytest.mark.parametrize("value", [0, -1, 10**9, True, "3", 2.5, None])
def test_terms_outside_their_bounds_are_refused(key: str, value: object) -> None:
    with pytest.raises(FederatedAnalyticsError) as caught:
        Terms.from_run_config({key: value})
    assert caught.value.code == "invalid_config"
    assert caught.value.where == f"run-config: {key}"
    assert f"Write {key}=" in caught.value.remedy
