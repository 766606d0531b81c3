"""The runs of a site: their keys live in the memory of its process, and nowhere else."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FuturesTimeout
from dataclasses import dataclass, field, replace

from federated_analytics.errors import (
    ConfigError,
    FederatedAnalyticsError,
    RequestRefused,
    SiteBusy,
    WireError,
)
from federated_analytics.messages import Request
from federated_analytics.secure_aggregation.errors import NoSuchRun, Working
from federated_analytics.secure_aggregation.messages import KIND
from federated_analytics.secure_aggregation.participant import (
    ADVERTISE,
    MASK,
    SHARE,
    UNMASK,
    Keep,
    SecureParticipant,
)
from federated_analytics.signing import PublicKey, SigningKey
from federated_analytics.study import Study

log = logging.getLogger(__name__)

FINISHED_SECONDS = 300.0
"""How long the last reply of a run is held, in case it got lost."""

Answer = Callable[[Request], bytes]
"""Makes the encoded release of a request for a study."""


@dataclass
class _Session:
    participant: SecureParticipant
    owned: tuple[str, str]
    until: float
    share: Future[bytes] | None = None
    asked: str = ""


@dataclass
class SecureSite:
    """Four rounds of any number of runs.

    Args:
        peers: the other sites' public keys by name.
        min_sites: fewest sites behind a sum; 2 where less is given.
        keep: remembers over which sites a question was answered: a ledger's `keep_answer`.
        wait_seconds: after so long a study that still works is answered with `working`.
        lifetime_seconds: how long a run's keys are held.
        most: runs that are held at a time.

    Raises:
        ConfigError: two sites have one key.
    """

    site: str
    key: SigningKey = field(repr=False)
    peers: Mapping[str, PublicKey]
    min_sites: int
    keep: Keep
    wait_seconds: float = 5.0
    lifetime_seconds: float = 3_600.0
    most: int = 64
    _sessions: dict[str, _Session] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        keys = [self.key.fingerprint, *(peer.fingerprint for peer in self.peers.values())]
        if len(set(keys)) < len(keys) or self.site in self.peers:
            raise ConfigError(
                "Two sites have the same key or name.",
                where="peer",
                remedy="Give each other site once, with the line its `site key` prints.",
            )

    def advertise(
        self,
        request: Request,
        answer: Answer,
        *,
        run: str,
        owner: str = "",
        version: Callable[[], str] = str,
    ) -> bytes:
        """Round 1 of a new run: whoever may ask for the study has been looked at before.

        Args:
            answer: makes the release, in round 2.
            run: `run_of` the bytes that asked, which are the same at all sites.
            owner: who asks.
            version: the state of the data.

        Raises:
            NotAdditive: the study has no sums.
            SiteBusy: too many runs are open.
        """
        if request.kind != KIND or request.round != ADVERTISE:
            raise WireError("The first round of a secure sum is expected here.")
        study = Study.from_json(request.study)
        plain = replace(request, kind="study")
        owned = (owner, study.digest)
        with self._lock:
            self._forget()
            session = self._sessions.get(run)
            if session is None:
                if len(self._sessions) >= self.most:
                    raise SiteBusy("The site takes part in as many secure sums as it may.")
                participant = SecureParticipant(
                    self.site,
                    self.key,
                    self.peers,
                    study,
                    run,
                    self.min_sites,
                    lambda: answer(plain),
                    self.keep,
                    version,
                )
                until = time.monotonic() + self.lifetime_seconds
                session = self._sessions[run] = _Session(participant, owned, until)
            elif session.owned != owned:
                raise RequestRefused("The run is another analyst's, or of another study.")
        return session.participant.advertise()

    def step(self, request: Request) -> bytes:
        """Rounds 2 to 4. What is relied on in them is signed by sites, so nobody else signs.

        Raises:
            NoSuchRun: there is none, or it has expired.
            Working: round 2 is being answered; the same request fetches it.
        """
        with self._lock:
            self._forget()
            session = self._sessions.get(request.run)
        if session is None:
            raise NoSuchRun("The site holds no keys of this run.")
        if request.kind != KIND or request.round not in (SHARE, MASK, UNMASK):
            raise WireError("A round of a secure sum is expected here.")
        if request.round == SHARE:
            return self._share(session, request.study)
        if request.round == MASK:
            return session.participant.masked(request.study)
        body = session.participant.unmask(request.study)
        session.until = min(session.until, time.monotonic() + FINISHED_SECONDS)
        return body

    def _share(self, session: _Session, roster: str) -> bytes:
        """The study runs in a thread of its own; once, unless it was refused."""
        with self._lock:
            if session.share is not None and session.asked != roster:
                if not session.share.done():
                    raise Working("The site is working on the study.")
                session.share = None  # the participant knows what it has answered
            if session.share is None:
                session.share, session.asked = Future(), roster
                work = (session.participant, session.share, roster)
                threading.Thread(target=_shared, args=work, daemon=True).start()
            share = session.share
        try:
            return share.result(self.wait_seconds)
        except FuturesTimeout as error:
            raise Working("The site is working on the study.") from error
        except Exception:
            with self._lock:
                if session.share is share:
                    session.share = None
            raise

    def _forget(self) -> None:
        now = time.monotonic()
        for run in [r for r, session in self._sessions.items() if session.until < now]:
            del self._sessions[run]


def _shared(participant: SecureParticipant, done: Future[bytes], roster: str) -> None:
    try:
        done.set_result(participant.share(roster))
    except FederatedAnalyticsError as error:
        done.set_exception(error)
    except Exception as error:
        log.exception("the study could not be answered")
        done.set_exception(error)
