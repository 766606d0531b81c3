"""OHDSI's two sample databases, split over sites, where they are at hand."""

from __future__ import annotations

import gzip
import json

import pandas as pd
import pytest

from federated_analytics.omop.database import database_url
from federated_analytics.omop.tables import Cdm
from federated_analytics.site import Site
from tests.samples import FOLDER, load_gibleed, load_synthea, needs_samples
from tests.sites import OPEN, ask, values

pytestmark = needs_samples


def _sites(url: str, name: str, count: int) -> list[Site]:
    schemas = [f"{name}_{count}_{i}" for i in range(count)]
    loader = load_gibleed if name == "gibleed" else load_synthea
    for i, schema in enumerate(schemas):
        loader(url, (i, count), schema=schema)
    return [Site(database_url(url), OPEN, Cdm(s), name=s) for s in schemas]


@pytest.fixture(scope="module")
def gibleed(database: str) -> list[Site]:
    return _sites(database, "gibleed", 2)


@pytest.fixture(scope="module")
def synthea(database: str) -> list[Site]:
    return _sites(database, "synthea", 3)


def test_all_persons_are_counted_once(gibleed: list[Site], synthea: list[Site]) -> None:
    study = '[study]\nname = "x"\n[[analysis]]\nkind = "counts"\nby = ["sex"]\n'
    for sites, persons in ((gibleed, 2_694), (synthea, 28)):
        found = values(ask(study, sites))
        assert found["counts", "everyone", "", "persons", "", "count"] == str(persons)
        by_sex = [int(v) for k, v in found.items() if k[2].startswith("sex=") and k[5] == "count"]
        assert sum(by_sex) == persons


@pytest.mark.parametrize(("cohort", "persons"), [(1184, 2_630), (1285, 2_543)])
def test_atlas_cohorts_have_their_published_sizes(
    gibleed: list[Site], cohort: int, persons: int
) -> None:
    definition = (FOLDER / "cohorts" / f"{cohort}.json").read_text()
    study = (
        '[study]\nname = "x"\n[population]\nkind = "atlas"\n'
        f"definition = {json.dumps(definition)}\n"
        '[[analysis]]\nkind = "counts"\n'
    )
    found = values(ask(study, gibleed))
    assert found["counts", "population", "", "persons", "", "count"] == str(persons)


def test_top_concepts_equal_the_files(gibleed: list[Site]) -> None:
    study = '[study]\nname = "x"\n[[analysis]]\nkind = "top_concepts"\ntop = 10\n'
    found = values(ask(study, gibleed))
    counts = {int(k[4]): int(v) for k, v in found.items() if k[5] == "count"}
    with gzip.open(FOLDER / "gibleed" / "condition_occurrence.csv.gz", "rt") as file:
        table = pd.read_csv(file)
    table.columns = table.columns.str.lower()
    expected = table.groupby("condition_concept_id").person_id.nunique()
    expected = expected[expected.index != 0].sort_values(ascending=False)
    assert sorted(counts.values(), reverse=True) == expected.head(10).tolist()
    assert all(expected[concept] == n for concept, n in counts.items())


def test_blood_pressure_equals_the_files(synthea: list[Site]) -> None:
    import io
    import zipfile

    study = '[study]\nname = "x"\n[[analysis]]\nkind = "summary"\nfeatures = ["systolic_bp"]\n'
    found = values(ask(study, synthea))
    archive = zipfile.ZipFile(next((FOLDER / "synthea27nj").glob("*.zip")))
    name = next(
        n for n in archive.namelist() if n.lower().endswith("measurement.csv") and "._" not in n
    )
    table = pd.read_csv(io.BytesIO(archive.read(name)), low_memory=False)
    table.columns = table.columns.str.lower()
    mine = table[(table.measurement_concept_id == 3004249) & table.value_as_number.notna()]
    mine = mine.sort_values(["measurement_date", "measurement_id"])
    last = mine.groupby("person_id").value_as_number.last()
    key = ("summary", "everyone", "", "systolic_bp", "")
    assert int(found[(*key, "count")]) == len(last) == 28
    assert float(found[(*key, "mean")]) == pytest.approx(last.mean(), rel=1e-12)
    assert float(found[(*key, "sd")]) == pytest.approx(last.std(), rel=1e-12)
    assert int(found[(*key, "count_records")]) == len(mine) == 726
