"""R3 on what is left of a total: no remainder of which one person makes up most of the sum.

The sum over withheld groups is their margin's less those of the released ones. Two withheld
groups that R2 makes sure cannot be told apart may still be one person's bill together: a ward
of one patient beside one of thirty with small bills.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.moments import Moments
from federated_analytics.aggregates.records import Records
from federated_analytics.aggregates.table import Key, Strata
from federated_analytics.privacy.draft import Draft

RULE = "R3"
SUMMED = (Moments, Records)
"""What says of the sum over several groups, too, how much of it is one person's."""
Group = frozenset[tuple[str, str]]
Grouping = frozenset[str]
Protect = Callable[[list[Draft]], list[Draft]]


def hold_remainders(drafts: Sequence[Draft], largest_share: float, protect: Protect) -> list[Draft]:
    """The drafts without the sums through which a remainder would be mostly one person's.

    Looked at are a margin less the groups of one stratum, of all strata crossed, or of one
    stratum with the withheld of its levels divided further. Remainders of several margins that
    are added up or subtracted from each other are not, nor are those of an earlier study.

    Args:
        largest_share: of a remainder that one person may be, 0 to 1.
        protect: R2, which sees that what is withheld here does not follow from the rest.
    """
    held = list(drafts)
    while taken := _to_withhold(held, largest_share):
        held = protect([d.without(taken.get(i, ()), RULE) for i, d in enumerate(held)])
    return held


def _to_withhold(drafts: Sequence[Draft], largest_share: float) -> dict[int, list[Key]]:
    """One more group of every remainder that is mostly one person's, by draft."""
    if all(key in draft.cells for draft in drafts for key in draft.evidence.table):
        return {}  # nothing is withheld, and nothing is left of a margin
    taken: dict[int, list[Key]] = defaultdict(list)
    for table in _tables(drafts):
        for remainder in table.remainders():
            values = [table.values[group] for group in remainder.withheld]
            if _merged(values).largest_share() <= largest_share:
                continue
            group = _cheapest(table, values, remainder.released, largest_share)
            for i, key in table.places[group]:
                taken[i].append(key)
    return taken


def _cheapest(
    table: _Table, values: Sequence[Aggregate], released: Iterable[Group], largest_share: float
) -> Group:
    """The released group of fewest persons that hides the person; else the one that best does."""

    def price(group: Group) -> tuple[bool, float, list[tuple[str, str]]]:
        share = _merged([*values, table.values[group]]).largest_share()
        hides = share <= largest_share
        return not hides, table.values[group].support[0] if hides else share, sorted(group)

    return min(released, key=price)


def _merged(values: Sequence[Aggregate]) -> Aggregate:
    return reduce(lambda left, right: left.merge(right), values)


@dataclass(frozen=True)
class _Remainder:
    """Withheld groups whose sum follows from a margin and released groups."""

    withheld: tuple[Group, ...]
    released: tuple[Group, ...]


@dataclass(frozen=True)
class _Table:
    """The cells of one feature in one population, over all analyses that ask for it.

    Fields:
        values: what each group's cell is, released or not
        places: the released ones, by draft and key; of a withheld one, nothing
    """

    values: Mapping[Group, Aggregate]
    places: Mapping[Group, Sequence[tuple[int, Key]]]

    def remainders(self) -> Iterator[_Remainder]:
        by_names: dict[Grouping, list[Group]] = defaultdict(list)
        for group in sorted(self.values, key=sorted):
            by_names[frozenset(name for name, _ in group)].append(group)
        for names, groups in by_names.items():
            for finer in (other for other in by_names if names < other):
                inner = [f for f in by_names if finer < f]
                for whole in groups:
                    if whole not in self.places:
                        continue
                    parts = [part for part in by_names[finer] if whole <= part]
                    yield from self._left(parts, [])
                    for finest in inner:
                        yield from self._left(parts, by_names[finest])

    def _left(self, parts: Sequence[Group], finest: Sequence[Group]) -> Iterator[_Remainder]:
        """What is left of a margin; withheld parts are divided where `finest` groups are given."""
        withheld: list[Group] = []
        released: list[Group] = []
        for part in parts:
            smaller = [group for group in finest if part <= group]
            divided = smaller if smaller and part not in self.places else [part]
            for group in divided:
                (released if group in self.places else withheld).append(group)
        if withheld and released:
            yield _Remainder(tuple(withheld), tuple(released))


def _tables(drafts: Sequence[Draft]) -> list[_Table]:
    """One for each feature and aggregate that has a sum of which one person may be a part."""
    values: dict[tuple[str, str, str, str], dict[Group, Aggregate]] = defaultdict(dict)
    places: dict[tuple[str, str, str, str], dict[Group, list[tuple[int, Key]]]]
    places = defaultdict(lambda: defaultdict(list))
    for i, draft in enumerate(drafts):
        for key, value in draft.evidence.table.items():
            if not isinstance(value, SUMMED):
                continue
            table = draft.evidence.population, key.variable, key.level, key.name
            group = _group(key.strata)
            values[table][group] = value
            if key in draft.cells:
                places[table][group].append((i, key))
    return [
        _Table(values[table], dict(places[table]))
        for table in values
        if len(places[table]) < len(values[table])
    ]


def _group(strata: Strata) -> Group:
    return frozenset(strata)
