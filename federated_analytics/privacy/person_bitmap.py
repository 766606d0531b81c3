"""A set of persons as a compressed bitmap. It never leaves the site."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from federated_analytics.errors import LedgerError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SIGN = 1 << 63
_HEAD = 16


@dataclass(frozen=True)
class PersonBitmap:
    """Persons by their OMOP person_id, compressed; decompressed only where it is compared.

    Person ids are any 64-bit integers. A negative one is mapped to the unsigned integer of the
    same rank, so order is kept and no two ids meet.

    Fields:
        data: the Roaring bitmap, serialised in its portable 64-bit format
        persons: how many are in it
        fingerprint: sum of the persons' hashes modulo 2^64; of disjoint sets it adds up

    References: Lemire et al. (2018), Software: Practice and Experience 48:867
    """

    data: bytes = field(repr=False)
    persons: int
    fingerprint: int = field(repr=False)

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
    def from_rows(cls, ids: NDArray[np.int64], hashed: NDArray[np.uint64]) -> Self:
        """The set of ids that rise, from 0 to 2^32 - 1, that `from_ids` makes; hashed before.

        Args:
            hashed: of every id from 0 on, as of `hashes`.
        """
        import struct

        import numpy as np
        from pyroaring import BitMap64

        if not len(ids):
            return cls.from_ids(ids)
        fingerprint = int(hashed[ids].sum(dtype=np.uint64))
        # All of them have the high half 2^31: one bucket of the 64-bit format.
        data = struct.pack("<QI", 1, _SIGN >> 32) + _containers(ids)
        bitmap = BitMap64.deserialize(data)
        bitmap.run_optimize()
        return cls(bitmap.serialize(), len(ids), fingerprint)

    @classmethod
    def from_bytes(cls, stored: bytes) -> Self:
        """The set that `to_bytes` wrote; LedgerError where the bytes are none."""
        persons = int.from_bytes(stored[:8], "little")
        fingerprint = int.from_bytes(stored[8:_HEAD], "little")
        found = cls(bytes(stored[_HEAD:]), persons, fingerprint)
        if len(stored) <= _HEAD or len(found.bitmap()) != persons:
            raise _unreadable()
        return found

    def to_bytes(self) -> bytes:
        """For the site's own state file."""
        head = self.persons.to_bytes(8, "little") + self.fingerprint.to_bytes(8, "little")
        return head + self.data

    def bitmap(self) -> Any:
        """The `pyroaring.BitMap64`; LedgerError where the bytes are damaged."""
        from pyroaring import BitMap64

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
        fingerprint = (self.fingerprint - part.fingerprint) % (1 << 64)
        return PersonBitmap(left.serialize(), self.persons - part.persons, fingerprint)

    def union(self, other: PersonBitmap) -> PersonBitmap:
        """self ∪ other, such as two strata that are answered together too."""
        import numpy as np

        united = self.bitmap() | other.bitmap()
        united.run_optimize()
        members = np.asarray(united.to_array(), dtype=np.uint64)
        return PersonBitmap(united.serialize(), len(members), _hashed(members))


def _containers(ids: NDArray[np.int64]) -> bytes:
    """A 32-bit Roaring bitmap of ids that rise: arrays of up to 4,096, bits of more, per 2^16.

    References: Roaring bitmap format specification, without run containers
    """
    import numpy as np

    keys = np.arange(ids[0] >> 16, (ids[-1] >> 16) + 1)
    starts = np.searchsorted(ids, keys << 16)
    sizes = np.diff(starts, append=len(ids))
    keys, starts, sizes = keys[sizes > 0], starts[sizes > 0], sizes[sizes > 0]
    low = ids.astype(np.uint16)
    parts = []
    for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
        here = low[start : start + size]
        if size <= 4_096:
            parts.append(here.astype("<u2").tobytes())
            continue
        flags = np.zeros(2**16, dtype=np.bool_)
        flags[here] = True
        parts.append(np.packbits(flags, bitorder="little").tobytes())
    heads = np.stack([keys, sizes - 1], axis=1).astype("<u2").tobytes()
    first = 8 + len(heads) + 4 * len(parts)
    offsets = np.cumsum([first, *map(len, parts[:-1])]).astype("<u4").tobytes()
    count = np.array([12_346, len(parts)], dtype="<u4").tobytes()
    return b"".join([count, heads, offsets, *parts])


def hashes(ids: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The hash of each person id; the fingerprint of a set is their sum modulo 2^64."""
    import numpy as np

    return _mixed(ids.astype(np.int64).view(np.uint64) ^ np.uint64(_SIGN))


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
