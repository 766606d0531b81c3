"""Requests signed by analysts and replies signed by sites: who asked, and what was answered.

A message is a mark, its fields in the order of the dataclass, each with its length before it, and
64 bytes of Ed25519 signature over everything before them. There is one way to write each message,
so a changed byte anywhere is a refused message.
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
import struct
import time
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from federated_analytics.errors import (
    BadSignature,
    ConfigError,
    ExpiredKey,
    ExpiredRequest,
    UnknownAnalyst,
    WireError,
)
from federated_analytics.signing.keys import AnalystKey, PublicKey, SigningKey

MAX_BYTES = 8 * 2**20
"""Largest envelope that is read."""
MAX_TEXT_BYTES = 200
"""Longest project, site name or digest in an envelope."""
NONCE_BYTES = 16
SIGNATURE_BYTES = 64
LIFETIME_SECONDS = 24 * 3_600
"""Longest that a signed request is good for."""
CLOCK_SECONDS = 300
"""How far the clocks of analyst and site may differ."""
T = TypeVar("T", bound="_Envelope")


@dataclass(frozen=True)
class _Envelope:
    MARK: ClassVar[bytes]

    def _canonical(self) -> bytes:
        parts = [self.MARK]
        for name, _ in _signed_fields(type(self)):
            value = getattr(self, name)
            raw = _to_bytes(value)
            parts += [struct.pack(">I", len(raw)), raw]
        return b"".join(parts)

    def _sealed(self, key: SigningKey) -> bytes:
        message = self._canonical()
        return message + key.sign(message)


@dataclass(frozen=True)
class SignedRequest(_Envelope):
    """What an analyst signs. The same bytes go to every site; each reply names their hash.

    Fields:
        request: the request's own bytes (`wire.encode_request`)
        key: fingerprint of the analyst's key
        project: the project she asks for
        nonce: 16 random bytes; a site answers them once, and keeps count itself
        expires: whole seconds since 1970
        study: the study's digest
        code: the digest of the app's code that she asks with
    """

    MARK: ClassVar[bytes] = b"federated-analytics request 1\n"
    request: bytes
    key: str
    project: str
    nonce: bytes
    expires: int
    study: str
    code: str


@dataclass(frozen=True)
class SignedReply(_Envelope):
    """What a site signs.

    Fields:
        release: the release's own bytes (`wire.encode_release`)
        request: `request_hash` of the envelope that it answers
        site: the site's name
        key: fingerprint of the site's key
    """

    MARK: ClassVar[bytes] = b"federated-analytics reply 1\n"
    release: bytes
    request: str
    site: str
    key: str


def sign(
    request: bytes,
    key: SigningKey,
    *,
    project: str,
    study: str,
    code: str,
    seconds: float = 3_600,
    now: float | None = None,
) -> bytes:
    """A signed request with a new nonce.

    Args:
        seconds: how long it is good for, at most 24 hours.
    """
    lifetime = min(int(seconds), LIFETIME_SECONDS)
    return SignedRequest(
        request=request,
        key=key.fingerprint,
        project=project,
        nonce=secrets.token_bytes(NONCE_BYTES),
        expires=int(time.time() if now is None else now) + lifetime,
        study=study,
        code=code,
    )._sealed(key)


def verify(
    envelope: bytes, keys: Mapping[str, AnalystKey], now: float | None = None
) -> SignedRequest:
    """What an admitted analyst asks, by her signature. The caller sees that its nonce is new.

    Args:
        keys: admitted keys by fingerprint.
        now: seconds since 1970.

    Raises:
        WireError: the bytes are no signed request.
        UnknownAnalyst, BadSignature, ExpiredKey, ExpiredRequest: in this order.
    """
    now = time.time() if now is None else now
    request, message, signature = _opened(SignedRequest, envelope)
    admitted = keys.get(request.key)
    if admitted is None or admitted.key.fingerprint != request.key:
        raise UnknownAnalyst("The site has not admitted the key of this request.")
    if not admitted.key.verifies(signature, message):
        raise BadSignature("The request is not as the analyst signed it.")
    if admitted.not_after is not None and now > admitted.not_after:
        raise ExpiredKey("The analyst's key has expired.")
    if now > request.expires + CLOCK_SECONDS:
        raise ExpiredRequest("The signed request has expired.")
    if request.expires > now + LIFETIME_SECONDS + CLOCK_SECONDS:
        raise ExpiredRequest("The signed request is good for longer than a day.")
    return request


def is_signed_request(body: bytes) -> bool:
    """Whether `body` says that it is a signed request; nothing is proved by it."""
    return body.startswith(SignedRequest.MARK)


def is_signed_reply(body: bytes) -> bool:
    """Whether `body` says that it is a signed reply; nothing is proved by it."""
    return body.startswith(SignedReply.MARK)


def request_hash(envelope: bytes) -> str:
    """SHA-256 of a signed request's bytes, in hex."""
    return hashlib.sha256(envelope).hexdigest()


