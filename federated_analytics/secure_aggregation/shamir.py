"""Secrets shared so that `threshold` holders together know one, and fewer know nothing.

References: Shamir (1979), How to Share a Secret, Communications of the ACM 22:612
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from federated_analytics.errors import ShapeError

PRIME = 2**521 - 1
"""A Mersenne prime (Robinson 1952), far above any secret of 32 bytes."""
SECRET_BYTES = 32
SHARE_BYTES = 66


def split(secret: bytes, threshold: int, count: int) -> list[bytes]:
    """Shares of a secret for the holders 1 … count, in order.

    Args:
        secret: 32 bytes.
        threshold: how many shares give it back.

    Raises:
        ShapeError: more shares are needed than there are, or the secret has another length.
    """
    if not 1 <= threshold <= count or len(secret) != SECRET_BYTES:
        raise ShapeError(f"A secret of {SECRET_BYTES} bytes has a threshold of 1 to {count}.")
    drawn = [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    coefficients = [int.from_bytes(secret, "big"), *drawn]
    return [_value(coefficients, x).to_bytes(SHARE_BYTES, "big") for x in range(1, count + 1)]


def _value(coefficients: list[int], x: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % PRIME
    return value


def joined(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """The secret behind `threshold` of the shares, by holder.

    Raises:
        ShapeError: too few shares, or they are not of one secret.
    """
    if len(shares) < threshold:
        raise ShapeError(f"{len(shares)} shares are given and {threshold} are needed.")
    points = {x: int.from_bytes(shares[x], "big") for x in sorted(shares)[:threshold]}
    secret = sum(y * _weight(x, list(points)) for x, y in points.items()) % PRIME
    if secret >> (8 * SECRET_BYTES):
        raise ShapeError("The shares are not of one secret.")
    return secret.to_bytes(SECRET_BYTES, "big")


def _weight(x: int, holders: list[int]) -> int:
    """Lagrange's coefficient of holder x at 0."""
    above, below = 1, 1
    for other in holders:
        if other != x:
            above = above * other % PRIME
            below = below * (other - x) % PRIME
    return above * pow(below, -1, PRIME) % PRIME
