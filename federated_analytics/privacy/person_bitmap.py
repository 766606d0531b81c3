"""A set of persons as a compressed bitmap. It never leaves the site."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from federated_analytics.errors import LedgerError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SIGN = 1 << 63
_HEAD = 16
_BLOCK, _SPARSE = 2**16, 4_096


@dataclass(frozen=True)
class PersonBitmap:
    """Persons by their OMOP person_id, compressed; decompressed only where it is compared.

    Person ids are any 64-bit integers. A negative one is mapped to the unsigned integer of the
    same rank, so order is kept and no two ids meet.

    Fields:
        data: the Roaring bitmap, serialised in its portable 64-bit format
        persons: how many are in it
        hashed: the fingerprint, where it is known already
        unpacked: the `pyroaring.BitMap64`, where it is held beside; nobody changes it

    References: Lemire et al. (2018), Software: Practice and Experience 48:867
    """

    data: bytes = field(repr=False)
    persons: int
    hashed: int | None = field(default=None, repr=False, compare=False)
    unpacked: Any = field(default=None, repr=False, compare=False)

    @classmethod
    def from_ids(cls, ids: Iterable[int] | NDArray[np.int64]) -> Self:
        """The set of some person ids, in any order, repeated or not; int64 each."""
        from array import array

        import numpy as np
        from pyroaring import BitMap64

        given = ids if isinstance(ids, np.ndarray) else list(ids)
        ordered = np.asarray(given, dtype=np.int64)
        if len(ordered) > 1 and not bool((ordered[1:] > ordered[:-1]).all()):
            ordered = np.sort(ordered)
        is_first = np.ones(len(ordered), dtype=np.bool_)
        is_first[1:] = ordered[1:] != ordered[:-1]
        unsigned = ordered[is_first].view(np.uint64) ^ np.uint64(_SIGN)
        bitmap = BitMap64()
        if len(unsigned) and int(unsigned[-1] - unsigned[0]) == len(unsigned) - 1:
            bitmap.add_range(int(unsigned[0]), int(unsigned[-1]))
            bitmap.add(int(unsigned[-1]))  # a range may not end behind the last number of all
        else:
            # An array is read at once, where a NumPy array is read number by number.
            bitmap = BitMap64(array("Q", unsigned.tobytes()))
        bitmap.run_optimize()
        return cls(bitmap.serialize(), len(unsigned), _hashed(unsigned))

    @classmethod
    def from_range(cls, first: int, last: int) -> Self:
        """The set of all ids from the first to the last; int64 each."""
        from pyroaring import BitMap64

        bitmap = BitMap64()
        bitmap.add_range(first + _SIGN, last + _SIGN)
        bitmap.add(last + _SIGN)  # a range may not end behind the last number of all
        bitmap.run_optimize()
        return cls(bitmap.serialize(), last - first + 1)

    @classmethod
    def from_flags(cls, flags: NDArray[np.bool_]) -> Self:
        """The set of the places from 0 on, below 2^32, at which a flag is true."""
        import struct

        import numpy as np
        from pyroaring import BitMap64

        packed = np.packbits(flags, bitorder="little")
        packed.resize(-(-len(flags) // _BLOCK) * _BLOCK // 8, refcheck=False)  # with zeros
        persons, containers = _containers(packed)
        if not persons:
            return cls.from_ids(())
        # All of them have the high half 2^31: one bucket of the 64-bit format.
        data = struct.pack("<QI", 1, _SIGN >> 32) + containers
        bitmap = BitMap64.deserialize(data)
        if bitmap.run_optimize():
            data = bitmap.serialize()
        return cls(data, persons, unpacked=bitmap)

    @classmethod
    def from_bytes(cls, stored: bytes) -> Self:
        """The set that `to_bytes` wrote; LedgerError where the bytes are none."""
        persons = int.from_bytes(stored[:8], "little")
        hashed = int.from_bytes(stored[8:_HEAD], "little")
        found = cls(bytes(stored[_HEAD:]), persons, hashed or None)
        if len(stored) <= _HEAD:
            raise _unreadable()
        bitmap = found.bitmap()
        if len(bitmap) != persons:
            raise _unreadable()
        return replace(found, unpacked=bitmap)

    def to_bytes(self) -> bytes:
        """For the site's own state file."""
        hashed = self.hashed or 0  # not known
        return self.persons.to_bytes(8, "little") + hashed.to_bytes(8, "little") + self.data

    def packed(self) -> Self:
        """The same set without what is held beside its bytes."""
        return self if self.unpacked is None else replace(self, unpacked=None)

    def held(self) -> Self:
        """The same set with its bitmap beside, to be compared often."""
        return self if self.unpacked is not None else replace(self, unpacked=self.bitmap())

    @cached_property
    def fingerprint(self) -> int:
        """Sum of the persons' hashes modulo 2^64; of disjoint sets it adds up."""
        import numpy as np

        if self.hashed is not None:
            return self.hashed
        return _hashed(np.asarray(self.bitmap().to_array(), dtype=np.uint64))

    def bitmap(self) -> Any:
        """The `pyroaring.BitMap64`; LedgerError where the bytes are damaged."""
        from pyroaring import BitMap64

        if self.unpacked is not None:
            return self.unpacked
        try:
            return BitMap64.deserialize(self.data)
        except (ValueError, IndexError, MemoryError) as error:
            raise _unreadable() from error

    def __len__(self) -> int:
        return self.persons

    def common(self, other: PersonBitmap) -> int:
        """|self ∩ other|."""
        return int(self.bitmap().intersection_cardinality(other.bitmap()))

    def only(self, other: PersonBitmap) -> int:
        r"""|self \ other|."""
        return self.persons - self.common(other)

    def without(self, part: PersonBitmap) -> PersonBitmap:
        r"""self \ part, for a part that lies within."""
        left = self.bitmap() - part.bitmap()
        left.run_optimize()
        hashed = None
        if self.hashed is not None and part.hashed is not None:
            hashed = (self.hashed - part.hashed) % (1 << 64)
        return PersonBitmap(left.serialize(), self.persons - part.persons, hashed, left)

    def union(self, other: PersonBitmap) -> PersonBitmap:
        """self ∪ other, such as two strata that are answered together too."""
        united = self.bitmap() | other.bitmap()
        united.run_optimize()
        return PersonBitmap(united.serialize(), len(united))


