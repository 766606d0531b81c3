"""Whether sets of persons add up to another one but for a few persons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


class Probes:
    """A few thousand persons as bits of 64-bit words.

    Sets that differ by k persons among these differ by k: most that do not fit are found out
    without being decompressed.
    """

    def __init__(self, persons: set[int]) -> None:
        import numpy as np
        from pyroaring import BitMap64

        self._sorted = np.array(sorted(persons), dtype=np.uint64)
        self._bitmap = BitMap64(self._sorted)

    def mask(self, bitmap: Any) -> Mask:
        """Words in which bit i is set where the i-th probed person is in `bitmap`."""
        import numpy as np

        members = np.asarray((bitmap & self._bitmap).to_array(), dtype=np.uint64)
        bits = np.zeros(-(-len(self._sorted) // 64) * 64, dtype=np.bool_)
        bits[np.searchsorted(self._sorted, members)] = True
        return np.packbits(bits, bitorder="little").view("<u8").astype(np.uint64)

    def person(self, word: int, bit: int) -> int:
        """The person of one bit."""
        return int(self._sorted[64 * word + bit])


def spread(bitmap: Any, count: int) -> set[int]:
    """About `count` members of a bitmap, evenly by rank."""
    step = max(1, len(bitmap) // count)
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
    def of(cls, sets: Sequence[PersonBitmap], probes: Probes) -> Pieces:
        """The sets, each once; at least one."""
        import numpy as np

        distinct = {(s.persons, s.fingerprint): s for s in sets}
        ordered = [distinct[key] for key in sorted(distinct, reverse=True)]
        masks = np.stack([probes.mask(s.bitmap()) for s in ordered])
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
        fingerprint: sum over the pieces; equal for two ways to cover the same persons
    """

    rest: Any
    mask: Mask
    over: int
    fitting: NDArray[np.intp]
    left_out: frozenset[int] = frozenset()
    fingerprint: int = 0


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

    def almost_covers(self, whole: Any, *, over: int) -> bool:
        """Whether pieces make up `whole` but for 1 to k - 1 persons left out or too many.

        Args:
            whole: a bitmap of at least k persons.
            over: persons who are too many before any piece is added.
        """
        import numpy as np

        every = np.arange(len(self._pieces.sets))
        start = _State(whole, self._probes.mask(whole), over, every)
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
            known = state.fingerprint, state.left_out
            if not state.rest or known in self._seen:
                continue
            self._seen.add(known)
            # Reversed: the largest piece is the first that is tried.
            waiting += reversed(list(self._after(state, start)))
            if self._work > MAX_COMPARISONS:
                return True
        return False

    def _after(self, state: _State, start: _State) -> Iterator[_State]:
        """The next person is in one of the pieces, or is left out."""
        fitting = self._fitting(state)
        if self._uncovered(fitting, state.mask) + len(state.left_out) >= self._k:
            return
        word, bit = self._next_probe(state, start)
        candidates = fitting
        if bit:
            person = self._probes.person(word, bit.bit_length() - 1)
            candidates = fitting[(self._pieces.masks[fitting, word] & bit) != 0]
        else:
            person = int(state.rest.min())
        for position in candidates:
            yield from self._with(replace(state, fitting=fitting), int(position), person)
        if len(state.left_out) + 1 < self._k:
            yield self._leaving_out(person, state, fitting, word, bit)

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
                fingerprint=(state.fingerprint + piece.fingerprint) % 2**64,
            )

    def _leaving_out(
        self, person: int, state: _State, fitting: NDArray[np.intp], word: int, bit: int
    ) -> _State:
        rest, mask = state.rest.copy(), state.mask.copy()
        rest.discard(person)
        if bit:
            mask[word] &= ~mask.dtype.type(bit)
            fitting = fitting[(self._pieces.masks[fitting, word] & mask.dtype.type(bit)) == 0]
        left_out = state.left_out | {person}
        return replace(state, rest=rest, mask=mask, fitting=fitting, left_out=left_out)
