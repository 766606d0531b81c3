"""R2 over a whole study: no withheld count can be told from what its other tables release."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.person_set import OTHER_WHOLE, PersonSet
from federated_analytics.aggregates.table import Key
from federated_analytics.privacy.draft import Draft

RULE = "R2"


def hold_complements(drafts: Sequence[Draft], min_count: int) -> list[Draft]:
    """The drafts without the cells from which a withheld count, or one of 1 … k-1, follows.

    All analyses of one population are looked at together: a table by sex and one by sex and age
    have their margins in common.
    """
    if min_count <= 1 or not any(draft.cells for draft in drafts):
        return list(drafts)
    from federated_analytics.privacy.complementary import CountedSet, protect

    tables: dict[tuple[str, str], list[CountedSet]] = defaultdict(list)
    partial: dict[str, frozenset[str]] = defaultdict(frozenset)
    for i, draft in enumerate(drafts):
        population = draft.evidence.population
        partial[population] |= draft.evidence.partial
        for key, value in _all_cells(draft):
            for persons, of in draft.evidence.counted(key, value):
                one = CountedSet(persons, of, (i, key), key in draft.cells)
                tables[population, _whole(of)].append(one)
    taken: dict[int, list[Key]] = defaultdict(list)
    for (population, _), counts in tables.items():
        for i, key in protect(counts, width=min_count, partial=partial[population]):  # type: ignore[misc]
            taken[i].append(key)
    return [draft.without(taken[i], RULE) for i, draft in enumerate(drafts)]


def _whole(of: PersonSet) -> str:
    """What a set is a part of, where that is not the population itself: see `OTHER_WHOLE`."""
    return next((name for name, _ in of if name.startswith(OTHER_WHOLE)), "")


def _all_cells(draft: Draft) -> list[tuple[Key, Aggregate]]:
    """Released cells as they would leave, withheld ones as they are."""
    return [(key, draft.cells.get(key, value)) for key, value in draft.evidence.table.items()]
