"""The places of withheld cells, as far as they may be told."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from federated_analytics.aggregates.table import Cell, Key, Strata
from federated_analytics.messages import Withheld
from federated_analytics.privacy.draft import Withholding

NOWHERE = Key((), "", "", "")
_Place = tuple[frozenset[tuple[str, str]], str, str, str]


def withheld_places(
    cells: tuple[Cell, ...], withheld: Mapping[Key, Withholding], public: frozenset[str]
) -> tuple[Withheld, ...]:
    """The places of withheld cells, without any text that only their persons' rows hold.

    A level such as a rare diagnosis or a free text is itself a disclosure when the cell behind
    it is withheld; its place is then told without it.
    """
    known = public | {text for cell in cells for text in _texts(cell.key)}
    small = {_place(key, key.strata) for key, why in withheld.items() if why.below}
    return tuple(
        Withheld(NOWHERE, why.rule)
        if _is_within(key, small) or not all(text in known for text in _texts(key))
        else Withheld(key, why.rule, why.below)
        for key, why in sorted(withheld.items(), key=lambda item: item[0])
    )


def _is_within(key: Key, small: set[_Place]) -> bool:
    """Whether a cell lies in a wider one that is said to be small.

    Four named cells within one of 1 to 4 persons would each be known to be one person.
    """
    return any(
        _place(key, tuple(part)) in small
        for size in range(len(key.strata))
        for part in combinations(key.strata, size)
    )


def _place(key: Key, strata: Strata) -> _Place:
    return frozenset(strata), key.variable, key.level, key.name


def _texts(key: Key) -> list[str]:
    return [key.variable, key.level, *(level for _, level in key.strata)]
