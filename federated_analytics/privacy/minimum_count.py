"""R1: no released number rests on 1 … k-1 persons."""

from __future__ import annotations

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.table import Key
from federated_analytics.privacy.draft import Draft, Withholding

RULE = "R1"


def hold_minimum_count(draft: Draft, min_count: int, *, zero_is_sensitive: bool = False) -> Draft:
    """The draft without the numbers that rest on too few persons.

    An aggregate that can be made safe by itself (`Aggregate.guarded`) stays in that form.
    """
    cells: dict[Key, Aggregate] = {}
    withheld: dict[Key, Withholding] = {}
    for key, aggregate in sorted(draft.cells.items()):
        safe = aggregate.guarded(min_count)
        if safe is None or (zero_is_sensitive and not any(safe.support)):
            few = all(n < min_count for n in aggregate.support[:1])
            below = min_count if few and not zero_is_sensitive else 0
            withheld[key] = Withholding(RULE, below)
        else:
            cells[key] = safe
    return Draft(draft.evidence, cells, {**draft.withheld, **withheld})
