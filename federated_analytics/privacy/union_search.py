"""Whether sets of persons add up to another one but for a few persons."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from federated_analytics.privacy.person_bitmap import PersonBitmap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Mask = NDArray[np.uint64]

MAX_COMPARISONS = 2_000_000
"""Of pieces with what is still to be covered. A search that takes more ends as if it had found
something. Populations divided tenfold, and each part tenfold again, take some 12,000."""
MOST_LISTED = 100_000
"""Persons of a set who are listed to take some of them; of a larger one each is looked up."""


class Probes:
    """A few thousand persons as bits of 64-bit words.

    Sets that differ by k persons among these differ by k: most that do not fit are found out
    without being decompressed.

    Args:
        beside: other probes, whose words come first. No person is a bit of both: to leave out
            one would count as two.
    """

    def __init__(self, persons: set[int], beside: Probes | None = None) -> None:
        import numpy as np
        from pyroaring import BitMap64

        self._beside: Probes | None = beside

        self._sorted = np.array(sorted(persons), dtype=np.uint64)
        if beside is not None:
            assert beside._beside is None
            self._sorted = np.setdiff1d(self._sorted, beside._sorted, assume_unique=True)
        self._bitmap = BitMap64(array("Q", self._sorted.tobytes()))
        self._first: int = beside.words if beside else 0
        self.words: int = self._first + -(-len(self._sorted) // 64)

    def mask(self, bitmap: Any, known: Mask | None = None) -> Mask:
        """Words in which bit i is set where the i-th probed person is in `bitmap`.

        Args:
            known: the mask of the probes beside, where it is at hand.
        """
        import numpy as np

        members = np.asarray((bitmap & self._bitmap).to_array(), dtype=np.uint64)
        bits = np.zeros(64 * (self.words - self._first), dtype=np.bool_)
        bits[np.searchsorted(self._sorted, members)] = True
        mask = np.packbits(bits, bitorder="little").view("<u8").astype(np.uint64)
        if self._beside is None:
            return mask
        return np.concatenate([self._beside.mask(bitmap) if known is None else known, mask])

    def person(self, word: int, bit: int) -> int:
        """The person of one bit."""
        if self._beside is not None and word < self._first:
            return self._beside.person(word, bit)
        return int(self._sorted[64 * (word - self._first) + bit])


def spread(bitmap: Any, count: int) -> set[int]:
    """About `count` members of a bitmap, evenly by rank."""
    step = max(1, len(bitmap) // count)
    if len(bitmap) <= MOST_LISTED:
        return set(bitmap.to_array()[step // 2 :: step])
    return {int(bitmap[rank]) for rank in range(step // 2, len(bitmap), step)}


@dataclass(frozen=True)
class Pieces:
    """The sets of a search, largest first.

    Shapes: masks: uint64[pieces, words], which of the probed persons are in each; sizes:
    int64[pieces], persons
    """

    sets: Sequence[PersonBitmap]
    masks: NDArray[np.uint64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, sets: Mapping[PersonBitmap, Mask]) -> Pieces:
        """The sets with their masks; at least one."""
        import numpy as np

        ordered = sorted(sets, key=lambda s: s.persons, reverse=True)
        masks = np.stack([sets[s] for s in ordered])
        return cls(ordered, masks, np.array([s.persons for s in ordered], dtype=np.int64))


@dataclass(frozen=True)
class _State:
    """A search half-way.

    Fields:
        rest: who is still to be covered
        mask: the probed of them
        over: persons that the pieces hold too many
        fitting: positions of pieces that fitted one step before; what does not fit never will
        left_out: persons that no piece is to cover
        pieces: positions of those that were taken
    """

    rest: Any
    mask: Mask
    over: int
    fitting: NDArray[np.intp]
    left_out: frozenset[int] = frozenset()
    pieces: tuple[int, ...] = ()


class UnionSearch:
    """Searches for pieces, disjoint but for fewer than k persons, that make up a set.

    Args:
        k: fewer persons than this may be left out, and fewer be too many.
    """

    def __init__(self, probes: Probes, pieces: Pieces, k: int) -> None:
        self._probes = probes
        self._pieces = pieces
        self._k = k
        self._work = 0
        self._seen: set[tuple[int, frozenset[int]]] = set()

    def may_cover(self, mask: Mask) -> bool:
        """False where k of the probed persons are in no piece that fits."""
        import numpy as np

        outside = np.bitwise_count(self._pieces.masks & ~mask).sum(axis=1)
        return self._uncovered(np.flatnonzero(outside < self._k), mask) < self._k

    def almost_covers(self, whole: Any, *, over: int, mask: Mask) -> bool:
        """Whether pieces make up `whole` but for 1 to k - 1 persons left out or too many.

        Args:
            whole: a bitmap of at least k persons.
            over: persons who are too many before any piece is added.
            mask: which of the probed persons are in `whole`.
        """
        import numpy as np

        start = _State(whole, mask, over, np.arange(len(self._pieces.sets)))
        fitting = self._fitting(start)
        if int(self._pieces.sizes[fitting].sum()) + self._k <= len(whole):
            return False
        self._seen = set()
        return self._search(replace(start, fitting=fitting))

    def _fitting(self, state: _State) -> NDArray[np.intp]:
        import numpy as np

        room = self._k - state.over
        small = state.fitting[self._pieces.sizes[state.fitting] < len(state.rest) + room]
        self._work += len(small)
        outside = np.bitwise_count(self._pieces.masks[small] & ~state.mask).sum(axis=1)
        fitting: NDArray[np.intp] = small[outside < room]
        return fitting

    def _uncovered(self, positions: NDArray[np.intp], mask: Mask) -> int:
        import numpy as np

        together = np.bitwise_or.reduce(self._pieces.masks[positions], axis=0)
        return int(np.bitwise_count(mask & ~together).sum())

    def _search(self, start: _State) -> bool:
        """Depth first, without recursion: a partition may have hundreds of parts."""
        waiting = [start]
        while waiting:
            state = waiting.pop()
            left = len(state.rest) + len(state.left_out)
            if left < self._k and (left or state.over):
                return True
            if not state.rest:
                continue
            state = replace(state, fitting=self._fitting(state))
            if self._work > MAX_COMPARISONS:
                return True
            uncovered = self._uncovered(state.fitting, state.mask)
            if uncovered + len(state.left_out) >= self._k or self._is_seen(state):
                continue
            # Reversed: the largest piece is the first that is tried.
            waiting += reversed(list(self._after(state, start)))
        return False

    def _is_seen(self, state: _State) -> bool:
        """Whether the same persons were covered in another way before."""
        # A fingerprint is a walk over the persons of a set: it is asked for last.
        covered = sum(self._pieces.sets[p].fingerprint for p in state.pieces) % 2**64
        known = covered, state.left_out
        if known in self._seen:
            return True
        self._seen.add(known)
        return False

    def _after(self, state: _State, start: _State) -> Iterator[_State]:
        """The next person is in one of the pieces, or is left out."""
        fitting = state.fitting
        word, bit = self._next_probe(state, start)
        candidates = fitting
        if bit:
            person = self._probes.person(word, bit.bit_length() - 1)
            candidates = fitting[(self._pieces.masks[fitting, word] & bit) != 0]
        else:
            person = int(state.rest.min())
        for position in candidates:
            yield from self._with(state, int(position), person)
        if len(state.left_out) + 1 < self._k:
            yield from self._leaving_out(person, state, fitting, word, bit)

    def _next_probe(self, state: _State, start: _State) -> tuple[int, int]:
        """Word and bit of the probed person who is to be covered next; bit 0 where all are.

        One of the smallest piece that is covered in part. Where populations are divided again
        and again, a division is then finished before the next is begun, and the many ways to
        cover one population by its parts meet in one state.
        """
        import numpy as np

        masks = self._pieces.masks[start.fitting]
        done = start.mask & ~state.mask
        partial = (masks & state.mask).any(axis=1) & (masks & done).any(axis=1)
        rows = np.flatnonzero(partial)
        mask = state.mask & masks[rows[-1]] if len(rows) else state.mask
        words = np.flatnonzero(mask)
        if not len(words):
            return 0, 0
        lowest = int(mask[words[0]])
        return int(words[0]), lowest & -lowest

    def _with(self, state: _State, position: int, person: int) -> Iterator[_State]:
        """The state with one more piece; none where it does not cover the next person."""
        piece = self._pieces.sets[position]
        bitmap = piece.bitmap()
        if person not in bitmap or any(p in bitmap for p in state.left_out):
            return
        over = state.over + bitmap.difference_cardinality(state.rest)
        if over < self._k:
            yield replace(
                state,
                rest=state.rest - bitmap,
                mask=state.mask & ~self._pieces.masks[position],
                over=over,
                pieces=(*state.pieces, position),
            )

    def _leaving_out(
        self, person: int, state: _State, fitting: NDArray[np.intp], word: int, bit: int
    ) -> Iterator[_State]:
        """The state without one person; none where the pieces without her leave out too many."""
        mask, left_out = state.mask, state.left_out | {person}
        if bit:
            mask = mask.copy()
            mask[word] &= ~mask.dtype.type(bit)
            fitting = fitting[(self._pieces.masks[fitting, word] & mask.dtype.type(bit)) == 0]
        if self._uncovered(fitting, mask) + len(left_out) >= self._k:
            return
        rest = state.rest.copy()
        rest.discard(person)
        yield replace(state, rest=rest, mask=mask, fitting=fitting, left_out=left_out)
