"""Sites that take part in a secure sum: with a database, or with made-up releases."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from federated_analytics import wire
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.table import Key, Table
from federated_analytics.couriers import InProcessCourier
from federated_analytics.errors import FederatedAnalyticsError
from federated_analytics.federation import Terms, run_study
from federated_analytics.messages import Refusal, Request
from federated_analytics.privacy.draft import Evidence
from federated_analytics.privacy.policy import Policy, refuse
from federated_analytics.report.result import Result
from federated_analytics.secure_aggregation import (
    SecureParticipant,
    SecureServer,
    SecureSite,
    run_of,
)
from federated_analytics.secure_aggregation.messages import written
from federated_analytics.signing import SigningKey
from federated_analytics.study import Study

Answer = Callable[[bytes], bytes]
OPEN = Policy(min_count=1, min_sites=2, complementary=False, dominance=1.0)
BY_SEX = Study.parse('[study]\nname = "Persons"\n[[analysis]]\nkind = "counts"\nby = ["sex"]\n')


@dataclass
class Memory:
    """What a ledger keeps."""

    kept: dict[str, bytes] = field(default_factory=dict)

    def keep(self, key: str, body: bytes) -> bytes:
        return self.kept.setdefault(key, body)


@dataclass
class Hospital:
    """A site as its service runs it: bytes in, bytes out; errors leave as refusals."""

    secure: SecureSite
    plain: Answer

    def answer(self, body: bytes) -> bytes:
        try:
            request = wire.decode_request(body)
            if request.round == 1:
                return self.secure.advertise(request, self._release, run=run_of(body))
            return self.secure.step(request)
        except FederatedAnalyticsError as error:
            refusal = Refusal(error.code, error.where, error.message, error.remedy)
            name = self.secure.site
            return wire.encode_release(refuse(refusal, site=name, study="", round=0, version="0"))

    def _release(self, request: Request) -> bytes:
        return self.plain(wire.encode_request(request))


def hospitals(
    answers: Mapping[str, Answer], min_sites: int = 2, memory: Mapping[str, Memory] | None = None
) -> dict[str, Hospital]:
    """Sites that know each other's keys, by name."""
    keys = {name: SigningKey.new() for name in answers}
    held = memory or {name: Memory() for name in answers}
    found = {}
    for name, plain in answers.items():
        peers = {other: key.public for other, key in keys.items() if other != name}
        secure = SecureSite(name, keys[name], peers, min_sites, held[name].keep)
        found[name] = Hospital(secure, plain)
    return found


def made_up(name: str, tables: Sequence[Table], study: Study, policy: Policy = OPEN) -> Answer:
    """A site without a database: what it would have computed, behind its policy."""
    public = frozenset({"", "persons", "Female", "Male", "Unknown", "attrition"})
    evidence = [Evidence(i, "everyone", table, {}, public) for i, table in enumerate(tables)]

    def answer(body: bytes) -> bytes:
        release = policy.release(
            evidence,
            site=name,
            study=study.digest,
            round=1,
            version="0",
            database=name,
            synthetic=True,
            seconds=0.0,
        )
        return wire.encode_release(release)

    return answer


def persons(female: int, male: int) -> dict[Key, Count]:
    """What `counts` by sex finds in a population without steps."""
    levels = {(): female + male, (("sex", "Female"),): female, (("sex", "Male"),): male}
    return {Key(strata, "persons", "", "persons"): Count(n) for strata, n in levels.items()}


def by_sex(counts: Mapping[str, tuple[int, int]], policy: Policy = OPEN) -> dict[str, Answer]:
    """Sites with so many women and men."""
    return {n: made_up(n, [persons(*found)], BY_SEX, policy) for n, found in counts.items()}


def run(
    study: Study,
    sites: Mapping[str, Answer],
    *,
    secure: bool,
    min_sites: int = 2,
    seconds: float = 60,
) -> Result:
    return run_study(study, InProcessCourier(sites), Terms(min_sites, seconds), secure=secure)


def numbers(result: Result) -> dict[tuple[str, ...], str]:
    """Everything that is not about how the run went."""
    return {
        (
            str(row.result_id),
            row.cdm_name,
            row.group_level,
            row.strata_name,
            row.strata_level,
            row.variable_name,
            row.variable_level or "",
            row.estimate_name,
            row.additional_level,
        ): row.estimate_value
        for row in result.rows
        if result.result_type(row.result_id) != "participation"
    }


@dataclass
class Play:
    """The four rounds without a courier, each message in the hands of the test.

    Args:
        drop: names of sites whose reply of a round does not come back.
    """

    participants: Mapping[str, SecureParticipant]
    server: SecureServer
    drop: Mapping[int, frozenset[str]] = field(default_factory=dict)
    replies: dict[int, dict[str, bytes]] = field(default_factory=dict)
    messages: dict[int, dict[str, str]] = field(default_factory=dict)

    def until(self, last: int) -> Play:
        """Play up to the replies of round `last`."""
        steps = (self.server.roster, self.server.deliveries, self.server.survivors)
        self._came(1, {n: p.advertise() for n, p in self.participants.items()})
        for number in range(2, last + 1):
            found = steps[number - 2](self.replies[number - 1])
            texts = {name: written(message) for name, message in found.items()}
            self.messages[number] = texts
            self._came(number, {name: self.told(number, name) for name in texts})
        return self

    def told(self, number: int, name: str, text: str | None = None) -> bytes:
        """What a site says to its message of a round, or to another one."""
        one = self.participants[name]
        step = {2: one.share, 3: one.masked, 4: one.unmask}[number]
        return step(self.messages[number][name] if text is None else text)

    def _came(self, number: int, replies: dict[str, bytes]) -> None:
        gone = self.drop.get(number, frozenset())
        self.replies[number] = {n: body for n, body in replies.items() if n not in gone}

    def sums(self) -> dict[str, int]:
        """Persons in all, women and men, by the server."""
        total: dict[str, int] = {}
        for disclosure in self.server.sums(self.until(4).replies[4]).values():
            for cell in disclosure.answers[0].cells:
                assert isinstance(cell.value, Count)
                level = cell.key.strata[0][1] if cell.key.strata else ""
                total[level] = total.get(level, 0) + cell.value.persons
        return total


def play(
    counts: Mapping[str, tuple[int, int]],
    drop: Mapping[int, frozenset[str]] | None = None,
    *,
    min_sites: int = 2,
    policy: Policy = OPEN,
    memory: Mapping[str, Memory] | None = None,
) -> Play:
    """Sites with so many women and men, about to begin."""
    run = secrets.token_hex(16)
    keys = {name: SigningKey.new() for name in counts}
    held = memory or {name: Memory() for name in counts}
    found = {}
    for name, plain in by_sex(counts, policy).items():
        peers = {other: key.public for other, key in keys.items() if other != name}
        release = partial(plain, b"")
        found[name] = SecureParticipant(
            name, keys[name], peers, BY_SEX, run, min_sites, release, held[name].keep
        )
    return Play(found, SecureServer(BY_SEX, run), drop or {})
