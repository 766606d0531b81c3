"""One study over many sites: rounds, deadline, quorum, failed sites, merging."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from federated_analytics import wire
from federated_analytics.asking import NOT_YET, Asking
from federated_analytics.couriers import Courier, Reply
from federated_analytics.errors import (
    FederatedAnalyticsError,
    NoSites,
    SiteFailed,
    TooFewSites,
    WireError,
)
from federated_analytics.messages import Refusal, Request
from federated_analytics.participation import (
    ANSWERED,
    FAILED,
    NO_ANSWER,
    REFUSED,
    Participation,
    noted,
    site_name,
)
from federated_analytics.run_config import whole

if TYPE_CHECKING:
    from federated_analytics.report.result import Result
    from federated_analytics.study import Study

DEFAULT_DEADLINE_SECONDS = 300
TRAVEL_SECONDS = 8.0
"""Of a deadline, what is left for the way: a SuperNode polls every 3 s and starts a process."""


@dataclass(frozen=True)
class Terms:
    """When a study is finished.

    Args:
        min_sites: fewest sites that must answer, and fewest behind a pooled number. A site's
            own policy may ask for more.
        deadline_seconds: how long sites are waited for, a round.
    """

    min_sites: int = 2
    deadline_seconds: float = DEFAULT_DEADLINE_SECONDS

    @classmethod
    def from_run_config(cls, run_config: Mapping[str, Any]) -> Self:
        """Terms from `min-sites` and `deadline-seconds`; ConfigError outside their bounds."""
        return cls(
            whole(run_config, "min-sites", 2, 1, 1_000),
            whole(run_config, "deadline-seconds", DEFAULT_DEADLINE_SECONDS, 1, 86_400),
        )


@dataclass(frozen=True)
class Event:
    """Progress: what has just happened."""

    kind: str
    round: int
    site: str
    answered: int
    total: int
    elapsed_seconds: float
    message: str


@dataclass(frozen=True)
class Outcome:
    """A finished study: who answered, and all that is needed to write its result."""

    study: Study
    participation: tuple[Participation, ...]
    min_sites: int
    rounds: int
    started: datetime
    elapsed_seconds: float

    @property
    def answered(self) -> list[Participation]:
        return [p for p in self.participation if p.status == ANSWERED]


@dataclass
class _Progress:
    report: Callable[[Event], None] | None
    total: int
    started: float
    answered: int = field(default=0)

    def __call__(self, kind: str, site: str = "", message: str = "") -> None:
        if self.report is not None:
            elapsed = time.monotonic() - self.started
            self.report(Event(kind, 1, site, self.answered, self.total, elapsed, message))


def run_study(
    study: Study,
    courier: Courier,
    terms: Terms,
    *,
    on_progress: Callable[[Event], None] | None = None,
    signed_request: bytes | None = None,
    replies: dict[str, bytes] | None = None,
) -> Result:
    """Ask every site, merge what they release, and return the result.

    Args:
        signed_request: sent as it is, in place of a request made here.
        replies: filled with what each site sent, by its address.

    Raises:
        NoSites: no site is connected.
        TooFewSites: fewer answered than `terms` or a site's policy ask; it names each site.
    """
    from federated_analytics.results import result_of

    started_at, started = datetime.now(UTC), time.monotonic()
    addresses = courier.addresses()
    if not addresses:
        raise NoSites("No site is connected.")
    progress = _Progress(on_progress, len(addresses), started)
    progress("start", message=f"asking {len(addresses)} sites: {study.study.name}")
    body = signed_request or _request(study, terms)
    held = replies if replies is not None else {}
    participation = _one_round(
        study, courier, dict.fromkeys(addresses, body), terms, progress, held
    )
    outcome = Outcome(
        study=study,
        participation=noted(participation),
        min_sites=_quorum(participation, terms),
        rounds=1,
        started=started_at,
        elapsed_seconds=time.monotonic() - started,
    )
    _enough(outcome)
    result = result_of(outcome)
    progress("done", message=f"{len(outcome.answered)} of {len(addresses)} sites answered")
    return result


def _request(study: Study, terms: Terms) -> bytes:
    return wire.encode_request(request_of(study, terms.deadline_seconds))


def request_of(study: Study, limit: float) -> Request:
    """The request of a study's round whose sites are waited for `limit` seconds."""
    return Request(
        study=study.to_json(),
        round=1,
        run=secrets.token_hex(16),
        seconds=max(limit / 2, limit - TRAVEL_SECONDS),
    )


