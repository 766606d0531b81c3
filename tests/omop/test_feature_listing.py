"""The catalogue as a table, as CSV and JSON, and as docs/features.md."""

from __future__ import annotations

import csv
import io
import json
import tomllib
from pathlib import Path

from rich.console import Console

from federated_analytics.omop.feature import Feature
from federated_analytics.omop.feature_listing import (
    COLUMNS,
    features_markdown,
    features_table,
    features_text,
)
from federated_analytics.omop.features import catalogue, resolve


def test_the_table_shows_what_was_found() -> None:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(features_table("blood pressure"))
    text = console.export_text()
    assert "systolic_bp" in text
    assert "hba1c" not in text
    assert f"3 of {len(catalogue())} features" in text


def test_listings_for_programs() -> None:
    read = [Feature.model_validate(entry) for entry in json.loads(features_text(None, "json"))]
    assert read == list(catalogue().values())
    rows = list(csv.DictReader(io.StringIO(features_text("metformin", "csv"))))
    assert rows[0]["name"] == "metformin"
    assert tuple(rows[0]) == COLUMNS


def test_the_documentation_is_current(root: Path) -> None:
    page = (root / "docs" / "features.md").read_text("utf-8")
    assert page == features_markdown(), (
        "run: python -m federated_analytics.omop.features > docs/features.md"
    )


def test_the_documentations_examples_are_valid() -> None:
    page = features_markdown()
    example = tomllib.loads(page.split("```toml")[1].split("```")[0])["feature"]
    assert set(resolve(list(example), example)) == {"lactate_dehydrogenase", "hba1c"}
