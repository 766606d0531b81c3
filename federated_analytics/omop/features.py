"""The feature catalogue: what can be asked of each person, as data in `catalogue.toml`."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from federated_analytics.errors import StudyError, UnknownFeature, did_you_mean
from federated_analytics.omop.feature import Feature

__all__ = ["Feature", "catalogue", "fine_grid", "public_edges", "resolve", "search"]

MAX_FINE_BINS = 2_000
"""Bins of the grid behind quantiles: what a site sends a feature at most."""

ABOUT_BINS = 30
"""Bins of a histogram for which the analyst gives neither edges nor a number."""


@cache
def catalogue() -> Mapping[str, Feature]:
    """Every feature that is known without a study, by name, in the catalogue's order."""
    text = files("federated_analytics.omop").joinpath("catalogue.toml").read_text("utf-8")
    features: dict[str, Feature] = {}
    for entry in tomllib.loads(text)["feature"]:
        feature = Feature.model_validate(entry)
        if feature.name in features:
            raise StudyError(f"{feature.name} stands twice.", where="catalogue.toml")
        features[feature.name] = feature
    return MappingProxyType(features)


def resolve(names: Sequence[str], overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, Feature]:
    """The features called `names`, as the study defines them or else as the catalogue does.

    Args:
        overrides: the study's `[feature.NAME]` tables; they change fields of a catalogue feature
            or define a new one.

    Raises:
        UnknownFeature: a name that neither knows; the remedy offers the nearest ones.
        StudyError: a definition that contradicts itself; `where` is its key path.
    """
    features: dict[str, Feature] = {}
    for name in names:
        if name in overrides:
            features[name] = _defined(name, overrides[name])
        elif name in catalogue():
            features[name] = catalogue()[name]
        else:
            remedy = did_you_mean(name, [*catalogue(), *overrides])
            raise UnknownFeature(
                f"There is no feature {name[:60]!r}.",
                where=name[:60],
                remedy=f"{remedy} `federated-analytics features` lists them.".strip(),
            )
    return features


def _defined(name: str, given: Mapping[str, Any]) -> Feature:
    known = catalogue().get(name)
    data: dict[str, Any] = known.model_dump() if known else {}
    if {"domain", "type"} & set(given):
        for follows in ("aggregation", "window", "descendants"):
            data.pop(follows, None)
    if "range" in given:
        data["histogram"] = None
    try:
        return Feature.model_validate({**data, **given, "name": name})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["feature", name, *(str(part) for part in first["loc"])])
        message = first["msg"].removeprefix("Value error, ").rstrip(".")
        remedy = ""
        if first["type"] == "extra_forbidden":
            message = f"{first['loc'][-1]} is not a field of a feature"
            remedy = did_you_mean(str(first["loc"][-1]), Feature.model_fields)
        raise StudyError(
            f"{message[:1].upper()}{message[1:]}.", where=place, remedy=remedy
        ) from error


def search(text: str) -> list[Feature]:
    """Catalogue features that hold every word of `text`, those whose name does first.

    Case and British or American spelling make no difference; an empty text gives all.
    """
    words = _folded(text).split()
    found = [f for f in catalogue().values() if all(w in _searched(f) for w in words)]
    return sorted(found, key=lambda f: not all(w in _folded(f.name) for w in words))


def _searched(feature: Feature) -> str:
    ids = (f"{c.id} {c.name}" for c in feature.concepts)
    parts = (feature.name, feature.label, feature.group, feature.domain, *ids)
    return _folded(" ".join(parts))


def _folded(text: str) -> str:
    text = text.lower().replace("_", " ")
    return text.replace("ae", "e").replace("oe", "e").replace("our", "or")


def fine_grid(feature: Feature) -> tuple[float, float, int]:
    """The finest public grid over the plausible range: (low, step, bins), bins <= 2,000.

    Bin i holds [low + i * step, low + (i + 1) * step); the last one holds the upper end. `step`
    is the feature's own, or a multiple of it where that would make too many bins.

    Raises:
        StudyError: the feature has no range.
    """
    low, high, step = _bounds(feature)
    multiples = (m * 10**power for power in range(300) for m in (1, 2, 5))
    width = next(step * m for m in multiples if (high - low) / (step * m) < MAX_FINE_BINS - 1)
    return float(low), float(width), math.floor((high - low) / width) + 1


def public_edges(feature: Feature, bins: int | None = None) -> list[float]:
    """Edges of about `bins` (30 by default) bins of equal, round width, known to everybody.

    The width is a multiple of the feature's step; the bins cover `histogram`, or else `range`,
    its upper end included.

    Raises:
        StudyError: the feature has no range.
    """
    low, upper, step = _bounds(feature)
    high = upper
    if feature.histogram is not None:
        low, high = (Fraction(str(end)) for end in feature.histogram)
    wanted = bins or ABOUT_BINS
    width = min(
        _round_widths(step, high - low),
        key=lambda w: abs(math.log(float((high - low) / w) / wanted)),
    )
    first, last = math.floor(low / width), math.floor(high / width) + 1
    if high < upper and high % width == 0:
        last -= 1  # `high` itself lies outside the part that is drawn
    return [float(i * width) for i in range(first, last + 1)]


def _bounds(feature: Feature) -> tuple[Fraction, Fraction, Fraction]:
    if feature.range is None or feature.step is None:
        raise StudyError(
            f"{feature.name} has no plausible range.",
            where=f"feature.{feature.name}",
            remedy="Define it with range = [low, high] and step.",
        )
    # Through text: 0.1 is meant as one tenth, not as the nearest binary fraction.
    low, high = (Fraction(str(end)) for end in feature.range)
    return low, high, Fraction(str(feature.step))


def _round_widths(step: Fraction, span: Fraction) -> list[Fraction]:
    """Multiples of `step` up to `span` that read 1, 2, 2.5 or 5 times a power of ten."""
    powers = range(math.floor(math.log10(step)) - 1, math.ceil(math.log10(span)) + 1)
    candidates = (
        m * Fraction(10) ** p for p in powers for m in map(Fraction, ("1", "2", "2.5", "5"))
    )
    found = [w for w in candidates if w % step == 0 and w <= span]
    return found or [step * m for m in (1, 2, 5, 10, 20, 50, 100) if step * m <= span]


if __name__ == "__main__":
    from federated_analytics.omop.feature_listing import features_markdown

    print(features_markdown(), end="")
