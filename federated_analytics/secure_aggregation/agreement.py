"""Keys of one run: two sites agree on secrets that nobody between them knows."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from federated_analytics.errors import WireError
from federated_analytics.secure_aggregation.words import SEED_BYTES, Words, add, expanded, subtract

KEY_BYTES = 32
NONCE_BYTES = 12
_LABEL = b"federated-analytics secure 1"


@dataclass(frozen=True)
class RunKey:
    """An X25519 key (RFC 7748) that is made for one run."""

    _private: X25519PrivateKey = field(repr=False)

    @classmethod
    def new(cls) -> Self:
        return cls(X25519PrivateKey.generate())

    @classmethod
    def of(cls, private: bytes) -> Self:
        """The key with these 32 private bytes."""
        return cls(X25519PrivateKey.from_private_bytes(private))

    @property
    def public(self) -> bytes:
        """The 32 bytes that others may have."""
        return self._private.public_key().public_bytes_raw()

    @property
    def private(self) -> bytes:
        """The 32 bytes that are shared in parts."""
        return self._private.private_bytes_raw()

    def agreed(self, other: bytes, *about: str) -> bytes:
        """32 bytes that this key's owner and the other's know; another 32 for each `about`.

        HKDF (RFC 5869) with SHA-256. WireError where `other` is no public key.
        """
        try:
            secret = self._private.exchange(X25519PublicKey.from_public_bytes(other))
        except ValueError as error:
            raise WireError("This is not a public key of a run.") from error
        parts = [_LABEL, *(text.encode() for text in about)]
        info = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return HKDF(SHA256(), SEED_BYTES, None, info).derive(secret)


def mask_seed(key: RunKey, other: bytes, run: str, pair: Iterable[str]) -> bytes:
    """The seed of the mask that two sites have in common."""
    return key.agreed(other, "mask", run, *sorted(pair))


def with_pair_mask(vector: Words, seed: bytes, site: str, other: str) -> Words:
    """`vector` of `site` behind the mask that it shares with `other`, where it takes it away."""
    mask = expanded(seed, len(vector))
    return add(vector, mask) if site < other else subtract(vector, mask)


def seal(key: bytes, message: bytes, about: str) -> bytes:
    """A message that only the key's holders read, and nobody changes: AES-GCM, new nonce."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, message, about.encode())


def unseal(key: bytes, body: bytes, about: str) -> bytes:
    """The message in `seal`'s bytes; WireError where they are not for this key and purpose."""
    try:
        return AESGCM(key).decrypt(body[:NONCE_BYTES], body[NONCE_BYTES:], about.encode())
    except (InvalidTag, ValueError) as error:
        raise WireError("A sealed share is not as it was sealed.") from error
