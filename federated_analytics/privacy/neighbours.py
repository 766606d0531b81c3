"""R5: sets of persons beside one that is asked for, and whether they add up to it, or with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from federated_analytics.privacy.person_bitmap import PersonBitmap
from federated_analytics.privacy.union_search import Pieces, Probes, UnionSearch, spread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from federated_analytics.privacy.union_search import Mask

PROBES_ASKED = 512
"""Of the set that is asked for; each past one adds 2 k, so that it can be told apart."""
ENOUGH = 128
"""Of the set that is asked for in a sample, so that none besides are needed."""

Named = TypeVar("Named")


@dataclass(frozen=True)
class _Neighbour(Generic[Named]):
    """A set beside the one that is asked for.

    Fields:
        name: given back where it is found
        common: persons of both
        mask: which of a sample of all persons are in it, where there is a sample
    """

    name: Named
    persons: PersonBitmap
    common: int
    mask: Mask | None


class Neighbours(Generic[Named]):
    """Sets inside of, around and apart from one that is asked for, each but for fewer than k.

    Args:
        asked: of at least k persons.
        sample: some of all persons. Where it is there, most combinations are excluded by the
            masks that come with the sets, without looking at a set again.
    """

    def __init__(self, asked: PersonBitmap, k: int, sample: Probes | None = None) -> None:
        self.k = k
        self.sample = sample
        self._asked = asked
        self._mine = asked.bitmap()
        self._inside: list[_Neighbour[Named]] = []
        self._around: list[_Neighbour[Named]] = []
        self._apart: list[_Neighbour[Named]] = []
        self.has_equal = False

    def meets(
        self, persons: PersonBitmap, name: Named, mask: Mask | None = None, *, stays: bool = False
    ) -> bool:
        """Whether a set differs by 1 to k - 1 persons on either side; others become neighbours.

        Args:
            mask: of the sample, where it is known.
            stays: the set is in memory in any case; another is kept packed.
        """
        size, k = persons.persons, self.k
        if size < k:
            return False
        theirs = persons.bitmap()
        common = int(self._mine.intersection_cardinality(theirs))
        extra, missing = self._asked.persons - common, size - common
        if extra < k and missing < k:
            self.has_equal |= not (extra or missing)
            return bool(extra or missing)
        if min(extra, missing, common) < k:
            if mask is None and self.sample is not None:
                mask = self.sample.mask(theirs)
            one = _Neighbour(name, persons if stays else persons.packed(), common, mask)
            if missing < k:
                self._inside.append(one)
            if extra < k:
                self._around.append(one)
            if common < k:
                self._apart.append(one)
        return False

    def crossed_by(self, masks: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Of which sets the sample alone shows that they are no neighbours.

        It then holds k persons of both, k of the one alone, and k of the other alone.

        Args:
            masks: of the sample, one row a set.
        """
        import numpy as np

        assert self.mask is not None
        common = np.bitwise_count(masks & self.mask).sum(axis=1, dtype=np.int64)
        alone = np.minimum(np.bitwise_count(masks).sum(axis=1, dtype=np.int64), _count(self.mask))
        crossed: NDArray[np.bool_] = (common >= self.k) & (alone - common >= self.k)
        return crossed

    def combined(self) -> Named | None:
        """A neighbour that, with others, differs from it by 1 to k - 1 persons; None without."""
        asked = self._asked.persons
        if self._inside:
            parts = _Parts(self._inside, self)
            if parts.may_cover(asked, 0, self.mask) and parts.search.almost_covers(
                self._mine, over=0, mask=self._probed
            ):
                return self._inside[0].name
        if not self._around or not self._apart:
            return None
        parts = _Parts(self._apart, self)
        for whole in self._around:
            left, over = whole.persons.persons - whole.common, asked - whole.common
            mask = None
            if whole.mask is not None and self.mask is not None:
                mask = whole.mask & ~self.mask
            if parts.may_cover(left, over, mask) and self._rest_is_covered(whole, over, parts):
                return whole.name
        return None

    def _rest_is_covered(self, whole: _Neighbour[Named], over: int, parts: _Parts) -> bool:
        mask = self.mask_of(whole) & ~self._probed
        return parts.search.may_cover(mask) and parts.search.almost_covers(
            whole.persons.bitmap() - self._mine, over=over, mask=mask
        )

    @cached_property
    def _probed(self) -> Mask:
        """The probed persons of the set that is asked for."""
        if self.mask is not None and self.probes is self.sample:
            return self.mask
        return self.probes.mask(self._mine, self.mask)

    @cached_property
    def mask(self) -> Mask | None:
        """The sample's persons of the set that is asked for, where there is a sample."""
        return self.sample.mask(self._mine) if self.sample else None

    @cached_property
    def probes(self) -> Probes:
        """The sample, and more of those sets of which it holds few; of all without a sample."""
        persons = set[int]()
        if self.mask is None or _count(self.mask) < ENOUGH:
            persons |= spread(self._mine, PROBES_ASKED)
        for one in (*self._inside, *self._around, *self._apart):
            if one.mask is None or _count(one.mask) < 2 * self.k:
                persons |= spread(one.persons.bitmap(), 2 * self.k)
        if self.sample is not None and not persons:
            return self.sample
        return Probes(persons, self.sample)

    def mask_of(self, one: _Neighbour[Named]) -> Mask:
        """Of the probes."""
        if one.mask is not None and self.probes is self.sample:
            return one.mask
        return self.probes.mask(one.persons.bitmap(), one.mask)


class _Parts:
    """Neighbours that may make up a set together."""

    def __init__(self, parts: Sequence[_Neighbour[Any]], near: Neighbours[Any]) -> None:
        import numpy as np

        self._parts = parts
        self._near = near
        self._sizes = np.sort([one.persons.persons for one in parts])
        self._totals = np.cumsum(self._sizes)

    def may_cover(self, persons: int, over: int, mask: Mask | None) -> bool:
        """False where their sizes, or the sample's persons, do not suffice.

        Args:
            persons: of the set that is to be covered.
            over: persons who are too many before any part is added.
            mask: of the sample, where there is one.
        """
        import numpy as np

        k = self._near.k
        fitting = int(np.searchsorted(self._sizes, persons + k - over))
        if not fitting or int(self._totals[fitting - 1]) + k <= persons:
            return False
        return mask is None or self._sampled.may_cover(mask)

    @cached_property
    def _sampled(self) -> UnionSearch:
        """By the sample alone, which there is."""
        near = self._near
        assert near.sample is not None
        masks = {one.persons: one.mask for one in self._parts if one.mask is not None}
        return UnionSearch(near.sample, Pieces.of(masks), near.k)

    @cached_property
    def search(self) -> UnionSearch:
        near = self._near
        masks = {one.persons: near.mask_of(one) for one in self._parts}
        return UnionSearch(near.probes, Pieces.of(masks), near.k)


def _count(mask: Mask) -> int:
    import numpy as np

    return int(np.bitwise_count(mask).sum())
