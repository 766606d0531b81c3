"""A feature: one value a person, made from the records of a concept set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Group = Literal[
    "demographics",
    "anthropometrics",
    "vital_signs",
    "laboratory",
    "conditions",
    "drugs",
    "utilisation",
    "death",
    "lifestyle",
    "other",
]
Domain = Literal[
    "person", "measurement", "condition", "drug", "procedure", "observation", "visit", "death"
]
Kind = Literal["numeric", "boolean", "categorical"]
Aggregation = Literal["latest", "first", "mean", "minimum", "maximum", "any", "count"]

Finite = Annotated[float, Field(allow_inf_nan=False)]
ConceptId = Annotated[int, Field(ge=1, le=2**31 - 1)]
WindowDay = Annotated[int, Field(ge=-36_525, le=36_525)] | Literal["any"]

_WITH_NUMBERS = ("measurement", "observation")
_WINDOWS: Mapping[str, tuple[int | str, int | str]] = {
    "person": ("any", "any"),
    "condition": ("any", 0),
    "death": (0, "any"),
}


class Concept(BaseModel):
    """An OMOP concept; a plain concept id is read as one without a name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: ConceptId
    name: str = Field(default="", max_length=255)

    @model_validator(mode="before")
    @classmethod
    def _plain_id(cls, data: Any) -> Any:
        return {"id": data} if isinstance(data, int) and not isinstance(data, bool) else data


class UnitConversion(BaseModel):
    """Another unit of a feature: value in the feature's unit = value * factor + offset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: str = Field(default="", max_length=50)
    unit_concept_id: ConceptId
    factor: Finite = 1.0
    offset: Finite = 0.0

    @model_validator(mode="after")
    def _reversible(self) -> Self:
        if self.factor == 0:
            raise ValueError("factor must not be 0")
        return self


class Feature(BaseModel):
    """One value a person, made from the records of a concept set.

    Fields:
        concepts: what is looked for; several count as one
        descendants: also what lies below them in concept_ancestor
        example_descendants: a few of those, from which synthetic data are made
        unit, unit_concept_id: the unit of values, range and step
        units: how records in other units are converted
        range: plausible values, both ends included; others are dropped. Public: the bounds of
            histograms, quantiles and noise
        step: width of the finest public grid over `range`, in `unit`
        histogram: the part of `range` over which histograms are drawn; all of it by default
        aggregation: how a person's records become one value
        window: days relative to the index date, both ends included; "any" is unbounded
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    label: str = Field(min_length=1, max_length=100)
    group: Group = "other"
    domain: Domain
    type: Kind
    concepts: tuple[Concept, ...] = Field(default=(), max_length=5_000)
    descendants: bool = False
    example_descendants: tuple[Concept, ...] = ()
    unit: str | None = Field(default=None, max_length=50)
    unit_concept_id: ConceptId | None = None
    units: tuple[UnitConversion, ...] = ()
    range: tuple[Finite, Finite] | None = None
    step: Annotated[Finite, Field(gt=0)] | None = None
    histogram: tuple[Finite, Finite] | None = None
    aggregation: Aggregation = "latest"
    window: tuple[WindowDay, WindowDay] = ("any", "any")
    source: str = Field(default="", max_length=1_000)

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        """What follows from domain and type where it is left out."""
        if not isinstance(data, Mapping):
            return data
        domain, kind, name = data.get("domain"), data.get("type"), str(data.get("name", ""))
        counted = kind == "boolean", domain not in (*_WITH_NUMBERS, "person")
        return {
            "label": name.replace("_", " ").capitalize(),
            "descendants": domain not in ("person", "measurement", "death"),
            "aggregation": "latest"
            if domain == "person" or not any(counted)
            else ("any" if counted[0] else "count"),
            "window": _WINDOWS.get(str(domain), (-365, 0)),
            **data,
        }

    @field_validator("window", mode="before")
    @classmethod
    def _days(cls, window: Any) -> Any:
        days = list(window) if isinstance(window, list | tuple) else []
        whole = [isinstance(day, int) and not isinstance(day, bool) for day in days]
        if len(days) != 2 or not all(w or d == "any" for w, d in zip(whole, days, strict=True)):
            raise ValueError(
                'window is [first, last] in days from the index date, each a whole number or "any"'
            )
        return window

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for message in _contradictions(self):
            raise ValueError(message)
        return self


def _contradictions(feature: Feature) -> Iterator[str]:
    """What in a feature contradicts something else in it, and what to write instead."""
    if feature.domain not in ("person", "death") and not feature.concepts:
        yield f"concepts is empty; list the {feature.domain} concept ids to look for"
    yield from _wrong_range(feature)
    yield from _wrong_units(feature)
    yield from _wrong_aggregation(feature)
    first, last = feature.window
    if first != "any" and last != "any" and first > last:
        yield f"window starts after it ends; write [{last}, {first}]"


def _wrong_range(feature: Feature) -> Iterator[str]:
    if (feature.range is None) != (feature.step is None):
        yield "range and step go together; write both, as in range = [10, 90] and step = 0.1"
    if feature.range is None or feature.step is None:
        if feature.histogram is not None:
            yield "histogram needs range and step"
        return
    low, high = feature.range
    if low >= high:
        yield f"range must rise; write [{high:g}, {low:g}] or another upper end"
    if Fraction(str(feature.step)) > Fraction(str(high)) - Fraction(str(low)):
        yield f"step {feature.step:g} is wider than range; write a smaller one"
    if feature.histogram is not None:
        left, right = feature.histogram
        if not low <= left < right <= high:
            yield f"histogram must rise and lie inside range [{low:g}, {high:g}]"


def _wrong_units(feature: Feature) -> Iterator[str]:
    if feature.units and feature.unit_concept_id is None:
        yield "units needs unit_concept_id, the unit that they are converted to"
    ids = [unit.unit_concept_id for unit in feature.units]
    for unit in ids:
        if unit == feature.unit_concept_id:
            yield f"units converts {unit}, which is the feature's own unit; leave it out"
        if ids.count(unit) > 1:
            yield f"units has two conversions of {unit}; keep one"


def _wrong_aggregation(feature: Feature) -> Iterator[str]:
    domain, kind, how = feature.domain, feature.type, feature.aggregation
    if domain == "person":
        if how != "latest":
            yield f'a person has one such value; leave out aggregation = "{how}"'
    elif domain == "death" and kind != "boolean":
        yield 'domain = "death" takes type = "boolean"'
    elif kind == "categorical":
        yield f'a {domain} feature has no categories; write type = "boolean" or "numeric"'
    elif kind == "boolean" and how != "any":
        yield f'a boolean feature takes aggregation = "any", not "{how}"'
    elif kind == "numeric" and how == "any":
        yield 'a numeric feature does not take aggregation = "any"; write type = "boolean"'
    elif kind == "numeric" and how != "count" and domain not in _WITH_NUMBERS:
        yield f'a {domain} record holds no number; write aggregation = "count"'
