"""One study over many sites: rounds, deadline, quorum, failed sites, merging."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from federated_analytics import wire
from federated_analytics.couriers import Courier
from federated_analytics.errors import NoSites, TooFewSites
from federated_analytics.exchange import Event, Exchange, Progress, released
from federated_analytics.messages import Request
from federated_analytics.participation import ANSWERED, Participation, noted
from federated_analytics.run_config import whole

if TYPE_CHECKING:
    from federated_analytics.report.result import Result
    from federated_analytics.study import Study

__all__ = ["Event", "Outcome", "Terms", "released", "request_of", "run_study"]

DEFAULT_DEADLINE_SECONDS = 300
SECURE_ROUNDS = 4
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
class Outcome:
    """A finished study: who answered, and all that is needed to write its result.

    Fields:
        secure: the sites' numbers were added up behind masks
    """

    study: Study
    participation: tuple[Participation, ...]
    min_sites: int
    rounds: int
    started: datetime
    elapsed_seconds: float
    secure: bool = False

    @property
    def answered(self) -> list[Participation]:
        return [p for p in self.participation if p.status == ANSWERED]


def run_study(
    study: Study,
    courier: Courier,
    terms: Terms,
    *,
    on_progress: Callable[[Event], None] | None = None,
    signed_request: bytes | None = None,
    replies: dict[str, bytes] | None = None,
    secure: bool = False,
) -> Result:
    """Ask every site, merge what they release, and return the result.

    Args:
        signed_request: sent as it is, in place of a request made here.
        replies: filled with what each site sent, by its address.
        secure: add the sites' numbers up behind masks, so that nobody sees those of one site.

    Raises:
        NoSites: no site is connected.
        NotAdditive: `secure`, and an analysis is not made of sums.
        TooFewSites: fewer answered than `terms` or a site's policy ask; it names each site.
    """
    from federated_analytics.results import result_of

    started_at, started = datetime.now(UTC), time.monotonic()
    addresses = courier.addresses()
    if not addresses:
        raise NoSites("No site is connected.")
    progress = Progress(on_progress, len(addresses), started)
    progress("start", message=f"asking {len(addresses)} sites: {study.study.name}")
    body = signed_request or _request(study, terms, secure)
    held = replies if replies is not None else {}
    limits = terms.min_sites, terms.deadline_seconds
    asked = Exchange(study, courier, *limits, progress, held)
    found = asked.behind_masks(body, addresses) if secure else asked.in_clear(body, addresses)
    participation = sorted(found, key=lambda p: p.site)
    outcome = Outcome(
        study=study,
        participation=noted(participation),
        min_sites=_quorum(participation, terms),
        rounds=SECURE_ROUNDS if secure else 1,
        started=started_at,
        elapsed_seconds=time.monotonic() - started,
        secure=secure,
    )
    _enough(outcome)
    result = result_of(outcome)
    progress("done", message=f"{len(outcome.answered)} of {len(addresses)} sites answered")
    return result


def _request(study: Study, terms: Terms, secure: bool) -> bytes:
    return wire.encode_request(request_of(study, terms.deadline_seconds, secure=secure))


def request_of(study: Study, limit: float, *, secure: bool = False) -> Request:
    """The request of a study's first round, whose sites are waited for `limit` seconds."""
    return Request(
        study=study.to_json(),
        round=1,
        run=secrets.token_hex(16),
        seconds=max(limit / 2, limit - TRAVEL_SECONDS),
        kind="secure" if secure else "study",
    )


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
