"""The study file: its forms mean the same, its digest is canonical, and its errors name a place."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federated_analytics.errors import StudyError, UnknownAnalysis, UnknownFeature, UnknownStratum
from federated_analytics.study import Study

STUDIES = sorted((Path(__file__).parents[1] / "studies").glob("*.toml"))

FULL = """
[study]
name = "Blood pressure in type 2 diabetes"
description = "By sex and age"

[[population]]
name = "diabetes"
kind = "condition"
concepts = [201826]
exclude = [201254]
occurrence = "any"
washout_days = 30
prior_observation_days = 365
from_date = 2010-01-01
to_date = 2020-12-31
sex = "Female"
min_age = 18
max_age = 90

[[population]]
name = "flat"
kind = "table"
table = "Mixed case table"

[[population]]
name = "kept"
kind = "cohort"
cohort_definition_id = 7

[feature.systolic_bp]
range = [60, 250]
step = 1

[strata.decade]
feature = "age"
breaks = [0, 10, 20, 30]

[[analysis]]
kind = "summary"
title = "Pressures"
populations = ["diabetes", "kept"]
features = ["systolic_bp", "bmi"]
by = ["sex", "decade", "index_year", "site"]
estimates = ["mean", "sd"]

[[analysis]]
kind = "histogram"
populations = ["diabetes"]
features = ["systolic_bp"]
edges = [100, 120, 140]

[[analysis]]
kind = "quantiles"
populations = ["kept"]
features = ["bmi"]
probabilities = [0.025, 0.5]

[[analysis]]
kind = "top_concepts"
populations = ["kept"]
domain = "drug"
top = 7

