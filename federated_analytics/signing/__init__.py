"""Keys, signed requests and signed replies."""

from __future__ import annotations

from federated_analytics.signing.envelopes import (
    LIFETIME_SECONDS,
    SignedReply,
    SignedRequest,
    is_signed_reply,
    is_signed_request,
    request_hash,
    sign,
    sign_reply,
    unverified_reply,
    verify,
    verify_reply,
)
from federated_analytics.signing.keys import PREFIX, AnalystKey, PublicKey, SigningKey

__all__ = [
    "LIFETIME_SECONDS",
    "PREFIX",
    "AnalystKey",
    "PublicKey",
    "SignedReply",
    "SignedRequest",
    "SigningKey",
    "is_signed_reply",
    "is_signed_request",
    "request_hash",
    "sign",
    "sign_reply",
    "unverified_reply",
    "verify",
    "verify_reply",
]
