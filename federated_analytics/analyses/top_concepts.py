"""The most frequent conditions, drugs, procedures … by persons, with their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import Field

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.person_set import PersonSet
from federated_analytics.aggregates.table import Key, Strata, Table
from federated_analytics.analyses.base import (
    Analysis,
    Context,
    Estimate,
    Merged,
    Query,
    Row,
    counted,
    grouped,
    percentage,
    sites_behind,
    strata_in,
    strata_of,
)
from federated_analytics.omop.frame import Frame
from federated_analytics.omop.tables import Statement

LISTED = 1_000
"""Concepts that a site lists a stratum; a site with more says how many persons the next has."""

Domain = Literal["condition", "drug", "procedure", "measurement", "observation", "visit"]


class TopConceptsQuery(Query):
    """Over the persons' whole record."""

    kind: Literal["top_concepts"] = "top_concepts"
    features: tuple[()] = ()
    domain: Domain = "condition"
    top: int = Field(default=20, ge=1, le=200)


class TopConcepts(Analysis):
    """Persons with at least one record of a concept, for the `top` most frequent ones.

    Exact for a concept that every site lists; `sites` tells how many did. A site does not list
    a concept with fewer persons than its policy asks, nor beyond its 1,000 most frequent, and
    `count_upper` bounds what the latter may add.
    """

    kind = "top_concepts"
    query_type = TopConceptsQuery
    leaves = "persons with each of the 1,000 most frequent concepts, with its name"
    needs_cdm = True

    def select(self, query: TopConceptsQuery, frame: Frame) -> list[Statement]:
        persons = grouped(frame, query.by, [sa.func.count().label("persons")])
        return [persons, _concepts(query, frame)]

    def collect(
        self, query: TopConceptsQuery, frame: Frame, results: Sequence[Sequence[Row]]
    ) -> Table:
        table: dict[Key, Aggregate] = {}
        for row in results[0]:
            key = Key(strata_of(row, query.by), query.domain, "", "persons")
            table[key] = Count(row["persons"])
        for row in results[1]:
            strata, persons = strata_of(row, query.by), Count(row["persons"])
            if row["position"] <= LISTED:
                table[Key(strata, str(row["concept_id"]), "", "concept")] = persons
            else:
                table[Key(strata, query.domain, "", "unlisted")] = persons
        return table

    def counted_sets(
        self, query: TopConceptsQuery, frame: Frame, key: Key, aggregate: Aggregate
    ) -> Iterable[tuple[int, PersonSet]]:
        if key.name == "persons":
            yield aggregate.support[0], frozenset()
        elif key.name == "concept":
            dimension = _dimension(query, key.variable)
            yield aggregate.support[0], frozenset({(dimension, "Yes")})

    def partial_dimensions(self, query: TopConceptsQuery, table: Table) -> frozenset[str]:
        return frozenset(_dimension(query, k.variable) for k in table if k.name == "concept")

    def labels(self, results: Sequence[Sequence[Row]]) -> dict[str, str]:
        return {
            str(row["concept_id"]): row["concept_name"] for row in results[1] if row["concept_name"]
        }

    def finalize(
        self, query: TopConceptsQuery, cells: Mapping[Key, Merged], context: Context
    ) -> Iterable[Estimate]:
        for strata in strata_in(cells, query.by):
            whole = cells.get(Key(strata, query.domain, "", "persons"))
            unlisted = cells.get(Key(strata, query.domain, "", "unlisted"))
            for rank, key in enumerate(_most_frequent(cells, strata)[: query.top], start=1):
                place: dict[str, Any] = {
                    "level": key.variable,
                    "additional": (("domain", query.domain), ("rank", str(rank))),
                }
                name = context.labels.get(key.variable, f"Concept {key.variable}")
                yield from counted(cells[key], strata, name, **place)
                share = percentage(cells[key], whole)
                yield Estimate(strata, name, "percentage", "percentage", share, **place)
                yield from _upper(cells[key], unlisted, strata, name, place)
                yield from sites_behind(cells[key], context, strata, name, **place)


def _upper(
    merged: Merged, unlisted: Merged | None, strata: Strata, name: str, place: dict[str, Any]
) -> Iterable[Estimate]:
    if unlisted is None or not isinstance(merged.value, Count):
        return
    more = unlisted.value.persons if isinstance(unlisted.value, Count) else unlisted.bound
    upper = str(merged.value.persons + more)
    yield Estimate(strata, name, "count_upper", "integer", upper, **place)


def _most_frequent(cells: Mapping[Key, Merged], strata: Strata) -> list[Key]:
    found = {
        key: merged.value.persons
        for key, merged in cells.items()
        if key.strata == strata and key.name == "concept" and isinstance(merged.value, Count)
    }
    return sorted(found, key=lambda key: (-found[key], int(key.variable)))


def _concepts(query: TopConceptsQuery, frame: Frame) -> Statement:
    event = frame.cdm.events(query.domain)
    concept = frame.cdm.table("concept")
    source = frame.relation.join(event, event.c.person_id == frame.person_id)
    persons = sa.func.count(sa.distinct(frame.person_id)).label("persons")
    concept_id = event.c.concept_id
    counts = (
        grouped(frame, query.by, [persons], also_by=[concept_id], source=source)
        .where(concept_id != 0)
        .subquery("concept_count")
    )
    groups = [c for c in counts.c if c.name.startswith("stratum_") or c.name == "grouping"]
    position = sa.func.row_number().over(
        partition_by=groups or None, order_by=(counts.c.persons.desc(), counts.c.concept_id)
    )
    ranked = sa.select(counts, position.label("position")).subquery("ranked")
    return (
        sa.select(ranked, concept.c.concept_name)
        .select_from(ranked.outerjoin(concept, concept.c.concept_id == ranked.c.concept_id))
        .where(ranked.c.position <= LISTED + 1)
    )


def _dimension(query: TopConceptsQuery, concept: str) -> str:
    return f"{query.domain}:{concept}"
