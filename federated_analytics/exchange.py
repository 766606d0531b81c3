"""Messages of a study to its sites, and what became of each site that was asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from federated_analytics import wire
from federated_analytics.asking import NOT_YET, Asking
from federated_analytics.couriers import Courier, Reply
from federated_analytics.errors import FederatedAnalyticsError, SiteFailed, WireError
from federated_analytics.messages import Refusal
from federated_analytics.participation import (
    ANSWERED,
    FAILED,
    NO_ANSWER,
    REFUSED,
    Participation,
    site_name,
)

if TYPE_CHECKING:
    from federated_analytics.study import Study


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


@dataclass
class Progress:
    """Tells whoever follows a run what has just happened in it."""

    report: Callable[[Event], None] | None
    total: int
    started: float
    answered: int = field(default=0)
    round: int = field(default=1)

    def __call__(self, kind: str, site: str = "", message: str = "") -> None:
        if self.report is not None:
            elapsed = time.monotonic() - self.started
            self.report(Event(kind, self.round, site, self.answered, self.total, elapsed, message))


@dataclass(frozen=True)
class Exchange:
    """What a study's messages are sent with, and where its replies are kept."""

    study: Study
    courier: Courier
    min_sites: int
    deadline_seconds: float
    progress: Progress
    replies: dict[str, bytes]

    def in_clear(self, body: bytes, addresses: Sequence[str]) -> list[Participation]:
        """One message to every site."""
        found = self._round(dict.fromkeys(addresses, body), self.replies)
        return list(found.values())

    def behind_masks(self, body: bytes, addresses: Sequence[str]) -> list[Participation]:
        """Four messages to every site; `replies` has each by address and round."""
        from federated_analytics.secure_aggregation import Round, secure_rounds

        spent: dict[str, Participation] = {}

        def ask(number: int, messages: Mapping[str, bytes]) -> Round:
            self.progress.round, self.progress.answered = number, 0
            bodies: dict[str, bytes] = {}
            found = self._round(messages, bodies, secure=True)
            self.replies.update({f"{address} {number}": b for address, b in bodies.items()})
            for address, one in found.items():
                before = spent.get(address)
                spent[address] = one if before is None else _added(before, one)
            lost = {a: one.refusal for a, one in found.items() if one.refusal is not None}
            return Round({a: released(bodies[a]) for a in found if a not in lost}, lost)

        done = secure_rounds(self.study, body, addresses, ask, min_sites=self.min_sites)
        told = []
        for address, one in spent.items():
            one = replace(one, site=site_name(done.names[address], address))
            disclosure = done.disclosures.get(address)
            if disclosure is not None:
                one = replace(one, status=ANSWERED, disclosure=disclosure, refusal=None)
            elif one.status == ANSWERED:
                one = replace(one, status=FAILED, refusal=done.lost[address])
            told.append(one)
        return told

    def _round(
        self, requests: Mapping[str, bytes], replies: dict[str, bytes], *, secure: bool = False
    ) -> dict[str, Participation]:
        """What came back of one message to each site, by address."""
        limit, progress = self.deadline_seconds, self.progress
        sent, most = time.monotonic(), max(map(len, requests.values()))
        said = f"round {progress.round}: one message of {most:,} bytes to each site"
        progress("sent", message=said)
        asking = Asking(self.courier, requests, sent + limit)
        found: dict[str, Participation] = {}
        waiting: dict[str, Participation] = {}
        for reply in asking.replies():
            address = reply.address
            if address in found or address not in requests:
                continue
            size, seconds = len(requests[address]), time.monotonic() - sent
            one = _received(self.study, reply, size, seconds, secure=secure)
            if one.refusal is not None and one.refusal.code in NOT_YET and asking.again(address):
                if address not in waiting:
                    progress("waiting", one.site, one.refusal.message)
                waiting[address] = one
                continue
            found[address] = one
            replies[address] = reply.body or b""
            progress.answered += one.status == ANSWERED
            why = "" if one.refusal is None else f"{one.refusal.code}. {one.refusal.remedy}"
            progress("answered" if one.status == ANSWERED else "failed", one.site, why)
        for address, body in requests.items():
            if address not in found:
                found[address] = waiting.get(address) or _silent(address, len(body), limit)
                progress("failed", found[address].site, "no answer before the deadline")
        return found


def _added(before: Participation, one: Participation) -> Participation:
    """What became of a site in this round, with what it took in those before."""
    return replace(
        one,
        seconds=before.seconds + one.seconds,
        bytes_sent=before.bytes_sent + one.bytes_sent,
        bytes_received=before.bytes_received + one.bytes_received,
    )


def _received(
    study: Study, reply: Reply, sent: int, seconds: float, *, secure: bool = False
) -> Participation:
    """A reply as participation: what is not a release of this study never counts as one.

    Args:
        secure: a part of a secure sum is expected, or a refusal.
    """
    try:
        if reply.body is None:
            raise SiteFailed()
        if secure and _is_part(released(reply.body)):
            name = site_name("", reply.address)
            return Participation(name, ANSWERED, seconds, sent, len(reply.body))
        disclosure = wire.decode_release(released(reply.body))
        if disclosure.refusal is None and (secure or disclosure.study != study.digest):
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


def _is_part(body: bytes) -> bool:
    from federated_analytics.secure_aggregation import is_secure_reply

    return is_secure_reply(body)


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


@dataclass(frozen=True)
class Replayed:
    """A courier of replies that were kept: from them the same secure result follows again.

    Args:
        replies: by address and round, as `Exchange.behind_masks` fills them.
        check: looks at a reply and the request that it answers; a reply with which it raises is
            none, and `errors` says why.
    """

    replies: Mapping[str, bytes]
    check: Callable[[bytes, bytes], object] = lambda reply, request: None
    errors: list[FederatedAnalyticsError] = field(default_factory=list, init=False)

    def addresses(self) -> list[str]:
        return sorted({place.partition(" ")[0] for place in self.replies})

    def exchange(self, requests: Mapping[str, bytes], deadline: float) -> Iterator[Reply]:
        for address, request in requests.items():
            kept = self.replies.get(f"{address} {_round_of(request)}")
            if kept is None:
                continue
            try:
                self.check(kept, request)
            except FederatedAnalyticsError as error:
                self.errors.append(error)
            else:
                yield Reply(address, kept)


def _round_of(body: bytes) -> int:
    """The round of a request; an analyst signs the first alone."""
    from federated_analytics.signing import is_signed_request

    return 1 if is_signed_request(body) else wire.decode_request(body).round
