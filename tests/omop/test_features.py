"""The catalogue's content against OHDSI's sample vocabularies, and what a study can define."""

from __future__ import annotations

import csv
import io
import zipfile
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_analytics.errors import StudyError, UnknownFeature
from federated_analytics.omop.features import (
    MAX_FINE_BINS,
    catalogue,
    fine_grid,
    public_edges,
    resolve,
    search,
)
from tests.samples import FOLDER, needs_samples

LACTATE = {"domain": "measurement", "type": "numeric", "concepts": [3014111]}


def test_the_catalogue_is_broad_and_says_where_everything_comes_from() -> None:
    features = catalogue()
    assert len(features) >= 65
    assert {f.group for f in features.values()} == {
        *("demographics", "anthropometrics", "vital_signs", "laboratory", "conditions"),
        *("drugs", "utilisation", "death", "lifestyle"),
    }
    for name, feature in features.items():
        assert feature.name == name
        assert feature.source, name
        assert all(c.name for c in (*feature.concepts, *feature.example_descendants)), name
        assert feature.type != "numeric" or feature.range is not None, name


def test_the_catalogue_cannot_be_changed_by_its_readers() -> None:
    with pytest.raises(TypeError):
        catalogue()["age"] = catalogue()["bmi"]  # type: ignore[index]


def test_no_concept_stands_twice_in_a_feature() -> None:
    for feature in catalogue().values():
        ids = [c.id for c in (*feature.concepts, *feature.example_descendants)]
        assert len(ids) == len(set(ids)), feature.name


def _vocabulary() -> dict[int, dict[str, str]]:
    with zipfile.ZipFile(FOLDER / "synthea27nj" / "Synthea27Nj_5.4.zip") as archive:
        text = io.TextIOWrapper(archive.open("CONCEPT.csv"), encoding="utf-8", newline="")
        rows = [{k.lower(): v for k, v in row.items()} for row in csv.DictReader(text)]
    return {int(row["concept_id"]): row for row in rows}


_DOMAINS = {
    "measurement": {"Measurement"},
    "condition": {"Condition"},
    "drug": {"Drug"},
    "procedure": {"Procedure"},
    "observation": {"Observation"},
    "visit": {"Visit"},
    "person": {"Gender"},
}


@needs_samples
def test_concepts_and_units_are_what_a_vocabulary_says() -> None:
    vocabulary, seen = _vocabulary(), 0
    for feature in catalogue().values():
        for concept in (*feature.concepts, *feature.example_descendants):
            row = vocabulary.get(concept.id)
            if row is None:
                continue
            seen += 1
            assert row["concept_name"].lower() == concept.name.lower(), feature.name
            assert row["standard_concept"] == "S", (feature.name, concept)
            assert row["domain_id"] in _DOMAINS[feature.domain], (feature.name, concept)
        units = [u.unit_concept_id for u in feature.units]
        for unit in [*units, *([feature.unit_concept_id] if feature.unit_concept_id else [])]:
            if unit != 8739:  # pound (US) is not in the sample
                assert vocabulary[unit]["vocabulary_id"] == "UCUM", (feature.name, unit)
    assert seen > 130


@pytest.mark.parametrize(
    ("name", "unit_concept_id", "value", "expected"),
    [
        ("hba1c", 9579, 48, 6.54),  # the diagnostic threshold, 6.5 %
        ("hba1c", 9579, 0, 2.152),
        ("glucose", 8753, 7.0, 126.1),  # the diagnostic threshold, 126 mg/dL
        ("total_cholesterol", 8753, 5.0, 193.3),
        ("triglycerides", 8753, 1.7, 150.5),
        ("creatinine", 8749, 88.4, 1.0),
        ("urea_nitrogen", 8753, 5.0, 14.0),
        ("bilirubin", 8749, 17.1, 1.0),
        ("body_temperature", 9289, 98.6, 37.0),
        ("body_temperature", 9289, 32.0, 0.0),
        ("weight", 8739, 220.46, 100.0),
        ("height", 9327, 70, 177.8),
        ("haemoglobin", 8636, 140, 14.0),
        ("haemoglobin", 8753, 8.7, 14.02),
        ("calcium", 8753, 2.5, 10.02),
        ("calcium", 9557, 5.0, 10.02),
        ("urate", 8749, 357, 6.0),
        ("vitamin_d", 8736, 50, 20.03),
        ("urine_albumin_creatinine", 9075, 3.4, 30.06),
        ("systolic_bp", 44777602, 16, 120.0),
        ("alt", 32995, 1, 60),
        ("platelets", 8647, 250_000, 250),
    ],
)
def test_conversions_agree_with_textbook_pairs(
    name: str, unit_concept_id: int, value: float, expected: float
) -> None:
    unit = next(u for u in catalogue()[name].units if u.unit_concept_id == unit_concept_id)
    assert value * unit.factor + unit.offset == pytest.approx(expected, abs=0.06)


