"""The console's routes. Forms are POSTs that end in a redirect; nothing needs JavaScript."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from federated_analytics.errors import ConfigError, FederatedAnalyticsError
from federated_analytics.privacy.approval import LONGEST_DAYS, LONGEST_REASON
from federated_analytics.privacy.asked import Entry
from federated_analytics.site_service.console.guard import LOOPBACK, Guard
from federated_analytics.site_service.console.pages import page, style_sheet
from federated_analytics.site_service.console.script import script_view
from federated_analytics.site_service.console.sessions import SESSION_SECONDS, Sessions
from federated_analytics.site_service.console.state import ConsoleState

log = logging.getLogger(__name__)

COOKIE = "federated_analytics_console"
LONGEST_FORM = 16_384
LINES = 100
"""Charges, and lines of the audit, on one page."""

SAID = {
    "approve": "The study is approved.",
    "refuse": "The study is refused; the analyst is told why.",
    "revoke": "The decision is taken back; the study waits again.",
}


@dataclass(frozen=True)
class Console:
    """What the routes share."""

    state: ConsoleState
    sessions: Sessions


@dataclass(frozen=True)
class SignedIn:
    """A request of somebody who has signed in."""

    console: Console
    secret: str

    @property
    def state(self) -> ConsoleState:
        return self.console.state

    def page(self, template: str, status: int = 200, **facts: Any) -> HTMLResponse:
        """A page with the console's frame around it."""
        body = page(
            template,
            site=self.state.site,
            operator=self.state.operator,
            waiting=self.state.approvals.count_pending(),
            form_token=self.console.sessions.form_token(self.secret),
            now=time.time(),
            **facts,
        )
        return HTMLResponse(body, status)