def sign_reply(release: bytes, key: SigningKey, *, request: str, site: str) -> bytes:
    """A release with the site's signature.

    Args:
        request: `request_hash` of the envelope that it answers.
    """
    return SignedReply(release, request, site, key.fingerprint)._sealed(key)


def verify_reply(envelope: bytes, request: str, sites: Mapping[str, PublicKey]) -> SignedReply:
    """What a known site answered to this request.

    Args:
        request: `request_hash` of the envelope that was sent.
        sites: the sites' public keys by fingerprint.

    Raises:
        WireError: the bytes are no signed reply.
        BadSignature: the site is unknown, the reply was changed, or it answers another request.
    """
    reply, message, signature = _opened(SignedReply, envelope)
    known = sites.get(reply.key)
    if known is None or known.fingerprint != reply.key:
        raise BadSignature(
            "The reply is signed with a key that is not a known site's.",
            remedy="Ask the site operator for the site's public key.",
        )
    if not known.verifies(signature, message):
        raise BadSignature(
            "The reply is not as the site signed it.",
            remedy="Run the study again; tell the site operator if it stays so.",
        )
    if not secrets.compare_digest(reply.request, request):
        raise BadSignature(
            "The reply answers another request.",
            remedy="Run the study again; tell the site operator if it stays so.",
        )
    return reply


def unverified_reply(envelope: bytes) -> SignedReply:
    """A reply as it reads, for those who only count and show: its signature is not looked at."""
    return _opened(SignedReply, envelope)[0]


def _signed_fields(cls: type[_Envelope]) -> list[tuple[str, Any]]:
    hints = typing.get_type_hints(cls)
    return [(f.name, hints[f.name]) for f in dataclasses.fields(cls)]


def _to_bytes(value: Any) -> bytes:
    if isinstance(value, int):
        return struct.pack(">q", value)
    if isinstance(value, bytes):
        return value
    raw = str(value).encode()
    if len(raw) > MAX_TEXT_BYTES:
        raise ConfigError(
            f"A name or digest in a signed message has at most {MAX_TEXT_BYTES} bytes.",
            remedy="Give the project or site a shorter name.",
        )
    return raw


def _opened(cls: type[T], envelope: bytes) -> tuple[T, bytes, bytes]:
    """The message in an envelope, the bytes that are signed, and the signature over them."""
    if not isinstance(envelope, bytes) or not envelope.startswith(cls.MARK):
        raise WireError("The bytes are not a signed message of federated_analytics.")
    if len(envelope) > MAX_BYTES:
        raise WireError(f"A signed message of more than {MAX_BYTES} bytes is not read.")
    message, signature = envelope[:-SIGNATURE_BYTES], envelope[-SIGNATURE_BYTES:]
    values: dict[str, Any] = {}
    at = len(cls.MARK)
    for name, hint in _signed_fields(cls):
        if len(message) - at < 4:
            raise WireError("The signed message is cut short.", where=name)
        (length,) = struct.unpack_from(">I", message, at)
        raw = message[at + 4 : at + 4 + length]
        if len(raw) != length:
            raise WireError("The signed message is cut short.", where=name)
        values[name] = _from_bytes(hint, raw, name)
        at += 4 + length
    if at != len(message) or len(values.get("nonce", bytes(NONCE_BYTES))) != NONCE_BYTES:
        raise WireError("The signed message has a part that does not belong to it.")
    return cls(**values), message, signature


def _from_bytes(hint: Any, raw: bytes, where: str) -> Any:
    if hint is bytes:
        return raw
    if hint is int:
        if len(raw) != 8:
            raise WireError("A number is expected here.", where=where)
        return struct.unpack(">q", raw)[0]
    try:
        if len(raw) > MAX_TEXT_BYTES:
            raise WireError("The text is too long.", where=where)
        return raw.decode()
    except UnicodeDecodeError as error:
        raise WireError("Text is expected here.", where=where) from error
