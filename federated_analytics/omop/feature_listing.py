"""How the feature catalogue is shown: a table for the terminal, CSV, JSON, and docs/features.md."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from federated_analytics.omop.feature import Feature
from federated_analytics.omop.features import catalogue, search

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("name", "label", "group", "type", "unit", "range", "aggregation", "window", "concepts")


def features_table(text: str | None = None) -> Table:
    """The features that hold every word of `text`, all of them without one."""
    from rich.table import Table

    found = search(text or "")
    table = Table(title=f"{len(found)} of {len(catalogue())} features", title_justify="left")
    for column in ("name", "label", "type", "unit", "plausible range", "value", "days"):
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    for f in found:
        table.add_row(f.name, f.label, f.type, f.unit or "", _range(f), f.aggregation, _window(f))
    return table


def features_text(text: str | None, form: Literal["json", "csv"]) -> str:
    """The same features for programs: JSON with every field, or CSV with the main ones."""
    found = search(text or "")
    if form == "json":
        return json.dumps([f.model_dump(mode="json") for f in found], indent=2) + "\n"
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for f in found:
        ids = " ".join(str(c.id) for c in f.concepts)
        row = (f.name, f.label, f.group, f.type, f.unit or "", _range(f), f.aggregation)
        writer.writerow([*row, _window(f), ids])
    return out.getvalue()


def features_markdown() -> str:
    """The text of docs/features.md."""
    groups: dict[str, list[Feature]] = {}
    for f in catalogue().values():
        groups.setdefault(f.group, []).append(f)
    parts = [_INTRODUCTION.format(count=len(catalogue()))]
    for group, features in groups.items():
        parts.append(f"## {group.replace('_', ' ').capitalize()}\n\n{_markdown_table(features)}")
    parts.append(_OWN_FEATURES)
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _markdown_table(features: Sequence[Feature]) -> str:
    lines = [
        "| name | meaning | unit (also read) | range | value | days | concepts |",
        "|---|---|---|---|---|---|---|",
    ]
    for f in features:
        cells = (
            f"`{f.name}`",
            f.label,
            _units(f),
            _range(f),
            f"{f.aggregation}, {f.type}",
            _window(f),
            _concepts(f),
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _units(f: Feature) -> str:
    others = ", ".join(unit.unit for unit in f.units)
    return f"{f.unit or ''} ({others})" if others else f.unit or ""


def _concepts(f: Feature) -> str:
    text = ", ".join(f"{c.id} {c.name}".strip() for c in f.concepts)
    return f"{text}, with descendants" if f.descendants and text else text


def _range(f: Feature) -> str:
    return "" if f.range is None else f"{f.range[0]:g} to {f.range[1]:g}"


def _window(f: Feature) -> str:
    first, last = f.window
    if f.window == ("any", "any"):
        return "any"
    if first == "any":
        return f"up to {last}"
    return f"from {first}" if last == "any" else f"{first} to {last}"


_INTRODUCTION = """
# Features

The {count} features that a study can name without defining them. `federated-analytics features
WORDS` searches them. This page is generated from `federated_analytics/omop/catalogue.toml`
(`python -m federated_analytics.omop.features > docs/features.md`), which also says where each
concept id, conversion and range comes from.

- **unit**: values are converted to it. A record without a unit is taken to be in it; a record in
  a unit that is neither it nor one of those in brackets is left out.
- **range**: values outside it are left out as implausible. It is the same everywhere and never
  comes from data, so it also bounds histograms, quantiles and noise.
- **value**: how a person's records become one value. `any` is yes or no, `count` a number; no
  record means no, or 0. For the others no record means a missing value.
- **days**: which records count, in days relative to the index date (both ends included). A
  population without an index date uses everything on record.
"""

_OWN_FEATURES = """
## A feature of your own

A study file defines features, or changes some fields of one above:

```toml
[feature.lactate_dehydrogenase]
domain = "measurement"
type = "numeric"
concepts = [3016436]
unit = "U/L"
unit_concept_id = 8645
units = [{ unit = "µkat/L", unit_concept_id = 32995, factor = 60, offset = 0 }]
range = [20, 5000]
step = 5
aggregation = "maximum"
window = [0, 7]

[feature.hba1c]
aggregation = "first"
window = [0, 365]
```

`domain` is person, measurement, condition, drug, procedure, observation, visit or death; `type`
numeric, boolean or categorical; `aggregation` latest, first, mean, minimum, maximum, any or count.
`descendants` (concepts below the listed ones) is on for all domains but measurement. `units` lists
conversions: value in `unit` = value * factor + offset. `step` is the width of the finest grid over
`range`; `histogram` is the part of `range` over which histograms are drawn, all of it by default.
"""
