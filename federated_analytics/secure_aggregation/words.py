"""Vectors of integers modulo 2^128: what is masked, and the masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

from federated_analytics.errors import WireError

BITS = 128
WORD_BYTES = BITS // 8
SEED_BYTES = 32

Words: TypeAlias = NDArray[np.uint64]
"""Shape (n, 2): the lower and the upper 64 bits of each integer."""


def words_of(numbers: Sequence[int]) -> Words:
    """Integers of either sign, reduced modulo 2^128."""
    return words_in(b"".join((x % 2**BITS).to_bytes(WORD_BYTES, "little") for x in numbers))


def words_in(body: bytes) -> Words:
    """The vector that `bytes_of` wrote; WireError where `body` is none."""
    if len(body) % WORD_BYTES:
        raise WireError("A vector is cut short.")
    return np.frombuffer(body, "<u8").astype(np.uint64).reshape(-1, 2)


def bytes_of(words: Words) -> bytes:
    """16 bytes an integer, the lowest first."""
    return words.astype("<u8").tobytes()


def numbers_of(words: Words) -> list[int]:
    """The integers from -2^127 to 2^127 - 1 that the vector stands for."""
    body = bytes_of(words)
    pieces = (body[i : i + WORD_BYTES] for i in range(0, len(body), WORD_BYTES))
    return [int.from_bytes(piece, "little", signed=True) for piece in pieces]


def add(a: Words, b: Words) -> Words:
    """a + b, modulo 2^128."""
    low = a[:, 0] + b[:, 0]
    carry = (low < a[:, 0]).astype(np.uint64)
    return np.stack([low, a[:, 1] + b[:, 1] + carry], axis=1)


def subtract(a: Words, b: Words) -> Words:
    """a - b, modulo 2^128."""
    borrow = (a[:, 0] < b[:, 0]).astype(np.uint64)
    return np.stack([a[:, 0] - b[:, 0], a[:, 1] - b[:, 1] - borrow], axis=1)


def expanded(seed: bytes, size: int) -> Words:
    """`size` integers that nobody without the seed can tell from uniform ones.

    ChaCha20's key stream (RFC 8439) under an all-zero nonce: every seed is used once.

    Args:
        seed: 32 bytes.
    """
    stream = Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None).encryptor()
    return words_in(stream.update(bytes(size * WORD_BYTES)))
