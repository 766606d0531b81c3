"""What a signed request may ask of a guarded site: a study, or what a handler answers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, cast

from federated_analytics.approval_request import approval_request
from federated_analytics.code_digest import code_digest
from federated_analytics.errors import RequestRefused
from federated_analytics.guarded_answer import Asker, GuardedAnswer
from federated_analytics.omop.database import version_of
from federated_analytics.privacy.asked import Asked
from federated_analytics.quote import budget_left, quote, to_text
from federated_analytics.study import Study

if TYPE_CHECKING:
    from federated_analytics.guarded_site import GuardedSite
    from federated_analytics.messages import Request
    from federated_analytics.site import Site

STUDY = "study"
AUDITED_CHARACTERS = 20_000
"""Of what is asked in a request of another kind; its digest names the whole."""


class UnknownKind(RequestRefused):
    """A request of a kind that the site does not answer."""

    code = "unknown_kind"
    default_remedy = "Use the same version of federated_analytics at the server and at every site."


class Working(RequestRefused):
    """Not an error: the answer is being made, and is fetched by the same request."""

    code = "working"
    default_remedy = "The same request is sent again, and is answered once."


class CancelledByOperator(RequestRefused):
    """The site's operator ended a study that was worked on."""

    code = "cancelled_by_operator"
    default_remedy = "Ask the site operator for the reason, then run the study again."


class Handler(Protocol):
    """Answers the requests of one kind; called from several threads.

    One that shows its requests to a person by itself has `approves = True`; otherwise the site
    asks for an approval of the request's exact text, where its policy wants one.
    """

    @property
    def quick(self) -> bool:
        """Answers within a few seconds: at once, in the caller's thread, without a ticket."""
        ...

    def answer(self, asker: Asker, request: Request, guarded: GuardedSite) -> bytes:
        """The encoded release, unsigned. The site signs it, and writes it to its audit.

        Called once for a signed request; who sends it again is given the same bytes. The database
        is asked through `guarded.site_of(asker)`, so that the request can be cancelled.

        Raises:
            FederatedAnalyticsError: a refusal.
        """
        ...


class Asks(Protocol):
    """What one request asks.

    Fields:
        name: for the operator: the study's name, or the kind
        digest: what the signature names it by
    """

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def quick(self) -> bool: ...

    @property
    def approves(self) -> bool: ...

    def grants(self) -> list[tuple[str, str]]:
        """What the analyst must be granted, each with its place in the request."""
        ...

    def for_approval(self, asker: Asker, guarded: GuardedSite) -> Asked:
        """What a person sees who is to approve it."""
        ...

    def release(self, asker: Asker, request: Request, guarded: GuardedSite) -> bytes:
        """The encoded release, which the audit holds."""
        ...


def asks(request: Request, kinds: Mapping[str, Handler]) -> Asks:
    """What a request asks; UnknownKind, or StudyError."""
    if request.kind == STUDY:
        return StudyAsked(Study.from_json(request.study))
    handler = kinds.get(request.kind)
    if handler is None:
        raise UnknownKind("The site does not answer requests of this kind.", where="kind")
    if callable(own := getattr(handler, "asked", None)):
        return cast(Asks, own(request))
    return HandlerAsked(handler, request)


@dataclass(frozen=True)
class StudyAsked:
    """A study."""

    study: Study
    quick = False
    approves = False

    @property
    def name(self) -> str:
        return self.study.study.name

    @property
    def digest(self) -> str:
        return self.study.digest

    def grants(self) -> list[tuple[str, str]]:
        return [(q.kind, f"analysis[{i}].kind") for i, q in enumerate(self.study.analysis)]

    def for_approval(self, asker: Asker, guarded: GuardedSite) -> Asked:
        asked = approval_request(guarded.site, asker, self.study)
        terms = guarded.site.policy.terms
        if terms.mode != "dp":
            return asked
        left = budget_left(terms, guarded.state.ledger, asker.name)
        return replace(asked, cost=to_text(quote(self.study, terms, left)))

    def release(self, asker: Asker, request: Request, guarded: GuardedSite) -> bytes:
        table, site = guarded.config, guarded.site_of(asker)
        seconds = guarded.seconds_of(request)
        version = table.database.version or _version(site, seconds)
        work = GuardedAnswer(site, guarded.state, asker, self.study, version, seconds)
        return work.release(request)


def _version(site: Site, seconds: float) -> str:
    with site.snapshot(seconds) as connection:
        return version_of(connection, site.cdm)


@dataclass(frozen=True)
class HandlerAsked:
    """A request that a handler answers."""

    handler: Handler
    request: Request

    @property
    def name(self) -> str:
        return self.request.kind

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.request.study.encode()).hexdigest()

    @property
    def quick(self) -> bool:
        return self.handler.quick

    @property
    def approves(self) -> bool:
        return bool(getattr(self.handler, "approves", False))

    def grants(self) -> list[tuple[str, str]]:
        return [(self.request.kind, "kind")]

    def for_approval(self, asker: Asker, guarded: GuardedSite) -> Asked:
        return Asked(
            study_name=self.name,
            study=self.request.study,
            digest=self.digest,
            analyst=asker.name,
            project=asker.project,
            question=f"A request of the kind {self.name}: its text is below.",
            sql="",
            leaves="What the site's policy lets leave of it.",
            cost="",
            code_digest=hashlib.sha256(f"{asker.code}/{code_digest()}".encode()).hexdigest(),
            asked_at=time.time(),
        )

    def release(self, asker: Asker, request: Request, guarded: GuardedSite) -> bytes:
        body = self.handler.answer(asker, request, guarded)
        guarded.state.audit.append(
            {
                "decision": "released",
                "request": asker.request,
                "analyst": asker.name,
                "project": asker.project,
                "kind": request.kind,
                "study": self.digest,
                "study_name": self.name,
                "asked": {"text": request.study[:AUDITED_CHARACTERS]},
                "app_code": asker.code,
            },
            released=body,
        )
        return body
