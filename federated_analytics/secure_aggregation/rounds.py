"""The four rounds, over whatever carries messages to sites and back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from federated_analytics import wire
from federated_analytics.errors import TooFewSites
from federated_analytics.messages import Disclosure, Refusal, Request
from federated_analytics.secure_aggregation.messages import KIND, written
from federated_analytics.secure_aggregation.server import Bodies, SecureServer
from federated_analytics.study import Study

STEPS = ("advertise", "share", "mask", "unmask")


@dataclass
class Round:
    """What came of one round.

    Fields:
        replies: by address, of sites that did their part
        lost: by address, why the others did not
    """

    replies: dict[str, bytes] = field(default_factory=dict)
    lost: dict[str, Refusal] = field(default_factory=dict)


Ask = Callable[[int, Mapping[str, bytes]], Round]
"""Sends each site its message of a round, and waits for the replies."""


@dataclass(frozen=True)
class Summed:
    """A finished run.

    Fields:
        disclosures: by address; their cells merge to the sums, none is a site's own
        lost: by address, why a site is not in the sums
        names: the sites' names by address, as far as they said them
    """

    disclosures: Mapping[str, Disclosure]
    lost: Mapping[str, Refusal]
    names: Mapping[str, str]


def first_request(request: Request) -> Request:
    """A study's request as the first round of a secure sum: what an analyst signs."""
    return replace(request, kind=KIND, round=1)


def run_of(body: bytes) -> str:
    """What identifies a run: SHA-256 of the first round's bytes, in hex."""
    return hashlib.sha256(body).hexdigest()


def secure_rounds(
    study: Study,
    body: bytes,
    addresses: Sequence[str],
    ask: Ask,
    *,
    min_sites: int = 2,
) -> Summed:
    """Run a study behind masks.

    Args:
        body: the first round's request, signed or not; the same for all.
        min_sites: fewest sites behind a sum; a site's policy may ask for more.

    Raises:
        NotAdditive: the study has no sums; nothing was sent.
        TooFewSites: too many dropped out; it names each.
        UnmaskingFailed: what the sites sent does not add up.
    """
    server = SecureServer(study, run_of(body), min_sites)
    lost: dict[str, Refusal] = {}

    def round_of(number: int, requests: Mapping[str, bytes]) -> Bodies:
        came = ask(number, requests)
        lost.update(came.lost)
        return came.replies

    def messages(number: int, found: Mapping[str, object]) -> dict[str, bytes]:
        step = Request("", number, server.run, 0.0, KIND)  # the first one said how long
        return {
            address: wire.encode_request(replace(step, study=written(message)))
            for address, message in found.items()
        }

    try:
        replies = round_of(1, dict.fromkeys(addresses, body))
        replies = round_of(2, messages(2, server.roster(replies)))
        replies = round_of(3, messages(3, server.deliveries(replies)))
        replies = round_of(4, messages(4, server.survivors(replies)))
        found = server.sums(replies)
    except TooFewSites as error:
        lost.update(_dropped(server))
        raise _explained(error, lost, server.name_of) from error
    lost.update(_dropped(server))
    names = {address: server.name_of(address) for address in addresses}
    return Summed(found, {a: why for a, why in lost.items() if a not in found}, names)


def _dropped(server: SecureServer) -> dict[str, Refusal]:
    return {
        address: Refusal(error.code, error.where, error.message, error.remedy)
        for address, error in server.dropped.items()
    }


def _explained(
    error: TooFewSites, lost: Mapping[str, Refusal], name_of: Callable[[str], str]
) -> TooFewSites:
    reasons = "; ".join(
        f"{name_of(address) or address}: {why.code} ({why.message} {why.remedy})"
        for address, why in sorted(lost.items())
    )
    return TooFewSites(
        f"{error.message}{f' {reasons}.' if reasons else ''}",
        where=error.where,
        remedy="Mend the sites named, or connect more, and run the study again.",
    )