[[analysis]]
kind = "summary"
populations = ["flat"]
features = ["some column"]
by = ["ward"]
"""


def test_there_are_at_least_six_studies_to_copy() -> None:
    assert len(STUDIES) >= 6


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_every_study_loads_and_means_the_same_in_all_forms(path: Path) -> None:
    same_in_all_forms(Study.load(path))


def test_a_study_with_everything_means_the_same_in_all_forms() -> None:
    same_in_all_forms(Study.parse(FULL))


def same_in_all_forms(study: Study) -> None:
    assert Study.from_json(study.to_json()).to_json() == study.to_json()
    assert Study.from_json(study.to_json(with_source=True)).source == study.source
    assert Study.from_json(study.to_json(with_source=True)).digest == study.digest
    written = study.model_copy(update={"source": ""}).to_toml()
    assert Study.parse(written).to_json() == study.to_json()
    assert Study.parse(written).digest == study.digest


def test_the_source_is_kept_as_it_was_written() -> None:
    text = f"# why we ask\n{FULL}"
    assert Study.parse(text).to_toml() == text


def reordered(value: Any, draw: Any) -> Any:
    """The same data with the keys of every table in another order."""
    if isinstance(value, Mapping):
        keys = draw(st.permutations(list(value)))
        return {key: reordered(value[key], draw) for key in keys}
    if isinstance(value, list):
        return [reordered(item, draw) for item in value]
    return value


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_the_digest_does_not_know_the_order_of_keys(data: st.DataObject) -> None:
    shuffled = reordered(tomllib.loads(FULL), data.draw)
    assert Study.from_data(shuffled).digest == Study.parse(FULL).digest


def test_the_digest_does_not_know_comments_nor_defaults_that_are_written_out() -> None:
    plain = '[study]\nname = "x"\n[[analysis]]\nkind = "counts"\n'
    everyone = '[population]\nkind = "everyone"\n'
    spelt = f'# note\n[study]\nname = "x"\n{everyone}[[analysis]]\nby = []\nkind = "counts"\n'
    assert Study.parse(plain).digest == Study.parse(spelt).digest


CHANGES = [
    ('name = "Blood pressure in type 2 diabetes"', 'name = "Another"'),
    ("[201826]", "[201820]"),
    ("washout_days = 30", "washout_days = 31"),
    ('sex = "Female"', 'sex = "Male"'),
    ("breaks = [0, 10, 20, 30]", "breaks = [0, 10, 20, 31]"),
    ("range = [60, 250]", "range = [60, 251]"),
    ('by = ["sex", "decade"', 'by = ["decade", "sex"'),
    ("top = 7", "top = 8"),
    ('table = "Mixed case table"', 'table = "mixed case table"'),
]


def test_the_digest_knows_every_change_of_meaning() -> None:
    digests = {Study.parse(FULL).digest}
    for old, new in CHANGES:
        assert old in FULL
        digests.add(Study.parse(FULL.replace(old, new)).digest)
    assert len(digests) == len(CHANGES) + 1


ANALYSIS = '[[analysis]]\nkind = "summary"\nfeatures = ["bmi"]\n'
HEAD = '[study]\nname = "x"\n'
WITH_EVENT = '[population]\nkind = "condition"\nconcepts = [201826]\n'

UNKNOWN_KEYS = [
    ("description", f'[study]\nname = "x"\ndescripton = "y"\n{ANALYSIS}', "study.descripton"),
    ("analysis", f"{HEAD}{ANALYSIS}[[analyses]]\nkind = 'counts'\n", "analyses"),
    ("prior_observation_days", f"{HEAD}{WITH_EVENT}prior_observation_day = 3\n{ANALYSIS}",
     "prior_observation_day"),
    ("min_age", f"{HEAD}[population]\nminage = 3\n{ANALYSIS}", "minage"),
    ("cohort_definition_id",
     f"{HEAD}[population]\nkind = 'cohort'\ncohort_definition_id = 1\ncohort_definiton_id = 1\n"
     f"{ANALYSIS}", "cohort_definiton_id"),
    ("file", f"{HEAD}[population]\nkind = 'atlas'\nfiles = 'x'\n{ANALYSIS}", "files"),
    ("table", f"{HEAD}[population]\nkind = 'table'\ntable = 't'\ntabel = 't'\n{ANALYSIS}", "tabel"),
    ("breaks", f'{HEAD}[strata.s]\nfeature = "age"\nbreaks = [0, 5]\nbreak = [5]\n{ANALYSIS}',
     "strata.s.break"),
    ("range", f"{HEAD}[feature.bmi]\nrnge = [10, 20]\n{ANALYSIS}", "feature.bmi.rnge"),
    ("features", f"{HEAD}{ANALYSIS}feature = ['age']\n", "analysis[0].feature"),
    ("estimates", f"{HEAD}{ANALYSIS}estimate = ['mean']\n", "analysis[0].estimate"),
    ("edges", f"{HEAD}{ANALYSIS}[[analysis]]\nkind='histogram'\nfeatures=['bmi']\nedge=[1,2]\n",
     "analysis[1].edge"),
]  # fmt: skip


@pytest.mark.parametrize(("nearest", "text", "place"), UNKNOWN_KEYS, ids=lambda v: v[:24])
def test_an_unknown_key_is_an_error_at_every_level(nearest: str, text: str, place: str) -> None:
    with pytest.raises(StudyError) as caught:
        Study.parse(text)
    error = caught.value
    assert error.where.endswith(place), error.where
    assert repr(nearest) in error.remedy, error
    assert error.code == "invalid_study"


def test_an_unknown_key_without_a_likeness_lists_the_keys() -> None:
    with pytest.raises(StudyError, match="The keys here are: name, description"):
        Study.parse(f'[study]\nname = "x"\nqqqqq = 1\n{ANALYSIS}')


@pytest.mark.parametrize(
    ("kind", "text", "place", "remedy"),
    [
        (UnknownFeature, f"{HEAD}{ANALYSIS.replace('bmi', 'bmmi')}", "bmmi", "'bmi'"),
        (UnknownFeature, f"{HEAD}[strata.s]\nfeature='agee'\nbreaks=[0]\n{ANALYSIS}by=['s']\n",
         "agee", "'age'"),
        (UnknownStratum, f"{HEAD}{ANALYSIS}by = ['sexx']\n", "analysis[0].by[0]", "'sex'"),
        (UnknownStratum, f"{HEAD}{ANALYSIS}by = ['sex', 'bmi']\n", "analysis[0].by[1]",
         "[strata.bmi_group]"),
        (UnknownAnalysis, f"{HEAD}[[analysis]]\nkind = 'sumary'\n", "analysis[0].kind",
         "'summary'"),
        (UnknownAnalysis, f"{HEAD}[[analysis]]\nfeatures = ['bmi']\n", "analysis[0].kind",
         "summary"),
        (StudyError, f"{HEAD}{ANALYSIS}populations = ['everyon']\n", "analysis[0].populations[0]",
         "'everyone'"),
        (StudyError, f"{HEAD}{ANALYSIS}by = ['index_year']\n", "analysis[0].by", "index date"),
        (StudyError, f"{HEAD}{ANALYSIS.replace('bmi', 'sex')}", "analysis[0].features[0]",
         "frequencies"),
        (StudyError, f"{HEAD}[[analysis]]\nkind='frequencies'\nfeatures=['bmi']\n",
         "analysis[0].features[0]", "summary"),
    ],
)  # fmt: skip
def test_an_unknown_name_is_told_with_its_place_and_the_nearest(
    kind: type[StudyError], text: str, place: str, remedy: str
) -> None:
    with pytest.raises(kind) as caught:
        Study.parse(text)
    assert type(caught.value) is kind
    assert place in caught.value.where, caught.value.where
    assert remedy in caught.value.remedy, caught.value.remedy


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"[study]\n{ANALYSIS}", "study.name"),
        (f"[study]\nname = ''\n{ANALYSIS}", "study.name"),
        (f"[study]\nname = 3\n{ANALYSIS}", "study.name"),
        (ANALYSIS, "study"),
        (HEAD, "analysis"),
        (f"{HEAD}analysis = 3\n", "analysis"),
        (f"analysis = []\n{HEAD}", "analysis"),
        (f"population = 3\n{HEAD}{ANALYSIS}", "population"),
        (f"population = []\n{HEAD}{ANALYSIS}", "population"),
        (f"{HEAD}[population]\nkind = 'cohorts'\n{ANALYSIS}", "population"),
        (f"{HEAD}[population]\nkind = 'table'\ntable = ''\n{ANALYSIS}", "population[0].table"),
        (f"{HEAD}[population]\nkind = 'condition'\n{ANALYSIS}", "concepts"),
        (f"{HEAD}[population]\nkind = 'condition'\nconcepts = []\n{ANALYSIS}", "concepts"),
        (f"{HEAD}[population]\nkind = 'condition'\nconcepts = [-1]\n{ANALYSIS}", "concepts[0]"),
        (f"{HEAD}[population]\nkind = 'condition'\nconcepts = ['x']\n{ANALYSIS}", "concepts[0]"),
        (f"{HEAD}[population]\nkind = 'condition'\nconcepts = [{2**40}]\n{ANALYSIS}",
         "concepts[0]"),
        (f"{HEAD}{WITH_EVENT}washout_days = 30\n{ANALYSIS}", "population"),
        (f"{HEAD}{WITH_EVENT}from_date = 'soon'\n{ANALYSIS}", "from_date"),
        (f"{HEAD}{WITH_EVENT}from_date = 2020-01-02\nto_date = 2020-01-01\n{ANALYSIS}",
         "population"),
        (f"{HEAD}{WITH_EVENT}min_age = 40\nmax_age = 30\n{ANALYSIS}", "population"),
        (f"{HEAD}[population]\nsex = 'F'\n{ANALYSIS}", "sex"),
        (f"{HEAD}[population]\nkind = 'cohort'\ncohort_definition_id = -1\n{ANALYSIS}",
         "cohort_definition_id"),
        (f"{HEAD}{ANALYSIS}[strata.s]\nfeature = 'age'\nbreaks = [3, 2]\n", "strata.s.breaks"),
        (f"{HEAD}{ANALYSIS}[strata.s]\nfeature = 'age'\nbreaks = [inf]\n", "strata.s.breaks[0]"),
        (f"{HEAD}{ANALYSIS}[strata.s]\nfeature = 'age'\nbreaks = [nan]\n", "strata.s.breaks[0]"),
        (f"{HEAD}{ANALYSIS}estimates = ['mode']\n", "analysis[0].estimates[0]"),
        (f"{HEAD}[[analysis]]\nkind='top_concepts'\ntop=0\n", "analysis[0].top"),
        (f"{HEAD}[[analysis]]\nkind='top_concepts'\ndomain='drugs'\n", "analysis[0].domain"),
        (f"{HEAD}[[analysis]]\nkind='top_concepts'\nfeatures=['bmi']\n", "analysis[0].features"),
        (f"{HEAD}[[analysis]]\nkind='quantiles'\nfeatures=['bmi']\nprobabilities=[1]\n",
         "analysis[0].probabilities[0]"),
        (f"{HEAD}[[analysis]]\nkind='histogram'\nfeatures=['bmi']\nedges=[1, inf]\n",
         "analysis[0].edges[1]"),
        (f"{HEAD}[[analysis]]\nkind='summary'\nfeatures=[]\n", "analysis[0].features"),
        (f"{HEAD}[population]\nkind='table'\ntable='t'\n[[analysis]]\nkind='top_concepts'\n",
         "analysis[0].kind"),
        (f"{HEAD}[[population]]\n[[population]]\n{ANALYSIS}", "population"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_its_place(text: str, place: str) -> None:
    with pytest.raises(StudyError) as caught:
        Study.parse(text)
    assert place in caught.value.where, caught.value.where
    assert caught.value.message.endswith(".")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"none\.toml") as caught:
        Study.load(tmp_path / "none.toml")
    assert caught.value.remedy


def test_a_cohort_definition_is_read_beside_the_study(tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    definition = json.dumps({"PrimaryCriteria": {"CriteriaList": []}})
    (tmp_path / "phenotype.json").write_text(definition, encoding="utf-8")
    text = f"{HEAD}[population]\nkind = 'atlas'\nfile = 'phenotype.json'\n{ANALYSIS}"
    study.write_text(text, encoding="utf-8")
    assert Study.load(study).population[0].definition == definition  # type: ignore[union-attr]
    study.write_text(text.replace("phenotype", "missing"), encoding="utf-8")
    with pytest.raises(StudyError, match=r"missing\.json") as caught:
        Study.load(study)
    assert caught.value.where == "population.file"


def test_json_reads_no_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text("{}", encoding="utf-8")
    data = {
        "study": {"name": "x"},
        "population": [{"kind": "atlas", "name": "a", "file": str(secret)}],
        "analysis": [{"kind": "counts"}],
    }
    with pytest.raises(StudyError) as caught:
        Study.from_json(json.dumps(data))
    assert caught.value.where.endswith("file")


def test_crossed_strata_need_no_order_of_definition() -> None:
    for by in itertools.permutations(["sex", "age_group", "race"]):
        study = Study.parse(f"{HEAD}{ANALYSIS}by = {list(by)}\n")
        names = [s.name for s in study.strata_of(study.analysis[0], study.population[0])]
        assert names == list(by)


@pytest.mark.parametrize(
    ("kind", "feature", "others"),
    [
        ("summary", "sex", {"frequencies", "linear_regression"}),
        ("frequencies", "bmi", {"summary", "quantiles", "histogram", "linear_regression"}),
        ("summary", "death", {"frequencies", "survival", "linear_regression"}),
    ],
)
def test_a_feature_of_another_type_is_told_where_it_can_be_asked(
    kind: str, feature: str, others: set[str]
) -> None:
    text = f'[study]\nname = "x"\n[[analysis]]\nkind = "{kind}"\nfeatures = ["{feature}"]\n'
    with pytest.raises(StudyError) as caught:
        Study.parse(text)
    named = caught.value.remedy.removeprefix("Use kind = ").split(" for ")[0]
    assert set(named.replace(" or ", ", ").replace('"', "").split(", ")) == others
