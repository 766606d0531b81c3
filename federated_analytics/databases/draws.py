"""Random numbers that depend on nothing but their name: seed, site, channel and row.

A draw is a hash (SplitMix64) of those, so the same person gets the same life whatever the number
of persons, the order of the draws or the version of numpy.

Source: Steele, Lea & Flood (2014), "Fast splittable pseudorandom number generators", OOPSLA.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Ids: TypeAlias = "NDArray[np.int64]"
Floats: TypeAlias = "NDArray[np.float64]"

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
_MOST_EVENTS = 200


@dataclass(frozen=True)
class Draws:
    """Random numbers for rows that have an identity.

    Args:
        seed: of the whole federation.
        site: number of the site.
    """

    seed: int
    site: int

    def uniform(self, channel: str, ids: Ids) -> Floats:
        """float64[n] in (0, 1): one for each row of `ids`, the same for the same channel."""
        key = f"{self.seed}/{self.site}/{channel}".encode()
        start = np.uint64(int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big"))
        z = ids.astype(np.uint64) * _GOLDEN
        z += start
        z ^= z >> _SHIFTS[0]
        z *= _MIX[0]
        z ^= z >> _SHIFTS[1]
        z *= _MIX[1]
        z ^= z >> _SHIFTS[2]
        u: Floats = ((z >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        return u

    def normal(self, channel: str, ids: Ids) -> Floats:
        """Standard normal, by Box and Muller (1958)."""
        radius = np.sqrt(-2.0 * np.log(self.uniform(channel, ids)))
        z: Floats = radius * np.cos(2.0 * np.pi * self.uniform(channel + "/angle", ids))
        return z

    def exponential(self, channel: str, ids: Ids) -> Floats:
        """Exponential with mean 1."""
        e: Floats = -np.log(self.uniform(channel, ids))
        return e

    def chance(self, channel: str, ids: Ids, probability: Floats | float) -> NDArray[np.bool_]:
        """True with the probability given, one for all rows or one for each."""
        hit: NDArray[np.bool_] = self.uniform(channel, ids) < probability
        return hit

    def choice(self, channel: str, ids: Ids, weights: list[float]) -> Ids:
        """Index of one of the weights for each row, with probability in proportion."""
        edges = np.cumsum(weights) / np.sum(weights)
        chosen: Ids = np.searchsorted(edges[:-1], self.uniform(channel, ids), side="right")
        return chosen

    def poisson(self, channel: str, ids: Ids, mean: Floats) -> Ids:
        """Poisson counts, by inversion of the distribution function."""
        u = self.uniform(channel, ids)
        probability = np.exp(-mean)
        below = probability.copy()
        count: Ids = np.zeros(len(ids), dtype=np.int64)
        for n in range(1, _MOST_EVENTS):
            more = u > below
            if not more.any():
                break
            count += more
            probability *= mean / n
            below += probability
        return count