def console_app(
    state: ConsoleState, sessions: Sessions | None = None, hosts: Collection[str] = LOOPBACK
) -> FastAPI:
    """The console as an application of its own, for a loopback port.

    Args:
        sessions: whose `invite()` gives the token to sign in with; new ones by default.
        hosts: the names it is reached under.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, title="console")
    app.state.console = Console(state, sessions or Sessions())
    app.include_router(router)
    app.add_exception_handler(FederatedAnalyticsError, _failed)
    app.add_exception_handler(HTTPException, _absent)
    app.add_exception_handler(404, _absent)
    app.add_exception_handler(405, _absent)
    app.add_exception_handler(RequestValidationError, _absent)
    app.add_middleware(Guard, hosts=hosts)
    return app


def _console(request: Request) -> Console:
    console: Console = request.app.state.console
    return console


def _signed_in(request: Request) -> SignedIn:
    console = _console(request)
    secret = request.cookies.get(COOKIE, "")
    if not console.sessions.known(secret):
        raise HTTPException(303, headers={"Location": "/console/login"})
    return SignedIn(console, secret)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form, each once; 413 where it is longer than any of ours."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LONGEST_FORM:
            raise HTTPException(413)
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=10)
    except ValueError as error:
        raise HTTPException(400) from error
    return {name: values[0] for name, values in fields.items()}


Form = Annotated[dict[str, str], Depends(_form)]
Reader = Annotated[SignedIn, Depends(_signed_in)]


def _decider(reader: Reader, form: Form) -> SignedIn:
    if not reader.console.sessions.is_form_token(reader.secret, form.get("form_token", "")):
        raise HTTPException(403)
    return reader


Decider = Annotated[SignedIn, Depends(_decider)]

router = APIRouter(prefix="/console", default_response_class=HTMLResponse)


@router.get("/style.css")
def _style() -> Response:
    return Response(style_sheet(), media_type="text/css")


@router.get("/login")
def _login(request: Request, token: str = "") -> Response:
    site = _console(request).state.site
    return HTMLResponse(page("login.html", site=site, token=token[:100], wrong=False))


@router.post("/login")
def _begin(request: Request, form: Form) -> Response:
    console = _console(request)
    secret = console.sessions.begin(form.get("token", ""))
    if secret is None:
        log.warning("a token that is not open was given to the console")
        body = page("login.html", site=console.state.site, token="", wrong=True)
        return HTMLResponse(body, 403)
    response = RedirectResponse("/console", 303)
    response.set_cookie(
        COOKIE,
        secret,
        max_age=int(SESSION_SECONDS),
        path="/console",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return response


@router.post("/logout")
def _end(decider: Decider) -> Response:
    decider.console.sessions.end(decider.secret)
    response = RedirectResponse("/console/login", 303)
    response.delete_cookie(COOKIE, path="/console", httponly=True, samesite="strict")
    return response


@router.get("")
@router.get("/")
def _pending(reader: Reader, said: str = "") -> Response:
    entries = reader.state.approvals.pending()
    return reader.page("pending.html", tab="pending", entries=entries, said=SAID.get(said, ""))


@router.get("/decided")
def _decided(reader: Reader) -> Response:
    entries = [e for e in reader.state.approvals.all() if e.state != "pending"]
    return reader.page("decided.html", tab="decided", entries=entries)


@router.get("/studies/{fingerprint}")
def _study(reader: Reader, fingerprint: str) -> Response:
    return _study_page(reader, _found(reader, fingerprint))


@router.post("/studies/{fingerprint}/{deed}")
def _decide(decider: Decider, form: Form, fingerprint: str, deed: str) -> Response:
    entry = _found(decider, fingerprint)
    try:
        _do(decider.state, entry.fingerprint, deed, form)
    except ConfigError as error:
        return _study_page(decider, entry, error, form)
    return RedirectResponse(f"/console?said={deed}", 303)


@router.get("/ledger")
def _ledger(reader: Reader) -> Response:
    state = reader.state
    return reader.page(
        "ledger.html", tab="ledger", budgets=state.budgets(), charges=state.charges(LINES)
    )


@router.get("/audit")
def _audit(reader: Reader, before: int | None = None, verify: bool = False) -> Response:
    lines = reader.state.audit_lines(before, LINES)
    problems = reader.state.audit_problems() if verify else None
    older = lines[-1].number if len(lines) == LINES else None
    return reader.page("audit.html", tab="audit", lines=lines, problems=problems, older=older)


@router.get("/policy")
def _policy(reader: Reader) -> Response:
    state = reader.state
    return reader.page("policy.html", tab="policy", lines=state.policy(), text=state.policy_text())


def _found(reader: SignedIn, fingerprint: str) -> Entry:
    # The whole fingerprint: what is decided on is what was shown.
    if len(fingerprint) == 64:
        try:
            return reader.state.approvals.find(fingerprint)
        except ConfigError as error:
            raise HTTPException(404) from error
    raise HTTPException(404)


def _do(state: ConsoleState, fingerprint: str, deed: str, form: dict[str, str]) -> None:
    if deed == "approve":
        state.approvals.approve(fingerprint, state.operator, _days(form))
    elif deed == "refuse":
        state.approvals.refuse(fingerprint, state.operator, form.get("reason", ""))
    elif deed == "revoke":
        state.approvals.revoke(fingerprint, state.operator)
    else:
        raise HTTPException(404)


def _days(form: dict[str, str]) -> int | None:
    if form.get("span") == "run":
        return None
    days = form.get("days", "").strip()
    if form.get("span") == "days" and days.isascii() and days.isdecimal() and len(days) < 5:
        return int(days)
    raise ConfigError(
        "Say how long the approval lasts: one run, or a whole number of days.", where="days"
    )


def _study_page(
    reader: SignedIn,
    entry: Entry,
    error: ConfigError | None = None,
    form: dict[str, str] | None = None,
) -> Response:
    return reader.page(
        "study.html",
        200 if error is None else 400,
        tab="pending" if entry.state == "pending" else "decided",
        entry=entry,
        script=script_view(entry.asked),
        error=error,
        form=form or {},
        longest_reason=LONGEST_REASON,
        longest_days=LONGEST_DAYS,
    )


def _failed(request: Request, error: Exception) -> Response:
    log.error("the console could not answer: %s", error.__cause__ or error)
    site = _console(request).state.site
    return HTMLResponse(page("message.html", site=site, title="Not done", message=str(error)), 503)


_MESSAGES = {
    403: ("Not done", "The form is too old, or another page sent it. Open the page again."),
    404: ("Not found", "There is no such page, or no such study."),
    413: ("Not done", "The form is too long."),
}


def _absent(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 422)
    location = (getattr(error, "headers", None) or {}).get("Location")
    if location is not None:
        return RedirectResponse(location, 303)
    title, message = _MESSAGES.get(status, ("Not done", "The console does not understand this."))
    site = _console(request).state.site
    return HTMLResponse(page("message.html", site=site, title=title, message=message), status)
