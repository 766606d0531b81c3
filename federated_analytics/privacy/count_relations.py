"""How counts of persons follow from each other: every one is a sum over cells of a common table."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from federated_analytics.aggregates.person_set import ANY_VALUE, Interval, PersonSet
from federated_analytics.privacy.count_blocks import Block, Dimension, blocks_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Columns = NDArray[np.int64]
    Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class CountedSet:
    """One count that is released or withheld.

    Fields:
        persons: the true count, known at the site
        of: which persons
        group: what is withheld together, a cell's key
        released: False where a rule withholds it already
        table: counts of one table name all of its cells that hold anybody: a combination of
            levels that is not among them is known to be empty
    """

    persons: int
    of: PersonSet
    group: Hashable
    released: bool
    table: Hashable = None

    @property
    def dimensions(self) -> frozenset[str]:
        return frozenset(name for name, _ in self.of)


@dataclass(frozen=True)
class Relations:
    """All sums: which columns each is of, and which sums of different blocks are equal.

    Fields:
        sum_of: the sum that counts of these persons equal, a position in `sums`
        sums: the columns of each sum, once for each block that can tell it
        links: pairs of columns with equal sums, of two blocks
        doubtful: columns that are empty unless the counts say otherwise
    """

    blocks: tuple[Block, ...]
    sum_of: Mapping[PersonSet, int]
    sums: tuple[tuple[Columns, ...], ...]
    links: tuple[tuple[Columns, Columns], ...]
    doubtful: Columns

    @property
    def size(self) -> int:
        return sum(block.columns.size for block in self.blocks)

    def without_empty(self, cells: Numbers) -> Relations:
        """Without the doubtful columns that hold nobody: sums that are then the same are one."""
        import numpy as np

        kept = np.ones(self.size, dtype=bool)
        kept[self.doubtful] = cells[self.doubtful] != 0
        position: dict[tuple[bytes, ...], int] = {}
        sums: list[tuple[Columns, ...]] = []
        new: list[int] = []
        for arrays in self.sums:
            left = tuple(columns[kept[columns]] for columns in arrays)
            new.append(position.setdefault(tuple(c.tobytes() for c in left), len(sums)))
            if new[-1] == len(sums):
                sums.append(left)
        links = tuple((a[kept[a]], b[kept[b]]) for a, b in self.links)
        sum_of = {persons: new[i] for persons, i in self.sum_of.items()}
        return Relations(self.blocks, sum_of, tuple(sums), links, np.flatnonzero(~kept))


def relations(counts: Sequence[CountedSet], partial: frozenset[str]) -> Relations:
    """The linear relations among counts."""
    named: dict[str, set[str | Interval]] = {}
    for count in counts:
        for name, level in count.of:
            named.setdefault(name, set()).add(level)
    dimensions = {n: Dimension.of(levels, n in partial) for n, levels in named.items()}
    blocks = blocks_of({c.dimensions for c in counts}, dimensions)
    sets = tuple(dict.fromkeys(count.of for count in counts))
    sums = tuple(
        tuple(block.of(s) for block in blocks if block.covers(name for name, _ in s)) for s in sets
    )
    sum_of = {persons: i for i, persons in enumerate(sets)}
    return Relations(blocks, sum_of, sums, _links(blocks, set(sets)), _doubtful(blocks, counts))


def _links(blocks: Sequence[Block], counted: set[PersonSet]) -> tuple[tuple[Columns, Columns], ...]:
    """Equal margins of neighbours in the tree of blocks that have most in common.

    A margin that is a count stands in both blocks as that count's sum, and needs no link.
    """
    links: list[tuple[Columns, Columns]] = []
    joined = list(blocks[:1])
    rest = list(blocks[1:])
    while rest:
        a, b = max(
            ((a, b) for a in joined for b in rest),
            key=lambda pair: len(set(pair[0].names) & set(pair[1].names)),
        )
        rest.remove(b)
        joined.append(b)
        links += _common_margins(a, b, counted)
    return tuple(links)


def _common_margins(
    a: Block, b: Block, counted: set[PersonSet]
) -> Iterable[tuple[Columns, Columns]]:
    import numpy as np

    common = sorted(set(a.names) & set(b.names))
    told = {s for s in counted if {name for name, _ in s} == set(common)}
    known = {tuple(_atoms_of(s, common, a)) for s in told}
    left, right = (_margin_first(block, common) for block in (a, b))
    for cell in np.ndindex(*left.shape[: len(common)]):
        if tuple((i,) for i in cell) not in known:
            yield left[cell].ravel(), right[cell].ravel()


def _atoms_of(persons: PersonSet, names: Sequence[str], block: Block) -> list[tuple[int, ...]]:
    level = dict(persons)
    return [tuple(block.dimensions[name].atoms(level[name])) for name in names]


def _margin_first(block: Block, names: Sequence[str]) -> Columns:
    axes = [block.names.index(name) for name in names]
    rest = [axis for axis in range(len(block.names)) if axis not in axes]
    return block.columns.transpose(axes + rest)


def _doubtful(blocks: Sequence[Block], counts: Sequence[CountedSet]) -> Columns:
    """Columns that nobody is in unless the counts say so.

    These are persons outside of every named level of a dimension that is not partial, and the
    combinations of levels that a table does not name.
    """
    import numpy as np

    size = sum(block.columns.size for block in blocks)
    doubtful = np.zeros(size, dtype=bool)
    tables: dict[Hashable, list[PersonSet]] = {}
    for count in counts:
        shape = frozenset((name, level == ANY_VALUE) for name, level in count.of)
        tables.setdefault((count.table, shape), []).append(count.of)
    for block in blocks:
        for axis, name in enumerate(block.names):
            if not block.dimensions[name].partial:
                doubtful[np.take(block.columns, -1, axis=axis)] = True
    for sets in tables.values():
        names = [name for name, _ in sets[0]]
        block = next(block for block in blocks if block.covers(names))
        doubtful[_uncovered(block, sets)] = True
    return np.flatnonzero(doubtful)


def _uncovered(block: Block, sets: Sequence[PersonSet]) -> Columns:
    """The columns of a table's named atoms in which none of its counts is."""
    import numpy as np

    asked = np.ones(block.columns.shape, dtype=bool)
    levels: dict[str, set[str | Interval]] = {}
    for name, level in itertools.chain(*sets):
        levels.setdefault(name, set()).add(level)
    for name, named in levels.items():
        dimension = block.dimensions[name]
        part = np.zeros(dimension.size, dtype=bool)
        part[dimension.pieces : -1] = named != {ANY_VALUE}
        part[: dimension.pieces] = any(not isinstance(level, str) for level in named)
        shape = [1] * len(block.names)
        shape[block.names.index(name)] = -1
        asked &= part.reshape(shape)
    empty = asked.ravel()
    for persons in sets:
        empty[block.of(persons) - block.offset] = False
    return block.columns.ravel()[empty]
