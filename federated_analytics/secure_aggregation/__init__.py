"""Secure aggregation: the server learns the sum over sites and no site's own numbers (R12).

The protocol is that of Bonawitz et al. (2017) against a server that is honest but curious, with
keys that the sites sign. Four rounds: advertise, share, mask, unmask.

References: Bonawitz et al. (2017), Practical Secure Aggregation for Privacy-Preserving Machine
    Learning, CCS, doi:10.1145/3133956.3133982
"""

from __future__ import annotations

from federated_analytics.secure_aggregation.messages import KIND, is_secure_reply
from federated_analytics.secure_aggregation.participant import SecureParticipant
from federated_analytics.secure_aggregation.rounds import (
    Round,
    first_request,
    run_of,
    secure_rounds,
)
from federated_analytics.secure_aggregation.server import SecureServer
from federated_analytics.secure_aggregation.sessions import SecureSite

__all__ = [
    "KIND",
    "Round",
    "SecureParticipant",
    "SecureServer",
    "SecureSite",
    "first_request",
    "is_secure_reply",
    "run_of",
    "secure_rounds",
]