def test_public_edges_are_round_and_cover_what_is_drawn() -> None:
    assert public_edges(catalogue()["systolic_bp"])[:4] == [70, 75, 80, 85]
    assert public_edges(catalogue()["hba1c"])[-1] == 15
    assert public_edges(catalogue()["spo2"])[-1] > 100, "100 % is a value that people have"
    assert public_edges(catalogue()["age"], 12) == list(range(0, 131, 10))
    for name, feature in catalogue().items():
        if feature.range is None:
            continue
        edges, drawn = public_edges(feature), feature.histogram or feature.range
        assert 18 <= len(edges) - 1 <= 50, name
        assert edges[0] <= drawn[0], name
        assert edges[-1] >= drawn[1], name


_STEPS = st.sampled_from([0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 5.0, 25.0])


@given(
    low=st.integers(-1000, 1000),
    steps=st.integers(1, 100_000),
    step=_STEPS,
    bins=st.integers(2, 200) | st.none(),
)
def test_grids_hold_every_plausible_value(
    low: int, steps: int, step: float, bins: int | None
) -> None:
    high = round(low + steps * step, 6)
    feature = resolve(["lactate"], {"lactate": {**LACTATE, "range": [low, high], "step": step}})
    edges = public_edges(feature["lactate"], bins)
    widths = {round(b - a, 6) for a, b in pairwise(edges)}
    assert len(widths) == 1
    assert edges[0] <= low
    assert edges[-1] > high
    assert widths.pop() / step == pytest.approx(round((edges[1] - edges[0]) / step))
    start, width, number = fine_grid(feature["lactate"])
    assert (start, number <= MAX_FINE_BINS) == (low, True)
    assert start + (number - 1) * width <= high + 1e-6
    assert start + number * width > high
    assert width / step == pytest.approx(round(width / step))


def test_a_grid_needs_a_range() -> None:
    feature = resolve(["lactate"], {"lactate": LACTATE})["lactate"]
    for grid in (fine_grid, public_edges):
        with pytest.raises(StudyError, match="plausible range") as caught:
            grid(feature)
        assert caught.value.where == "feature.lactate"


def test_resolve_keeps_the_asked_order() -> None:
    assert list(resolve(["hba1c", "age"], {})) == ["hba1c", "age"]
    assert resolve(["age"], {})["age"] is catalogue()["age"]


def test_an_unknown_feature_gets_the_nearest_names() -> None:
    with pytest.raises(UnknownFeature) as caught:
        resolve(["sistolic_bp"], {})
    assert "'systolic_bp'" in caught.value.remedy
    assert caught.value.code == "unknown_feature"
    with pytest.raises(UnknownFeature) as caught:
        resolve(["my_lactat"], {"my_lactate": LACTATE})
    assert "'my_lactate'" in caught.value.remedy
    with pytest.raises(UnknownFeature) as caught:
        resolve(["x" * 10_000], {})
    assert "federated-analytics features" in caught.value.remedy


def test_a_study_changes_a_feature_and_leaves_the_catalogue_alone() -> None:
    changed = resolve(["hba1c"], {"hba1c": {"aggregation": "first", "window": [0, "any"]}})
    assert changed["hba1c"].aggregation == "first"
    assert changed["hba1c"].window == (0, "any")
    assert changed["hba1c"].units == catalogue()["hba1c"].units
    assert catalogue()["hba1c"].aggregation == "latest"


def test_a_new_range_replaces_the_drawn_part() -> None:
    changed = resolve(["hba1c"], {"hba1c": {"range": [4, 10]}})["hba1c"]
    assert changed.histogram is None
    assert public_edges(changed)[0] == 4


def test_a_study_defines_a_feature_with_little_text() -> None:
    defined = resolve(["lactate"], {"lactate": LACTATE})["lactate"]
    assert (defined.label, defined.aggregation, defined.window) == ("Lactate", "latest", (-365, 0))
    assert defined.concepts[0].id == 3014111
    assert not defined.descendants
    stroke = {"domain": "condition", "type": "boolean", "concepts": [{"id": 381316}]}
    defined = resolve(["my_stroke"], {"my_stroke": stroke})["my_stroke"]
    assert (defined.aggregation, defined.window, defined.descendants) == ("any", ("any", 0), True)
    counted = resolve(["visits"], {"visits": {**stroke, "type": "numeric", "domain": "visit"}})
    assert counted["visits"].aggregation == "count"


