"""Strata: how persons are put into groups, as text columns of the frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, field_validator

from federated_analytics.errors import UnknownStratum, did_you_mean

if TYPE_CHECKING:
    from federated_analytics.omop.features import Feature

SITE = "site"
INDEX_YEAR = "index_year"
UNKNOWN = "Unknown"
_NAN: sa.ColumnElement[float] = sa.literal_column("'NaN'::double precision")
"""Not a parameter: written into a text, it would be a column's name."""
DEFAULT_AGE_BREAKS = (0.0, 20.0, 40.0, 60.0, 80.0)


class StratumDefinition(BaseModel):
    """A study's own stratum: a numeric feature cut at `breaks`.

    `breaks = [0, 40, 65]` gives "0 to 39", "40 to 64" and "65 or over" for whole numbers and
    "[0, 40)" … for others. Values below the first break, and missing ones, are "Unknown".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    feature: str
    breaks: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = Field(
        min_length=1, max_length=100
    )

    @field_validator("breaks")
    @classmethod
    def _ascending(cls, breaks: tuple[float, ...]) -> tuple[float, ...]:
        if list(breaks) != sorted(set(breaks)):
            raise ValueError("breaks must rise from each to the next")
        return breaks


@dataclass(frozen=True)
class Stratum:
    """A stratum with the feature it needs ("" for the index year)."""

    name: str
    feature: str
    breaks: tuple[float, ...] = ()

    def levels(self) -> list[str]:
        """Labels of the groups that `breaks` make, lowest first."""
        whole = all(b == int(b) for b in self.breaks)
        labels = []
        for low, high in zip(self.breaks, self.breaks[1:], strict=False):
            labels.append(f"{low:g} to {high - 1:g}" if whole else f"[{low:g}, {high:g})")
        return [*labels, f"{self.breaks[-1]:g} or over"]

    def expression(
        self,
        value: sa.ColumnElement[object] | None,
        index_date: sa.ColumnElement[object] | None = None,
    ) -> sa.ColumnElement[str]:
        """The group's label for a person, never NULL.

        Args:
            value: the feature's column in the frame.
        """
        if value is None:
            assert index_date is not None
            year = sa.cast(sa.cast(sa.extract("year", index_date), sa.Integer), sa.Text)
            return sa.func.coalesce(year, UNKNOWN)
        if self.breaks:
            cases = [
                (value >= low, label)
                for low, label in zip(reversed(self.breaks), reversed(self.levels()), strict=True)
            ]
            return sa.case(
                (value.is_(None), UNKNOWN), (value == _NAN, UNKNOWN), *cases, else_=UNKNOWN
            )
        if isinstance(value.type, sa.Boolean):
            return sa.case(
                (value.is_(sa.true()), "Yes"), (value.is_(sa.false()), "No"), else_=UNKNOWN
            )
        return sa.func.coalesce(sa.cast(value, sa.Text), UNKNOWN)


def resolve_strata(
    names: tuple[str, ...],
    definitions: Mapping[str, StratumDefinition],
    features: Mapping[str, Feature],
    *,
    where: str,
) -> tuple[Stratum, ...]:
    """The strata called `names`; UnknownStratum offers the nearest ones."""
    return tuple(
        _resolve(name, definitions, features, f"{where}[{i}]") for i, name in enumerate(names)
    )


def _resolve(
    name: str,
    definitions: Mapping[str, StratumDefinition],
    features: Mapping[str, Feature],
    where: str,
) -> Stratum:
    if name in definitions:
        return Stratum(name, definitions[name].feature, definitions[name].breaks)
    if name == "age_group":
        return Stratum(name, "age", DEFAULT_AGE_BREAKS)
    if name in (SITE, INDEX_YEAR):
        return Stratum(name, "")
    feature = features.get(name)
    if feature is None:
        known = [SITE, INDEX_YEAR, "age_group", *definitions]
        known += [f.name for f in features.values() if f.type != "numeric"]
        raise UnknownStratum(
            f"There is no stratum {name[:60]!r}.",
            where=where,
            remedy=did_you_mean(name, known)
            or "Use sex, age_group, race, index_year, site, a yes/no or categorical feature, "
            "or define [strata.NAME] with feature and breaks.",
        )
    if feature.type == "numeric":
        raise UnknownStratum(
            f"The feature {name!r} is numeric, so it needs breaks to make groups.",
            where=where,
            remedy=f'Define [strata.{name}_group] with feature = "{name}" and breaks = [...].',
        )
    return Stratum(name, name)


def public_levels_of(feature: Feature) -> tuple[str, ...] | None:
    """The levels of a category that are known without the data; None where they are not."""
    if feature.type == "boolean":
        return "No", "Yes", UNKNOWN
    return ("Female", "Male", UNKNOWN) if feature.name == "sex" else None


def groupings(count: int) -> list[tuple[int, ...]]:
    """Positions of the strata that are grouped by together: overall, each alone, all crossed."""
    singles = [(i,) for i in range(count)]
    return [(), *singles, tuple(range(count))] if count > 1 else [(), *singles]
