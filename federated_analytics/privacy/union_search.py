"""Whether sets of persons add up to another one but for a few persons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from federated_analytics.privacy.person_bitmap import PersonBitmap

MAX_COMPARISONS = 2_000_000
"""Of pieces with what is still to be covered. A search that takes more ends as if it had found
something: about two seconds. Populations that are divided tenfold, and each part tenfold again,
take some 20,000."""


@dataclass(frozen=True)
class Piece:
    """A set in the search; `mask` says which of the probed persons are in it."""

    persons: PersonBitmap
    mask: int


class Probes:
    """A few thousand persons as the bits of an integer.

    Sets that differ by k persons among these differ by k: most that do not fit are found out
    without being decompressed.
    """

    def __init__(self, persons: set[int]) -> None:
        import numpy as np
        from pyroaring import BitMap64

        self._sorted = np.array(sorted(persons), dtype=np.uint64)
        self._bitmap = BitMap64(self._sorted)

    def mask(self, bitmap: Any) -> int:
        """Bit i is set where the i-th probed person is in `bitmap`."""
        import numpy as np

        members = np.asarray((bitmap & self._bitmap).to_array(), dtype=np.uint64)
        bits = np.zeros(len(self._sorted), dtype=np.bool_)
        bits[np.searchsorted(self._sorted, members)] = True
        return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")

    def person(self, bit: int) -> int:
        """The person of a mask with one bit."""
        return int(self._sorted[bit.bit_length() - 1])


def spread(bitmap: Any, count: int) -> set[int]:
    """About `count` members of a bitmap, evenly by rank."""
    step = max(1, len(bitmap) // count)
    return {int(bitmap[rank]) for rank in range(step // 2, len(bitmap), step)}


@dataclass(frozen=True)
class _State:
    """A search half-way.

    Fields:
        rest: who is still to be covered
        mask: the probed of them
        over: persons that the pieces hold too many
        pieces: those that fitted one step before; what does not fit once never will
        left_out: persons that no piece is to cover
        never: the probed of them
        fingerprint: sum over the pieces; equal for two ways to cover the same persons
    """

    rest: Any
    mask: int
    over: int
    pieces: Sequence[Piece]
    left_out: frozenset[int] = frozenset()
    never: int = 0
    fingerprint: int = 0


class UnionSearch:
    """Searches for pieces, disjoint but for fewer than k persons, that make up a set.

    Args:
        k: fewer persons than this may be left out, and fewer be too many.
    """

    def __init__(self, probes: Probes, k: int) -> None:
        self._probes = probes
        self._k = k
        self._work = 0
        self._seen: set[tuple[int, frozenset[int]]] = set()

    def may_cover(self, pieces: Sequence[Piece], mask: int) -> bool:
        """False where k of the probed persons are in no piece that fits."""
        outside = ~mask
        fitting = [p for p in pieces if (p.mask & outside).bit_count() < self._k]
        return self._uncovered(fitting, mask) < self._k

    def _uncovered(self, pieces: Iterable[Piece], mask: int) -> int:
        together = 0
        for piece in pieces:
            together |= piece.mask
        return (mask & ~together).bit_count()

    def almost_covers(self, pieces: Sequence[Piece], whole: Any, *, over: int) -> bool:
        """Whether pieces make up `whole` but for 1 to k - 1 persons left out or too many.

        Args:
            whole: a bitmap of at least k persons.
            over: persons who are too many before any piece is added.
        """
        start = _State(whole, self._probes.mask(whole), over, pieces)
        fitting = self._fitting(start)
        if self._uncovered(fitting, start.mask) >= self._k:
            return False
        if sum(len(p.persons) for p in fitting) + self._k <= len(whole):
            return False
        self._seen = set()
        fitting.sort(key=lambda p: -len(p.persons))
        return self._search(replace(start, pieces=fitting))

    def _fitting(self, state: _State) -> list[Piece]:
        room, outside, never = self._k - state.over, ~state.mask, state.never
        most = len(state.rest) + room
        self._work += len(state.pieces)
        return [
            p
            for p in state.pieces
            if p.persons.persons < most
            and (p.mask & outside).bit_count() < room
            and not p.mask & never
        ]

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
        bit = _next_bit(state, start)
        person = self._probes.person(bit) if bit else int(state.rest.min())
        for piece in fitting:
            if piece.mask & bit == bit:
                after = self._with(state, fitting, piece, person)
                if after is not None:
                    yield after
        if len(state.left_out) + 1 < self._k:
            rest = state.rest.copy()
            rest.discard(person)
            left_out = state.left_out | {person}
            never = state.never | bit
            yield replace(state, rest=rest, mask=state.mask & ~bit, left_out=left_out, never=never)

    def _with(
        self, state: _State, fitting: list[Piece], piece: Piece, person: int
    ) -> _State | None:
        """The state with one more piece; None where it does not cover the next person."""
        bitmap = piece.persons.bitmap()
        if person not in bitmap or any(p in bitmap for p in state.left_out):
            return None
        over = state.over + bitmap.difference_cardinality(state.rest)
        if over >= self._k:
            return None
        return _State(
            state.rest - bitmap,
            state.mask & ~piece.mask,
            over,
            fitting,
            state.left_out,
            state.never,
            (state.fingerprint + piece.persons.fingerprint) % 2**64,
        )


def _next_bit(state: _State, start: _State) -> int:
    """The probed person who is to be covered next; 0 where all are.

    One of the smallest piece that is covered in part. Where populations are divided again and
    again, a division is then finished before the next is begun, and the many ways to cover one
    population by its parts meet in one state.
    """
    done = start.mask & ~state.mask
    partial = (p.mask for p in reversed(start.pieces) if p.mask & state.mask and p.mask & done)
    mask = next(partial, -1) & state.mask
    return mask & -mask
