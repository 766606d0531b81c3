"""R2 over a whole study: no withheld count can be told from what its other tables release."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.person_set import OTHER_WHOLE, PersonSet
from federated_analytics.aggregates.table import Key
from federated_analytics.privacy.draft import Draft

if TYPE_CHECKING:
    from federated_analytics.privacy.count_relations import CountedSet

RULE = "R2"
PAST = "past"
"""First of the group of a count that an earlier study released."""


def hold_complements(
    drafts: Sequence[Draft], min_count: int, past: Mapping[str, Sequence[CountedSet]] | None = None
) -> list[Draft]:
    """The drafts without the cells from which a withheld count, or one of 1 … k-1, follows.

    All analyses of one population are looked at together: a table by sex and one by sex and age
    have their margins in common.

    Args:
        past: by population, what earlier studies counted in it. That cannot be withheld again:
            where it would have to be, the new study tells what was told before, and no more.
    """
    if min_count <= 1 or not any(draft.cells for draft in drafts):
        return list(drafts)
    from federated_analytics.privacy.complementary import protect

    tables = counted_sets(drafts)
    partial: dict[str, frozenset[str]] = defaultdict(frozenset)
    for draft in drafts:
        partial[draft.evidence.population] |= draft.evidence.partial
    taken: dict[int, list[Key]] = defaultdict(list)
    for (population, whole), counts in tables.items():
        before = list((past or {}).get(population, ())) if not whole else []
        groups = protect([*counts, *before], width=min_count, partial=partial[population])
        if any(group[0] == PAST for group in groups):  # type: ignore[index]
            told = {count.of for count in before if count.released}
            groups = {c.group for c in counts if c.released and c.of not in told}
        for group in groups:
            position, key = cast(tuple[int, Key], group)
            taken[position].append(key)
    return [draft.without(taken[i], RULE) for i, draft in enumerate(drafts)]


def counted_sets(drafts: Sequence[Draft]) -> dict[tuple[str, str], list[CountedSet]]:
    """Every count of a study, released or withheld, by population and what it is a part of."""
    from federated_analytics.privacy.count_relations import CountedSet

    tables: dict[tuple[str, str], list[CountedSet]] = defaultdict(list)
    for i, draft in enumerate(drafts):
        population = draft.evidence.population
        for key, value in _all_cells(draft):
            for persons, of in draft.evidence.counted(key, value):
                table = (i, key.variable, key.name)
                one = CountedSet(persons, of, (i, key), key in draft.cells, table)
                tables[population, _whole(of)].append(one)
    return tables


def _whole(of: PersonSet) -> str:
    """What a set is a part of, where that is not the population itself: see `OTHER_WHOLE`."""
    return next((name for name, _ in of if name.startswith(OTHER_WHOLE)), "")


def _all_cells(draft: Draft) -> list[tuple[Key, Aggregate]]:
    """Released cells as they would leave, withheld ones as they are."""
    return [(key, draft.cells.get(key, value)) for key, value in draft.evidence.table.items()]