def test_changing_the_type_changes_what_follows_from_it() -> None:
    changed = resolve(["stroke"], {"stroke": {"type": "numeric"}})["stroke"]
    assert changed.aggregation == "count"


@pytest.mark.parametrize(
    ("definition", "place", "message"),
    [
        ({**LACTATE, "range": [5, 1], "step": 1}, "", "range must rise"),
        ({**LACTATE, "range": [1, 5]}, "", "range and step go together"),
        ({**LACTATE, "range": [1, 5], "step": 0}, ".step", "greater than 0"),
        ({**LACTATE, "range": [1, 5], "step": 9}, "", "wider than range"),
        ({**LACTATE, "range": [1, float("inf")], "step": 1}, ".range.1", "finite"),
        ({**LACTATE, "range": [1, float("nan")], "step": 1}, ".range.1", "finite"),
        ({**LACTATE, "range": [1, 5], "step": 1, "histogram": [0, 5]}, "", "inside range"),
        ({**LACTATE, "histogram": [0, 5]}, "", "needs range"),
        ({**LACTATE, "window": [0, -30]}, "", r"write \[-30, 0\]"),
        ({**LACTATE, "window": ["always", 0]}, ".window", 'number or "any"'),
        ({**LACTATE, "window": [0.5, 9]}, ".window", "whole number"),
        ({**LACTATE, "window": [0]}, ".window", "first, last"),
        ({**LACTATE, "aggregation": "any"}, "", 'type = "boolean"'),
        ({**LACTATE, "aggregation": "median"}, ".aggregation", "latest"),
        ({**LACTATE, "type": "boolean", "aggregation": "mean"}, "", 'aggregation = "any"'),
        ({**LACTATE, "type": "categorical"}, "", "no categories"),
        ({**LACTATE, "domain": "condition", "aggregation": "mean"}, "", 'aggregation = "count"'),
        ({**LACTATE, "domain": "death"}, "", 'takes type = "boolean"'),
        ({**LACTATE, "domain": "lab"}, ".domain", "measurement"),
        ({**LACTATE, "concepts": []}, "", "concepts is empty"),
        ({**LACTATE, "concepts": [-1]}, ".concepts.0.id", "greater than or equal to 1"),
        ({**LACTATE, "concepts": ["3014111; --"]}, ".concepts.0", "Concept"),
        ({**LACTATE, "concepts": [True]}, ".concepts.0", "Concept"),
        ({**LACTATE, "units": [{"unit_concept_id": 8840}]}, "", "needs unit_concept_id"),
        (
            {**LACTATE, "unit_concept_id": 8753, "units": [{"unit_concept_id": 8753}]},
            "",
            "own unit",
        ),
        (
            {**LACTATE, "unit_concept_id": 8753, "units": [{"unit_concept_id": 8840}] * 2},
            "",
            "two conversions of 8840",
        ),
        (
            {
                **LACTATE,
                "unit_concept_id": 8753,
                "units": [{"unit_concept_id": 8840, "factor": 0}],
            },
            ".units.0",
            "factor must not be 0",
        ),
        ({**LACTATE, "agregation": "mean"}, ".agregation", "not a field of a feature"),
        ({"domain": "measurement"}, ".type", "required"),
        ({}, ".domain", "required"),
    ],
)
def test_a_definition_that_contradicts_itself(
    definition: dict[str, object], place: str, message: str
) -> None:
    with pytest.raises(StudyError, match=f"(?i){message}") as caught:
        resolve(["lactate"], {"lactate": definition})
    assert caught.value.where == f"feature.lactate{place}"


def test_a_misspelt_field_gets_the_nearest_one() -> None:
    with pytest.raises(StudyError) as caught:
        resolve(["hba1c"], {"hba1c": {"agregation": "mean"}})
    assert "'aggregation'" in caught.value.remedy


def test_a_bad_name_is_refused() -> None:
    with pytest.raises(StudyError) as caught:
        resolve(["Drop Table"], {"Drop Table": LACTATE})
    assert caught.value.where == "feature.Drop Table.name"


def test_search_knows_both_spellings_and_concept_names() -> None:
    assert [f.name for f in search("hemoglobin")][:1] == ["haemoglobin"]
    assert "hba1c" in {f.name for f in search("HAEMOGLOBIN a1c")}
    assert {f.name for f in search("simvastatin")} == {"statins"}
    assert {f.name for f in search("3004249")} == {"systolic_bp"}
    assert search("no such thing") == []
    assert len(search("")) == len(catalogue())
