"""Aggregates by cell: what an analysis asks and a site answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.errors import ShapeError

Strata = tuple[tuple[str, str], ...]
"""Pairs of stratum and level, in the order asked; empty for everybody."""


@dataclass(frozen=True, order=True)
class Key:
    """The place of one cell: stratum, feature, level within it, and which aggregate it is."""

    strata: Strata
    variable: str
    level: str = ""
    name: str = ""


@dataclass(frozen=True)
class Cell:
    """One aggregate at its place."""

    key: Key
    value: Aggregate


Table = Mapping[Key, Aggregate]


def merge_tables(tables: Iterable[Table]) -> dict[Key, Aggregate]:
    """Cell-wise merge; a cell that a table lacks counts as zero."""
    merged: dict[Key, Aggregate] = {}
    for table in tables:
        for key, value in table.items():
            held = merged.get(key)
            if held is not None and type(held) is not type(value):
                raise ShapeError(
                    f"{type(held).__name__} cannot be merged with {type(value).__name__}.",
                    where=key.variable,
                )
            merged[key] = value if held is None else held.merge(value)
    return merged
