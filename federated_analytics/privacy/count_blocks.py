"""Tables over the finest parts of dimensions, whose cells every count is a sum of."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from federated_analytics.aggregates.person_set import ANY_VALUE, Interval, PersonSet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Columns = NDArray[np.int64]

MOST_CELLS = 50_000
"""Tables are joined into one only up to this size; see `blocks_of`."""


@dataclass(frozen=True)
class Dimension:
    """The finest parts, "atoms", into which the named levels and intervals divide a dimension.

    Fields:
        cuts: the ends of all intervals, ascending: atom i is [cuts[i], cuts[i + 1])
        levels: the atoms of the levels that are text, after those of the intervals
        partial: may persons be outside of everything named? They are the last atom
        coded_twice: do intervals overlap? Then runs of atoms are differences of counts
    """

    cuts: tuple[float, ...]
    levels: Mapping[str, int]
    partial: bool
    coded_twice: bool

    @classmethod
    def of(cls, named: Iterable[str | Interval], partial: bool) -> Dimension:
        intervals = sorted({level for level in named if not isinstance(level, str)})
        texts = sorted({level for level in named if isinstance(level, str)})
        cuts = tuple(sorted({end for interval in intervals for end in interval}))
        inner = [interval for interval in intervals if interval != ANY_VALUE]
        overlap = any(a[1] > b[0] for a, b in itertools.pairwise(inner))
        first = max(len(cuts) - 1, 0)
        return cls(cuts, {text: first + i for i, text in enumerate(texts)}, partial, overlap)

    @property
    def size(self) -> int:
        return self.pieces + len(self.levels) + 1

    @property
    def pieces(self) -> int:
        """Atoms of the intervals."""
        return max(len(self.cuts) - 1, 0)

    def atoms(self, level: str | Interval) -> list[int]:
        if isinstance(level, str):
            return [self.levels[level]]
        return list(range(self.cuts.index(level[0]), self.cuts.index(level[1])))


@dataclass(frozen=True)
class Block:
    """A table over the atoms of some dimensions; its cells are columns of the linear programme."""

    names: tuple[str, ...]
    dimensions: Mapping[str, Dimension] = field(repr=False)
    offset: int

    @cached_property
    def columns(self) -> Columns:
        """Shape: one axis a dimension, as in `names`."""
        import numpy as np

        shape = tuple(self.dimensions[name].size for name in self.names)
        return np.arange(self.offset, self.offset + math.prod(shape)).reshape(shape)

    def covers(self, dims: Iterable[str]) -> bool:
        return set(dims) <= set(self.names)

    def of(self, persons: PersonSet) -> Columns:
        """The columns of which a count of these persons is the sum."""
        import numpy as np

        level = dict(persons)
        parts = [
            self.dimensions[name].atoms(level[name])
            if name in level
            else list(range(self.dimensions[name].size))
            for name in self.names
        ]
        return self.columns[np.ix_(*parts)].ravel() if parts else self.columns.ravel()


def blocks_of(
    asked: Iterable[frozenset[str]], dimensions: Mapping[str, Dimension]
) -> tuple[Block, ...]:
    """A table for each largest set of dimensions that are counted together.

    Tables that agree in their common margins are tables of the same persons when their
    dimensions form no cycle (Vorob'ev 1962). Those of a cycle (a × b, b × c, a × c) are joined
    into one, unless it has more than `MOST_CELLS` cells: then only their margins are compared.
    """
    largest = _largest(asked)
    while core := _cyclic(largest):
        pairs = [(a | b, a, b) for a in core for b in core if a != b and a & b]
        size = {u: math.prod(dimensions[n].size for n in u) for u, _, _ in pairs}
        smallest = min(pairs, key=lambda p: (size[p[0]], sorted(p[0]), sorted(p[1])))
        if size[smallest[0]] > MOST_CELLS:
            break
        largest = _largest((*largest, smallest[0]))
    found: list[Block] = []
    offset = 0
    for dims in sorted(largest, key=sorted):
        found.append(Block(tuple(sorted(dims)), dimensions, offset))
        offset += math.prod(dimensions[name].size for name in dims)
    return tuple(found)


def _largest(asked: Iterable[frozenset[str]]) -> list[frozenset[str]]:
    all_of = set(asked)
    return [dims for dims in all_of if not any(dims < other for other in all_of)]


def _cyclic(edges: Sequence[frozenset[str]]) -> list[frozenset[str]]:
    """What remains when leaves are taken away until none is left: nothing where no cycle is.

    References: Graham (1979), "On the universal relation"; Yu & Ozsoyoglu (1979)
    """
    rest = {edge: set(edge) for edge in edges}
    changed = True
    while changed and rest:
        changed = False
        for edge, left in list(rest.items()):
            others = [other for key, other in rest.items() if key != edge]
            shared = {name for name in left if any(name in other for other in others)}
            if shared != left:
                rest[edge] = shared
                changed = True
            if not shared or any(shared <= other for other in others):
                del rest[edge]
                changed = True
    return list(rest)
