"""Concept sets: concepts, their descendants, and exclusions, as a relation in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from federated_analytics.omop.tables import Cdm, Statement

MAX_CONCEPTS = 5_000
"""Concepts that a study may list in one set; descendants do not count."""


@dataclass(frozen=True)
class ConceptSet:
    """Concepts of one domain.

    Args:
        concepts: concept ids.
        exclude: concept ids taken out again, with their descendants where `descendants`.
        descendants: expand through the site's concept_ancestor.
    """

    concepts: tuple[int, ...]
    exclude: tuple[int, ...] = ()
    descendants: bool = True


def members(cdm: Cdm, sets: Sequence[ConceptSet]) -> sa.Subquery:
    """The concepts of all `sets` as rows (concept_id, source), source the set's position.

    A concept is its own member whether or not the vocabulary has it, so a site with an empty
    concept_ancestor still finds the listed ones.
    """
    selects = [_members(cdm, concept_set, source) for source, concept_set in enumerate(sets)]
    union = sa.union_all(*selects) if len(selects) > 1 else selects[0]
    return union.subquery("member")


def _members(cdm: Cdm, concept_set: ConceptSet, source: int) -> Statement:
    source_column = sa.literal_column(str(int(source)), sa.Integer).label("source")
    included = _expanded(cdm, concept_set.concepts, concept_set.descendants)
    column = included.c.concept_id
    query = sa.select(column, source_column).select_from(included)
    if concept_set.exclude:
        excluded = _expanded(cdm, concept_set.exclude, concept_set.descendants)
        query = query.where(column.not_in(sa.select(excluded.c.concept_id)))
    return query


def _expanded(cdm: Cdm, concepts: Sequence[int], descendants: bool) -> sa.Subquery:
    listed = sa.values(sa.column("concept_id", sa.BigInteger), name="listed").data(
        [(concept,) for concept in concepts]
    )
    query = sa.select(listed.c.concept_id)
    if not descendants:
        return query.subquery()
    ancestor = cdm.table("concept_ancestor")
    below = sa.select(ancestor.c.descendant_concept_id.label("concept_id")).where(
        ancestor.c.ancestor_concept_id.in_(concepts)
    )
    return sa.union(query, below).subquery()
