"""Whether an epidemiologist would believe the synthetic data."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from federated_analytics.databases.treatments import TREATMENTS
from federated_analytics.databases.vocabulary import catalogue_entries
from tests.databases.rows import one

pytestmark = pytest.mark.xdist_group("databases")

EVENTS = {
    "visit_occurrence": ("visit_start_date", "visit_end_date"),
    "condition_occurrence": ("condition_start_date",),
    "drug_exposure": ("drug_exposure_start_date", "drug_exposure_end_date"),
    "procedure_occurrence": ("procedure_date",),
    "measurement": ("measurement_date",),
    "observation": ("observation_date",),
}
SCHEMAS = ("site_0", "site_1")
SBP, DBP, BMI, HBA1C, LDL = 3004249, 3012888, 3038553, 3004410, 3028437
CHOLESTEROL, HEIGHT, WEIGHT = 3027114, 3036277, 3025315
DIABETES, METFORMIN = 201826, 1503297


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("table", EVENTS)
def test_nothing_happens_outside_observation_or_after_death(
    hospitals: psycopg.Connection[Any], schema: str, table: str
) -> None:
    for column in EVENTS[table]:
        outside = one(
            hospitals,
            schema,
            f"SELECT count(*) FROM {table} JOIN observation_period o USING (person_id) "
            f"WHERE {column} NOT BETWEEN o.observation_period_start_date "
            "AND o.observation_period_end_date",
        )
        after = one(
            hospitals,
            schema,
            f"SELECT count(*) FROM {table} JOIN death USING (person_id) "
            f"WHERE {column} > death_date",
        )
        assert (outside, after) == ((0,), (0,))


@pytest.mark.parametrize("schema", SCHEMAS)
def test_events_stand_in_visits_of_the_same_person_and_day(
    hospitals: psycopg.Connection[Any], schema: str
) -> None:
    for table, column in (
        ("condition_occurrence", "condition_start_date"),
        ("measurement", "measurement_date"),
    ):
        lost = one(
            hospitals,
            schema,
            f"SELECT count(*) FROM {table} e LEFT JOIN visit_occurrence v "
            "USING (visit_occurrence_id) WHERE v.person_id IS DISTINCT FROM e.person_id "
            f"OR v.visit_start_date <> {column}",
        )
        assert lost == (0,), table


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("treatment", TREATMENTS, ids=lambda t: t.feature)
def test_treatment_follows_a_diagnosis(
    hospitals: psycopg.Connection[Any], schema: str, treatment: Any
) -> None:
    entries = catalogue_entries()
    drugs = [c["id"] for c in entries[treatment.feature]["concepts"]]
    diseases = [c["id"] for d in treatment.indications for c in entries[d]["concepts"]]
    early, all_of_them = one(
        hospitals,
        schema,
        f"""
        WITH taken AS (
            SELECT person_id, min(drug_exposure_start_date) AS start
            FROM drug_exposure JOIN concept_ancestor ON descendant_concept_id = drug_concept_id
            WHERE ancestor_concept_id = ANY(ARRAY{drugs}) GROUP BY 1
        ), known AS (
            SELECT person_id, min(condition_start_date) AS day
            FROM condition_occurrence
            JOIN concept_ancestor ON descendant_concept_id = condition_concept_id
            WHERE ancestor_concept_id = ANY(ARRAY{diseases}) GROUP BY 1
        )
        SELECT count(*) FILTER (WHERE day IS NULL OR start < day), count(*)
        FROM taken LEFT JOIN known USING (person_id)
        """,
    )
    assert all_of_them > 0
    assert early == 0


@pytest.mark.parametrize("schema", SCHEMAS)
def test_measurements_hang_together(hospitals: psycopg.Connection[Any], schema: str) -> None:
    bmi_sbp, age_sbp, sbp_dbp, bmi_hba1c, age = one(
        hospitals,
        schema,
        "SELECT corr(bmi, systolic_bp), corr(age, systolic_bp), corr(systolic_bp, diastolic_bp), "
        "corr(bmi, hba1c), avg(age) FROM person_summary",
    )
    assert 0.12 < bmi_sbp < 0.45
    assert 0.3 < age_sbp < 0.7
    assert 0.5 < sbp_dbp < 0.85
    assert 0.1 < bmi_hba1c < 0.5
    assert 40 < age < 70


def test_weight_is_bmi_times_height_squared(hospitals: psycopg.Connection[Any]) -> None:
    (difference,) = one(
        hospitals,
        "site_0",
        f"""
        SELECT percentile_cont(0.95) WITHIN GROUP (
            ORDER BY abs(w.value_as_number - b.value_as_number * (h.value_as_number / 100) ^ 2))
        FROM measurement w JOIN measurement b USING (person_id, measurement_date)
        JOIN measurement h USING (person_id)
        WHERE w.measurement_concept_id = {WEIGHT} AND b.measurement_concept_id = {BMI}
        AND h.measurement_concept_id = {HEIGHT} AND b.value_as_number BETWEEN 10 AND 90
        """,
    )
    assert float(difference) < 1.5  # rounding, and a little height lost between the two days


def test_hba1c_is_higher_with_diabetes_and_falls_with_metformin(
    hospitals: psycopg.Connection[Any],
) -> None:
    without, before, after = one(
        hospitals,
        "site_0",
        f"""
        WITH taken AS (
            SELECT person_id, min(drug_exposure_start_date) AS start
            FROM drug_exposure JOIN concept_ancestor ON descendant_concept_id = drug_concept_id
            WHERE ancestor_concept_id = {METFORMIN} GROUP BY 1
        ), diabetic AS (
            SELECT DISTINCT person_id FROM condition_occurrence
            JOIN concept_ancestor ON descendant_concept_id = condition_concept_id
            WHERE ancestor_concept_id = {DIABETES}
        )
        SELECT avg(value_as_number) FILTER (WHERE d.person_id IS NULL),
            avg(value_as_number) FILTER (WHERE measurement_date BETWEEN start - 180 AND start),
            avg(value_as_number) FILTER (WHERE measurement_date > start + 120)
        FROM measurement LEFT JOIN diabetic d USING (person_id) LEFT JOIN taken USING (person_id)
        WHERE measurement_concept_id = {HBA1C} AND value_as_number > 0
        """,
    )
    assert without < 6
    assert float(before) > float(without) + 1
    assert float(after) < float(before) - 0.2


def test_statins_lower_ldl(hospitals: psycopg.Connection[Any]) -> None:
    statins = [c["id"] for c in catalogue_entries()["statins"]["concepts"]]
    before, after = one(
        hospitals,
        "site_1",
        f"""
        WITH taken AS (
            SELECT person_id, min(drug_exposure_start_date) AS start
            FROM drug_exposure JOIN concept_ancestor ON descendant_concept_id = drug_concept_id
            WHERE ancestor_concept_id = ANY(ARRAY{statins}) GROUP BY 1
        )
        SELECT avg(value_as_number) FILTER (WHERE measurement_date <= start),
            avg(value_as_number) FILTER (WHERE measurement_date > start + 90)
        FROM measurement JOIN taken USING (person_id) WHERE measurement_concept_id = {LDL}
        """,
    )
    assert after < before * 85 / 100


@pytest.mark.parametrize("schema", SCHEMAS)
def test_mortality_rises_with_age_and_disease(
    hospitals: psycopg.Connection[Any], schema: str
) -> None:
    young, middle, old, failing = one(
        hospitals,
        schema,
        """
        WITH life AS (
            SELECT person_id, d.person_id IS NOT NULL AS dead,
                observation_period_end_date - observation_period_start_date + 1 AS days,
                extract(year FROM observation_period_start_date) - year_of_birth AS age,
                EXISTS (SELECT FROM condition_occurrence c WHERE c.person_id = p.person_id
                    AND condition_concept_id IN (316139, 4229440)) AS failing
            FROM person p JOIN observation_period USING (person_id)
            LEFT JOIN death d USING (person_id)
        )
        SELECT sum(dead::int) FILTER (WHERE age < 50) * 365.25 / sum(days) FILTER (WHERE age < 50),
            sum(dead::int) FILTER (WHERE age BETWEEN 50 AND 69) * 365.25
                / sum(days) FILTER (WHERE age BETWEEN 50 AND 69),
            sum(dead::int) FILTER (WHERE age >= 70) * 365.25 / sum(days) FILTER (WHERE age >= 70),
            sum(dead::int) FILTER (WHERE failing) * 365.25 / sum(days) FILTER (WHERE failing)
        FROM life
        """,
    )
    assert young < 0.01 < middle < 0.05 < old < 0.2
    assert failing > 2 * middle


def test_units_differ_between_sites(hospitals: psycopg.Connection[Any]) -> None:
    for concept, here, there in ((HBA1C, 8554, 9579), (CHOLESTEROL, 8840, 8753), (LDL, 8840, 8753)):
        query = (
            "SELECT array_agg(DISTINCT unit_concept_id ORDER BY unit_concept_id), "
            "percentile_cont(0.5) WITHIN GROUP (ORDER BY value_as_number) "
            f"FROM measurement WHERE measurement_concept_id = {concept}"
        )
        units_0, median_0 = one(hospitals, "site_0", query)
        units_1, median_1 = one(hospitals, "site_1", query)
        assert units_0 == [0, here, None]  # some without a unit, where it is the usual one
        assert units_1 == [there]
        assert median_0 / median_1 > 10 or median_1 / median_0 > 5


def test_case_mix_differs_between_sites(hospitals: psycopg.Connection[Any]) -> None:
    query = "SELECT avg(age), avg((sex = 'female')::int), avg(bmi) FROM person_summary"
    age_0, women_0, _ = one(hospitals, "site_0", query)
    age_1, women_1, _ = one(hospitals, "site_1", query)
    assert age_1 > age_0 + 5
    assert women_1 < women_0


@pytest.mark.parametrize("schema", SCHEMAS)
def test_values_go_missing_and_wrong_now_and_then(
    hospitals: psycopg.Connection[Any], schema: str
) -> None:
    null, absurd, unmeasured = one(
        hospitals,
        schema,
        f"""
        SELECT avg((value_as_number IS NULL)::int),
            avg((value_as_number IN (0, 999))::int) FILTER (
                WHERE measurement_concept_id IN ({SBP}, {BMI}, {HBA1C})),
            (SELECT avg((hba1c IS NULL)::int) FROM person_summary)
        FROM measurement
        """,
    )
    assert 0.003 < null < 0.03
    assert 0.0005 < absurd < 0.005
    assert 0.2 < unmeasured < 0.8


def test_the_flat_table_holds_each_latest_plausible_value(
    hospitals: psycopg.Connection[Any],
) -> None:
    different = one(
        hospitals,
        "site_0",
        f"""
        WITH latest AS (
            SELECT DISTINCT ON (person_id) person_id, value_as_number
            FROM measurement WHERE measurement_concept_id = {BMI}
            AND value_as_number BETWEEN 10 AND 90
            ORDER BY person_id, measurement_date DESC
        )
        SELECT count(*) FROM person_summary LEFT JOIN latest USING (person_id)
        WHERE bmi::numeric IS DISTINCT FROM value_as_number
        """,
    )
    assert different == (0,)


def test_every_concept_that_is_recorded_has_a_name(hospitals: psycopg.Connection[Any]) -> None:
    for table, column in (
        ("person", "gender_concept_id"),
        ("person", "race_concept_id"),
        ("visit_occurrence", "visit_concept_id"),
        ("condition_occurrence", "condition_concept_id"),
        ("drug_exposure", "drug_concept_id"),
        ("procedure_occurrence", "procedure_concept_id"),
        ("measurement", "measurement_concept_id"),
        ("measurement", "unit_concept_id"),
        ("observation", "observation_concept_id"),
    ):
        nameless = one(
            hospitals,
            "site_1",
            f"SELECT count(*) FROM {table} LEFT JOIN concept ON concept_id = {column} "
            f"WHERE concept_id IS NULL AND {column} IS NOT NULL",
        )
        assert nameless == (0,), (table, column)
