"""Every analysis, through real Flower processes, gives the very rows that it gives in process."""

from __future__ import annotations

import math

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


def numbers(result: Result, names: dict[str, str]) -> dict[tuple[str, ...], str]:
    """The value of every row but those that tell of the run itself, by its place."""
    found = {}
    for row in result.rows:
        if result.result_type(row.result_id) != "participation":
            place = {k: str(v) for k, v in vars(row).items() if k != "estimate_value"}
            found[tuple(names.get(text, text) for text in place.values())] = row.estimate_value
    return found


def equal(a: str, b: str) -> bool:
    """The same text, or the same number but for the order in which PostgreSQL's workers add."""
    try:
        return a == b or math.isclose(float(a), float(b), rel_tol=1e-12)
    except ValueError:
        return False


def test_every_row_through_flower_equals_in_process(
    federation: LocalFederation, hospitals: list[Cluster]
) -> None:
    shown: list[str] = []
    through = submit(EVERY_KIND, superlink=federation.address, on_line=shown.append)
    here = run(EVERY_KIND, sites=[c.reader_url() for c in hospitals])
    named = dict(zip(("site-1", "site-2"), NAMES, strict=True))
    expected, found = numbers(here, named), numbers(through, {})
    assert len(expected) > 300
    assert found.keys() == expected.keys()
    assert not [k for k in expected if not equal(found[k], expected[k])]
    assert through.study_toml == here.study_toml
    assert shown
    assert not any(MARK in line for line in shown)
