"""The service's four addresses: answer, health, metrics and info. Everything else is 404."""

from __future__ import annotations

import hmac
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect

from federated_analytics.site_service.decision import decision
from federated_analytics.site_service.limits import Limits, Places, in_thread
from federated_analytics.site_service.logs import log_event
from federated_analytics.site_service.metrics import CONTENT_TYPE, Metrics, gauges
from federated_analytics.site_service.socket_client import CONTENT


class Answers(Protocol):
    """What a service needs of a site; each is called from a thread of its own."""

    def answer(self, body: bytes, *, peer: str) -> bytes:
        """The release, or refusal, that answers `body`. Never raises.

        Args:
            peer: `uid:1000` of the system user who asks, or `loopback`.
        """
        ...

    def busy(self) -> bytes:
        """The refusal `site_busy`."""
        ...

    def info(self) -> Mapping[str, Any]:
        """The public part of the site's policy, as JSON types."""
        ...

    def counts(self) -> Mapping[str, int]:
        """Studies that run, and that wait for a place, by these names; for the metrics."""
        ...

    def stop(self, seconds: float) -> None:
        """Let the studies that run finish for so long, then cancel them; begin no more."""
        ...


@dataclass
class ServiceState:
    """What the requests of one service share."""

    answers: Answers
    limits: Limits
    metrics: Metrics
    token: str = field(default="", repr=False)
    stopping: bool = False
    stopped_at: float = 0.0
    held_bytes: int = 0
    places: Places = field(init=False)

    def __post_init__(self) -> None:
        self.places = Places(self.limits, self.metrics)


def service_app(state: ServiceState) -> FastAPI:
    """The ASGI application; it says nothing of itself."""
    # Only who knows the token gets further than this; a Unix socket has checked its peer before.
    admitted = [Depends(_token_check(state.token))] if state.token else []
    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=admitted,
    )

    @app.post("/answer")
    async def answer(request: Request) -> Response:
        return await _answer(state, request)

    @app.get("/health")
    async def health() -> Response:
        status = "stopping" if state.stopping else "ok"
        return JSONResponse({"status": status}, 503 if state.stopping else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        text = state.metrics.text() + gauges(state.answers.counts())
        return Response(text, media_type=CONTENT_TYPE)

    @app.get("/info")
    async def info() -> Response:
        return JSONResponse(dict(await in_thread(state.answers.info)))

    @app.exception_handler(AnyHTTPException)
    async def refused(request: Request, error: AnyHTTPException) -> Response:
        status = 404 if error.status_code == 405 else error.status_code
        state.metrics.turn_away(_REASONS.get(status, "other"))
        return Response(status_code=status, headers={"Connection": "close"})

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        log_event("failed", exception=type(error).__name__)
        return Response(status_code=500, headers={"Connection": "close"})

    return app


_REASONS = {
    401: "unknown_token",
    404: "unknown_address",
    413: "too_large",
    415: "wrong_type",
    400: "cut_short",
}


def _token_check(token: str) -> Any:
    expected = f"Bearer {token}".encode()

    async def check(request: Request) -> None:
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, expected):
            raise HTTPException(401)

    return check


async def _answer(state: ServiceState, request: Request) -> Response:
    started = time.monotonic()
    peer = request.client.host if request.client else ""
    if request.headers.get("content-type") != CONTENT:
        raise HTTPException(415)
    async with _body(state, request) as body:
        reply, code = await _decide(state, request, body, peer)
    seconds = time.monotonic() - started
    state.metrics.answered(code, seconds)
    log_event(
        "answered",
        peer=peer,
        bytes_in=len(body or b""),
        bytes_out=len(reply),
        decision=code,
        seconds=round(seconds, 4),
    )
    return Response(reply, media_type=CONTENT)


async def _decide(
    state: ServiceState, request: Request, body: bytes | None, peer: str
) -> tuple[bytes, str]:
    """The site's answer, or its word that it is busy, and what was decided."""

    async def wanted() -> bool:
        return not state.stopping and not await request.is_disconnected()

    def answered() -> tuple[bytes, str]:
        reply = state.answers.answer(body or b"", peer=peer)
        return reply, decision(reply)

    def busy() -> tuple[bytes, str]:
        reply = state.answers.busy()
        return reply, decision(reply)

    found: tuple[bytes, str] | None = None
    if body is not None and not state.stopping and not state.places.full:
        found = await state.places.run(answered, wanted)
    return await in_thread(busy) if found is None else found


@asynccontextmanager
async def _body(state: ServiceState, request: Request) -> AsyncIterator[bytes | None]:
    """A request's body, counted while it is held; None where too much is held already."""
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > state.limits.body_bytes:
        raise HTTPException(413)  # before a byte of it is read
    pieces: list[bytes] = []
    held = 0
    try:
        async for piece in request.stream():
            held += len(piece)
            state.held_bytes += len(piece)
            pieces.append(piece)
            if held > state.limits.body_bytes:
                raise HTTPException(413)
            if state.held_bytes > state.limits.bodies_bytes:
                pieces = []
                break
        yield b"".join(pieces) if len(pieces) or not held else None
    except ClientDisconnect as error:
        raise HTTPException(400) from error
    finally:
        state.held_bytes -= held