def _one_round(
    study: Study,
    courier: Courier,
    requests: Mapping[str, bytes],
    terms: Terms,
    progress: _Progress,
    replies: dict[str, bytes],
) -> list[Participation]:
    """One message to every site; what came back, in the sites' order."""
    limit, addresses = terms.deadline_seconds, list(requests)
    body = next(iter(requests.values()))
    sent = time.monotonic()
    progress("sent", message=f"round 1: one message of {len(body):,} bytes to each site")
    asking = Asking(courier, requests, sent + limit)
    found: dict[str, Participation] = {}
    waiting: dict[str, Participation] = {}
    for reply in asking.replies():
        if reply.address in found or reply.address not in addresses:
            continue
        one = _received(study, reply, len(body), time.monotonic() - sent)
        if one.refusal is not None and one.refusal.code in NOT_YET and asking.again(reply.address):
            if reply.address not in waiting:
                progress("waiting", one.site, one.refusal.message)
            waiting[reply.address] = one
            continue
        found[reply.address] = one
        replies[reply.address] = reply.body or b""
        progress.answered += one.status == ANSWERED
        why = "" if one.refusal is None else f"{one.refusal.code}. {one.refusal.remedy}"
        progress("answered" if one.status == ANSWERED else "failed", one.site, why)
    for address in addresses:
        if address not in found:
            found[address] = waiting.get(address) or _silent(address, len(body), limit)
            progress("failed", found[address].site, "no answer before the deadline")
    return sorted(found.values(), key=lambda p: p.site)


def _received(study: Study, reply: Reply, sent: int, seconds: float) -> Participation:
    """A reply as participation: what is not a release of this study never counts as one."""
    try:
        if reply.body is None:
            raise SiteFailed()
        disclosure = wire.decode_release(released(reply.body))
        if disclosure.refusal is None and disclosure.study != study.digest:
            raise WireError("The site answered another study.")
    except FederatedAnalyticsError as error:
        refusal = Refusal(error.code, "", error.message, error.remedy)
        name, size = site_name("", reply.address), len(reply.body or b"")
        return Participation(name, FAILED, seconds, sent, size, refusal=refusal)
    name = site_name(disclosure.site, reply.address)
    if disclosure.refusal is not None:
        refusal = disclosure.refusal
        return Participation(name, REFUSED, seconds, sent, len(reply.body), refusal=refusal)
    return Participation(name, ANSWERED, seconds, sent, len(reply.body), disclosure)


def released(body: bytes) -> bytes:
    """The release in a site's reply: with or without the site's signature around it.

    Nothing is proved here: whoever runs this could alter the result anyhow. The analyst's own
    machine verifies (`attested.check`).
    """
    from federated_analytics.signing import is_signed_reply, unverified_reply

    return unverified_reply(body).release if is_signed_reply(body) else body


def _silent(address: str, sent: int, seconds: float) -> Participation:
    refusal = Refusal(
        "no_answer",
        "",
        "The site did not answer before the deadline.",
        "Raise deadline-seconds, or ask the site whether its SuperNode and database run.",
    )
    return Participation(site_name("", address), NO_ANSWER, seconds, sent, 0, refusal=refusal)


def _quorum(found: Sequence[Participation], terms: Terms) -> int:
    asked = [p.disclosure.terms.min_sites for p in found if p.disclosure and p.disclosure.terms]
    return max([terms.min_sites, *asked])


def _enough(outcome: Outcome) -> None:
    count = len(outcome.answered)
    if count >= outcome.min_sites:
        return
    others = [p for p in outcome.participation if p.refusal is not None]
    reasons = "; ".join(
        f"{p.site}: {p.refusal.code} ({p.refusal.message} {p.refusal.remedy})"  # type: ignore[union-attr]
        for p in others
    )
    raise TooFewSites(
        f"{count} of {len(outcome.participation)} sites answered; "
        f"at least {outcome.min_sites} must.{f' {reasons}.' if reasons else ''}",
        where="min-sites",
        remedy="Mend the sites named, connect more, or lower min-sites as far as their "
        "policies allow.",
    )
