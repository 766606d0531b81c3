"""R1, R6, R7: no released number rests on 1 … k-1 persons."""

from __future__ import annotations

from collections.abc import Mapping

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.normal_equations import NormalEquations
from federated_analytics.aggregates.risk_table import RiskTable
from federated_analytics.aggregates.table import Key
from federated_analytics.privacy.draft import Draft, Withholding

RULE = "R1"
OWN_RULES: Mapping[type[Aggregate], str] = {RiskTable: "R6", NormalEquations: "R7"}
"""What is behind `guarded` of an aggregate that holds enough persons, where it is not R1."""


def hold_minimum_count(draft: Draft, min_count: int, *, zero_is_sensitive: bool = False) -> Draft:
    """The draft without the numbers that rest on too few persons.

    An aggregate that can be made safe by itself (`Aggregate.guarded`) stays in that form.
    """
    cells: dict[Key, Aggregate] = {}
    withheld: dict[Key, Withholding] = {}
    for key, aggregate in sorted(draft.cells.items()):
        safe = aggregate.guarded(min_count)
        if safe is None or (zero_is_sensitive and not any(safe.support)):
            withheld[key] = _withholding(aggregate, min_count, zero_is_sensitive)
        else:
            cells[key] = safe
    return Draft(draft.evidence, cells, {**draft.withheld, **withheld})


def _withholding(aggregate: Aggregate, min_count: int, zero_is_sensitive: bool) -> Withholding:
    """Of few persons, R1; of enough, the rule that found a smaller group among them."""
    persons = shown = next(iter(aggregate.support), 0)
    if isinstance(aggregate, RiskTable):
        persons, shown = aggregate.persons, aggregate.events
    rule = RULE if persons < min_count else OWN_RULES.get(type(aggregate), RULE)
    is_few = 0 < shown < min_count and not zero_is_sensitive
    return Withholding(rule, min_count if is_few else 0)
