"""R1: no released number rests on 1 … k-1 persons."""

from __future__ import annotations

from federated_analytics.aggregates.table import Cell, Key, Table
from federated_analytics.messages import Withheld

RULE = "R1"


def suppress(table: Table, min_count: int) -> tuple[tuple[Cell, ...], tuple[Withheld, ...]]:
    """The cells that may leave, and the places of those that may not.

    An aggregate that can be made safe by itself (`Aggregate.guarded`) is released in that form.
    """
    cells: list[Cell] = []
    withheld: list[Withheld] = []
    for key, aggregate in sorted(table.items()):
        safe = aggregate.guarded(min_count)
        if safe is None:
            withheld.append(Withheld(key, RULE))
        else:
            cells.append(Cell(key, safe))
    return tuple(cells), tuple(withheld)


def withheld_places(
    cells: tuple[Cell, ...], withheld: tuple[Withheld, ...], public: frozenset[str]
) -> tuple[Withheld, ...]:
    """The places of withheld cells, without any text that only their persons' rows hold.

    A level such as a rare diagnosis or a free text is itself a disclosure when the cell behind
    it is withheld; its place is then told without it.
    """
    known = public | {text for cell in cells for text in _texts(cell.key)}
    return tuple(
        w if all(text in known for text in _texts(w.key)) else Withheld(Key((), "", "", ""), w.rule)
        for w in withheld
    )


def _texts(key: Key) -> list[str]:
    return [key.variable, key.level, *(level for _, level in key.strata)]
