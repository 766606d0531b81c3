"""Every analysis, through real Flower processes, gives the very rows that it gives in process."""

from __future__ import annotations

import pytest

from federated_analytics.databases.postgres import Cluster
from federated_analytics.local.processes import LocalFederation
from federated_analytics.payload import MARK
from federated_analytics.report.result import Result
from federated_analytics.running import run
from federated_analytics.study import Study
from federated_analytics.submit import submit
from tests.flower.conftest import NAMES
from tests.pooled import DIABETES

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("flower")]

EVERY_KIND = Study.parse(
    f"""
    [study]
    name = "Every analysis in one round"
    [[population]]
    name = "everyone"
    kind = "everyone"
    [[population]]
    name = "diabetes"
    kind = "condition"
    concepts = [{DIABETES}]
    [[analysis]]
    kind = "counts"
    by = ["sex", "site"]
    [[analysis]]
    kind = "summary"
    features = ["age", "bmi", "hba1c"]
    by = ["sex", "age_group"]
    [[analysis]]
    kind = "quantiles"
    features = ["systolic_bp"]
    [[analysis]]
    kind = "histogram"
    features = ["bmi"]
    [[analysis]]
    kind = "frequencies"
    features = ["sex", "hypertension"]
    [[analysis]]
    kind = "top_concepts"
    domain = "condition"
    """
)


def numbers(result: Result) -> list[tuple[str, ...]]:
    """Every row but those that tell of the run itself."""
    return sorted(
        tuple(str(value) for value in vars(row).values())
        for row in result.rows
        if result.result_type(row.result_id) != "participation"
    )


def test_every_row_through_flower_equals_in_process(
    federation: LocalFederation, hospitals: list[Cluster]
) -> None:
    shown: list[str] = []
    through = submit(EVERY_KIND, superlink=federation.address, on_line=shown.append)
    here = run(EVERY_KIND, sites=[c.reader_url() for c in hospitals])
    named = dict(zip(("site-1", "site-2"), NAMES, strict=True))
    expected = sorted(tuple(named.get(text, text) for text in row) for row in numbers(here))
    assert len(expected) > 300
    assert numbers(through) == expected
    assert through.study_toml == here.study_toml
    assert shown
    assert not any(MARK in line for line in shown)
