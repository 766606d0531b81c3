"""R5 asked again and again of the same rows: the ledger's populations, unpacked in memory."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from federated_analytics.privacy.neighbours import Neighbours
from federated_analytics.privacy.overlap import Answered
from federated_analytics.privacy.union_search import Probes, spread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from federated_analytics.privacy.ledger import Ledger
    from federated_analytics.privacy.person_bitmap import PersonBitmap
    from federated_analytics.privacy.union_search import Mask

MOST_BYTES = 32 * 2**20
"""Of sets in memory. Those beyond are read from the ledger where the sample does not suffice."""
SAMPLE = 2_048
"""Persons, of the largest set. By them most sets are told apart without looking at the sets."""


@dataclass(frozen=True)
class _Known:
    """A set that is not in the ledger yet, and which of a sample are in it."""

    persons: PersonBitmap
    sample: Probes
    mask: Mask | None


@dataclass
class Remembered:
    """The populations of a ledger about some variables. To be used by its holder alone.

    What is found is what `overlap.too_similar` finds over `ledger.populations()`.

    Args:
        place: names the sets that are kept.
        k: the policy's min_count.
    """

    ledger: Ledger
    variables: frozenset[str]
    place: str
    k: int
    _sample: Probes = field(default_factory=lambda: Probes(set()), init=False)
    _sampled: int = field(default=0, init=False)
    """Persons of the set that the sample is of."""
    _last: int = field(default=0, init=False)
    """The row of the ledger up to which all is known."""
    _rows: list[int] = field(default_factory=list, init=False)
    _masks: NDArray[np.uint64] | None = field(default=None, init=False)
    """Shape: one row a set, one word for 64 of the sample."""
    _held: dict[int, PersonBitmap] = field(default_factory=dict, init=False)
    """Those in memory, by their rows."""
    _bytes: int = field(default=0, init=False)

    def refuses(self, asked: Sequence[PersonBitmap]) -> bool:
        """Whether one of some sets is too similar to the ledger's, or to those before it.

        Where none is, they are kept in the ledger, durably.
        """
        self._read()
        new: list[_Known] = []
        for persons in asked:
            near = Neighbours[bool](persons, self.k, self._sample)
            if persons.persons >= self.k and self._is_similar(near, new):
                return True
            if not near.has_equal:
                new.append(_Known(persons.held(), self._sample, near.mask))
        if new:
            self._keep(new)
        return False

    def _is_similar(self, near: Neighbours[bool], new: Iterable[_Known]) -> bool:
        return (
            any(near.meets(one.persons, True, one.mask, stays=True) for one in new)
            or any(
                near.meets(self._persons(row), True, mask, stays=row in self._held)
                for row, mask in self._beside(near)
            )
            or near.combined() is not None
        )

    def _beside(self, near: Neighbours[bool]) -> Iterator[tuple[int, NDArray[np.uint64]]]:
        """Row and mask of those that may be neighbours."""
        import numpy as np

        if self._masks is None:
            return
        for i in np.flatnonzero(~near.crossed_by(self._masks)).tolist():
            yield self._rows[i], self._masks[i]

    def _persons(self, row: int) -> PersonBitmap:
        held = self._held.get(row)
        return self.ledger.population(row).population if held is None else held

    def _read(self) -> None:
        """Learn of what others have kept."""
        last = self.ledger.last_population()
        if last < self._last:  # an older ledger was put back
            self.__dict__ = replace(self).__dict__
        if last > self._last:
            for row, answer in self.ledger.populations_after(self._last):
                if self.variables & answer.variables:
                    self._take(row, answer.population)
                self._last = row

    def _keep(self, new: Sequence[_Known]) -> None:
        self._last = self.ledger.keep_populations(
            Answered(one.persons, self.variables, "", f"{self.place}/{secrets.token_hex(8)}")
            for one in new
        )
        for row, one in zip(range(self._last + 1 - len(new), self._last + 1), new, strict=True):
            self._take(row, one.persons, one)

    def _take(self, row: int, persons: PersonBitmap, known: _Known | None = None) -> None:
        import numpy as np

        if persons.persons > 1.5 * self._sampled:
            self._take_sample(persons)
        mask = known.mask if known and known.sample is self._sample else None
        if mask is None:
            mask = self._sample.mask(persons.bitmap())
        self._rows.append(row)
        self._masks = mask[None] if self._masks is None else np.vstack([self._masks, mask])
        size = _bytes_of(persons)
        if self._bytes + size <= MOST_BYTES:
            self._bytes += size
            self._held[row] = persons.held()

    def _take_sample(self, persons: PersonBitmap) -> None:
        """Of the largest set so far; the masks of the others are made anew."""
        import numpy as np

        self._sampled = persons.persons
        self._sample = Probes(spread(persons.bitmap(), SAMPLE))
        if self._rows:
            masks = [self._sample.mask(self._persons(row).bitmap()) for row in self._rows]
            self._masks = np.stack(masks)


def _bytes_of(persons: PersonBitmap) -> int:
    """Of a set and its bitmap; where persons are far apart, each has a container of its own."""
    packed = len(persons.data)
    return packed * (2 if packed < 8 * persons.persons else 10)
