"""Ed25519 keys (RFC 8032): an analyst's, and a site's own."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from federated_analytics.errors import ConfigError

MAX_KEY_FILE_BYTES = 10_000
PREFIX = "ed25519:"


@dataclass(frozen=True)
class PublicKey:
    """The half of a key that others may have.

    Args:
        text: `ed25519:` and the base64 of its 32 bytes; ConfigError where it is none.
    """

    text: str
    _bytes: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            raw = base64.b64decode(self.text.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        # Compared whole: several base64 texts decode to the same bytes, one of them is the key's.
        if len(raw) != 32 or self.text != PREFIX + base64.b64encode(raw).decode():
            raise ConfigError(
                "This is not a public key.",
                remedy="Paste the line that `federated-analytics key show` prints: ed25519:….",
            )
        object.__setattr__(self, "_bytes", raw)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the 32 bytes, in hex: short enough to compare over the telephone."""
        return hashlib.sha256(self._bytes).hexdigest()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the key's owner signed `message`."""
        try:
            Ed25519PublicKey.from_public_bytes(self._bytes).verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class AnalystKey:
    """A key that a site has admitted.

    Fields:
        not_after: seconds since 1970 after which it is not taken; None is never
    """

    key: PublicKey
    not_after: float | None = None


@dataclass(frozen=True)
class SigningKey:
    """The half of a key that signs; its file is PEM (PKCS #8, RFC 5208), readable by its owner."""

    _private: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def new(cls) -> Self:
        """A key that nobody else has."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The key in a file; ConfigError where it is none or others may read it."""
        try:
            with Path(path).open("rb") as file:
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                    raise ConfigError(
                        "Others than its owner may read this private key.",
                        where=str(path),
                        remedy="Run `chmod 600` on it; make a new key if others had it.",
                    )
                text = file.read(MAX_KEY_FILE_BYTES)
        except OSError as error:
            raise ConfigError(
                f"The private key cannot be read ({error.strerror}).",
                where=str(path),
                remedy="Make one with `federated-analytics key new`.",
            ) from error
        try:
            private = serialization.load_pem_private_key(text, password=None)
        except (ValueError, TypeError) as error:
            raise _not_a_key(path) from error
        if not isinstance(private, Ed25519PrivateKey):
            raise _not_a_key(path)
        return cls(private)

    def save(self, path: str | Path) -> None:
        """Write a file that only its owner reads; ConfigError where there is one already."""
        path = Path(path)
        pem = self._private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError as error:
            raise ConfigError(
                "There is a file already, and a key is never overwritten.",
                where=str(path),
                remedy="Give another name, or move the old key away yourself.",
            ) from error
        except OSError as error:
            raise ConfigError(
                f"The key cannot be written ({error.strerror}).", where=str(path)
            ) from error

    @property
    def public(self) -> PublicKey:
        """What others need to check this key's signatures."""
        raw = self._private.public_key().public_bytes_raw()
        return PublicKey(PREFIX + base64.b64encode(raw).decode())

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the public half."""
        return self.public.fingerprint

    def sign(self, message: bytes) -> bytes:
        """64 bytes of signature."""
        return self._private.sign(message)


def _not_a_key(path: str | Path) -> ConfigError:
    return ConfigError(
        "The file holds no Ed25519 private key.",
        where=str(path),
        remedy="Make one with `federated-analytics key new`.",
    )
