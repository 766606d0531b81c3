"""The places of withheld cells, as far as they may be told."""

from __future__ import annotations

from collections.abc import Mapping

from federated_analytics.aggregates.table import Cell, Key
from federated_analytics.messages import Withheld
from federated_analytics.privacy.draft import Withholding

NOWHERE = Key((), "", "", "")


def withheld_places(
    cells: tuple[Cell, ...], withheld: Mapping[Key, Withholding], public: frozenset[str]
) -> tuple[Withheld, ...]:
    """The places of withheld cells, without any text that only their persons' rows hold.

    A level such as a rare diagnosis or a free text is itself a disclosure when the cell behind
    it is withheld; its place is then told without it.
    """
    known = public | {text for cell in cells for text in _texts(cell.key)}
    return tuple(
        Withheld(
            key if all(text in known for text in _texts(key)) else NOWHERE, why.rule, why.below
        )
        for key, why in sorted(withheld.items(), key=lambda item: item[0])
    )


def _texts(key: Key) -> list[str]:
    return [key.variable, key.level, *(level for _, level in key.strata)]
