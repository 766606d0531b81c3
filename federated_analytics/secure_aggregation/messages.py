"""What travels in the four rounds.

A site's reply is a mark, a header (JSON, derived from a dataclass), bytes that are no text, and
the site's Ed25519 signature over all of it. The server's requests are JSON and are not signed:
what a site relies on in them is signed by other sites, or sealed for it by them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import struct
import typing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from federated_analytics import wire
from federated_analytics.aggregates.table import Key
from federated_analytics.errors import WireError
from federated_analytics.messages import Disclosure
from federated_analytics.secure_aggregation.errors import AlteredPeer
from federated_analytics.signing import PublicKey, SigningKey

KIND = "secure"
"""`messages.Request.kind` of all four rounds; its `round` says which."""
MARK = b"federated-analytics secure 1\n"
SIGNATURE_BYTES = 64
T = TypeVar("T")


@dataclass(frozen=True)
class Advertisement:
    """Round 1, from a site: the keys that it has made for this run and no other.

    Fields:
        study: the study's digest
        min_sites: fewest sites that its policy wants behind a sum
        sealing, masking: X25519 public keys, in base64
    """

    run: str
    study: str
    site: str
    min_sites: int
    sealing: str
    masking: str


@dataclass(frozen=True)
class Roster:
    """Round 2, from the server: every site's signed advertisement, in base64."""

    advertisements: tuple[str, ...]


@dataclass(frozen=True)
class Told:
    """Which cells of an answer a site has, where that is said at all: never their numbers."""

    analysis: int
    population: str
    keys: tuple[Key, ...]


@dataclass(frozen=True)
class Contribution:
    """Round 2, from a site, for all: what it adds to the sums, but for the numbers.

    Fields:
        roster: digest of the advertisements
        commitment: SHA-256 of the seed of its own mask, in hex
        disclosure: its release without cells
        told: the cells it has, of answers that withhold some without naming them
    """

    run: str
    roster: str
    site: str
    commitment: str
    disclosure: Disclosure
    told: tuple[Told, ...]


@dataclass(frozen=True)
class Shares:
    """Round 2, from a site: its contribution, signed, and a sealed share for each other site."""

    run: str
    site: str
    contribution: str
    sealed: dict[str, str]


@dataclass(frozen=True)
class Delivery:
    """Round 3, from the server, to one site: all contributions, and what is sealed for it."""

    contributions: tuple[str, ...]
    sealed: dict[str, str]


@dataclass(frozen=True)
class Masked:
    """Round 3, from a site: followed by its numbers behind masks.

    Fields:
        senders: digest of the contributions that it has masks with
    """

    run: str
    site: str
    senders: str


@dataclass(frozen=True)
class Survivors:
    """Round 4, from the server: whose masked numbers it has. The others are dropped."""

    sites: tuple[str, ...]


@dataclass(frozen=True)
class Unmasking:
    """Round 4, from a site: shares of survivors' seeds and of dropped sites' masking keys."""

    run: str
    site: str
    survivors: str
    seeds: dict[str, str]
    keys: dict[str, str]


@dataclass(frozen=True)
class Opened(Generic[T]):
    """A reply as it reads."""

    message: T
    blob: bytes
    _signed: bytes
    _signature: bytes

    def check(self, key: PublicKey, site: str) -> None:
        """AlteredPeer where `key` has not signed it."""
        if not key.verifies(self._signature, self._signed):
            raise AlteredPeer("A message is not as the site signed it.", where=site)


def sealed(message: Any, key: SigningKey, blob: bytes = b"") -> bytes:
    """A site's reply with its signature."""
    header = json.dumps([type(message).__name__, wire.to_plain(message)]).encode()
    signed = b"".join([MARK, struct.pack(">I", len(header)), header, blob])
    return signed + key.sign(signed)


def is_secure_reply(body: bytes) -> bool:
    """Whether `body` says that it is a site's part of a secure sum; nothing is proved by it."""
    return body.startswith(MARK)


def opened(cls: type[T], body: bytes) -> Opened[T]:
    """A site's reply, its signature not yet looked at; WireError where it is none."""
    if not is_secure_reply(body) or not len(MARK) + 4 + SIGNATURE_BYTES < len(body):
        raise WireError("The bytes are no part of a secure sum.")
    if len(body) > wire.MAX_BYTES:
        raise WireError(f"A message of more than {wire.MAX_BYTES} bytes is not read.")
    signed, signature = body[:-SIGNATURE_BYTES], body[-SIGNATURE_BYTES:]
    (size,) = struct.unpack_from(">I", signed, len(MARK))
    start = len(MARK) + 4
    plain = _json(signed[start : start + size])
    if not isinstance(plain, list) or len(plain) != 2 or plain[0] != cls.__name__:
        raise WireError(f"A message {cls.__name__} is expected here.")
    message = typing.cast(T, wire.from_plain(cls, plain[1], cls.__name__))
    return Opened(message, signed[start + size :], signed, signature)


def written(message: Any) -> str:
    """A server's message as text."""
    return json.dumps(wire.to_plain(message), separators=(",", ":"))


def read(cls: type[T], text: str) -> T:
    """A server's message; WireError where `text` is none."""
    return typing.cast(T, wire.from_plain(cls, _json(text.encode()), cls.__name__))


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError("The bytes are no part of a secure sum.") from error


def text_of(raw: bytes) -> str:
    """Bytes as base64."""
    return base64.b64encode(raw).decode()


def bytes_in(text: str, size: int = 0) -> bytes:
    """The bytes that `text_of` wrote; WireError where they are not, or not of `size`."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise WireError("Base64 is expected here.") from error
    if size and len(raw) != size:
        raise WireError(f"{size} bytes are expected here.")
    return raw


def digest_of(parts: typing.Iterable[str | bytes]) -> str:
    """SHA-256 of texts or bytes, each with its length, in hex."""
    whole = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        whole.update(struct.pack(">Q", len(raw)) + raw)
    return whole.hexdigest()
