"""Policies to start from, each with its reason and where its numbers come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Preset = Literal["strict", "ohdsi", "pcornet", "dp", "exploration"]


@dataclass(frozen=True)
class Start:
    """What a preset sets, and why."""

    reason: str
    source: str
    values: Mapping[str, Any] = field(default_factory=dict)


PRESETS: Mapping[str, Start] = {
    "strict": Start(
        "Every rule that costs no accuracy is on: counts of 1 to 4, what follows from others, "
        "dominated sums and populations that differ by a few persons do not leave.",
        "Hundepool et al. (2012), Statistical Disclosure Control; a minimum of 5 as in OHDSI's and "
        "DARWIN EU's packages",
    ),
    "ohdsi": Start(
        "What OHDSI's packages do by themselves: small counts are withheld, and nothing else.",
        "minCellCount = 5 in CohortDiagnostics and CohortMethod; DARWIN EU's omopgenerics",
        {"complementary": False, "dominance": 1.0, "overlap": False, "same_answer": False},
    ),
    "pcornet": Start(
        "Counts of 1 to 10 are withheld, as the United States' health agencies ask.",
        "Cell Size Suppression Policy of the Centers for Medicare & Medicaid Services (ResDAC), "
        "which PCORnet's networks follow",
        {"min_count": 11},
    ),
    "dp": Start(
        "Every number carries noise, and a budget bounds what all answers together tell of one "
        "person, whatever else an attacker knows.",
        "Dwork & Roth (2014), The Algorithmic Foundations of Differential Privacy; NIST SP "
        "800-226 (2025) on choosing epsilon",
        {"mode": "dp"},
    ),
    "exploration": Start(
        "Synthetic data alone: every number leaves. A site with other data refuses to answer.",
        "for teaching and development",
        {
            "min_count": 1,
            "min_sites": 1,
            "per_site": True,
            "complementary": False,
            "dominance": 1.0,
            "overlap": False,
        },
    ),
}