def _containers(packed: NDArray[np.uint8]) -> tuple[int, bytes]:
    """How many bits are set, and they as a 32-bit Roaring bitmap: one container per 2^16.

    A container is a bitmap, or the list of its bits where there are up to 4,096.

    References: Roaring bitmap format specification, without run containers
    """
    import numpy as np

    blocks = packed.reshape(-1, _BLOCK // 8)
    sizes = np.bitwise_count(blocks.view(np.uint64)).sum(axis=1, dtype=np.int64)
    keys = np.flatnonzero(sizes)
    parts = []
    for key in keys.tolist():
        part: NDArray[Any] = blocks[key]
        if sizes[key] <= _SPARSE:
            part = np.flatnonzero(np.unpackbits(part, bitorder="little")).astype("<u2")
        parts.append(part.data)
    heads = np.stack([keys, sizes[keys] - 1], axis=1).astype("<u2").tobytes()
    first = 8 + len(heads) + 4 * len(parts)
    offsets = np.cumsum([first, *(part.nbytes for part in parts[:-1])]).astype("<u4").tobytes()
    count = np.array([12_346, len(parts)], dtype="<u4").tobytes()
    return int(sizes.sum()), b"".join([count, heads, offsets, *parts])


def _hashed(unsigned: NDArray[np.uint64]) -> int:
    import numpy as np

    return int(_mixed(unsigned).sum(dtype=np.uint64))


def _mixed(unsigned: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64 (Steele, Lea & Flood 2014, OOPSLA) of each."""
    import numpy as np

    with np.errstate(over="ignore"):
        z = unsigned + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
        return mixed


def _unreadable() -> LedgerError:
    return LedgerError(
        "The person set of an answered population cannot be read.",
        where="state",
        remedy="The site operator restores the state folder from its backup.",
    )
