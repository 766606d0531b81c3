"""What an answer decided, for the log and the metrics: its code, and nothing of its content."""

from __future__ import annotations

from federated_analytics import wire
from federated_analytics.errors import FederatedAnalyticsError
from federated_analytics.signing import is_signed_reply, unverified_reply

RELEASED, UNREADABLE = "released", "unreadable"


def decision(answer: bytes) -> str:
    """`released`, or the code of the refusal that `answer` is."""
    try:
        release = unverified_reply(answer).release if is_signed_reply(answer) else answer
        refusal = wire.decode_release(release).refusal
    except FederatedAnalyticsError:
        return UNREADABLE
    return refusal.code if refusal else RELEASED
