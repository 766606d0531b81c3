"""`fm.Server`: fragments behind HTTP, for any WSGI server."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from federated_analytics.errors import MissingExtra, RequestRefused
from federated_analytics.fedmed.access import Access
from federated_analytics.fedmed.config import Config
from federated_analytics.fedmed.fragment_site import FragmentSite
from federated_analytics.fedmed.served_fragment import ServedFragment

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from flask import Flask, Request, Response

log = logging.getLogger(__name__)
MAX_REQUEST_BYTES = 4 * 2**20
REQUESTS_A_MINUTE = 6_000
FORGETS = (
    'A restart forgets what was asked; fm.Server(…, state="state") keeps it, for this and other '
    "processes."
)


class SeveralProcesses(RequestRefused):
    """A server of several processes that know nothing of each other."""

    code = "several_processes"
    default_remedy = (
        'The owner gives them a folder in common: fm.Server(config, state="state"); or runs one '
        "process."
    )


class Server:
    """Fragments of one or more data sets, and what clients may ask of them.

    >>> from federated_analytics import fedmed as fm
    >>> server = fm.Server(config={"privacy": []}, tokens=["secret"])
    >>> server["test array 1/2"] = [1, 2, 3]
    >>> server["test array 1/2"].rows
    3

    Data are a list, an array, a Series, a DataFrame, a dict of any of them (nested, if need be),
    the path of a Parquet or CSV file, or an `SQLTable`.

    Args:
        config: a file in FedMed's form, or its content; the strict default where left out.
        tokens: which clients are let in; FEDMED_TOKEN's where left out, or a new one, printed.
        state: a folder that keeps over restarts, and for all processes of a server, what was
            asked, which version is shown, a token that was made, and every answer
            (`federated-analytics site audit list FOLDER`).
        name: shown on the status page.
        requests_a_minute: of all clients together; more are told to wait.

    Raises:
        ConfigError: the configuration cannot be used; it names the line.
    """

    def __init__(
        self,
        config: str | Path | Mapping[str, Any] | None = None,
        tokens: Sequence[str] | None = None,
        *,
        state: str | Path | None = None,
        name: str = "",
        requests_a_minute: int = REQUESTS_A_MINUTE,
    ) -> None:
        self.config = Config() if config is None else Config.load(config)
        self.name: str = name
        self._state = Path(state) if state else None
        self._site = FragmentSite(self.config, self._state, name=name, audited=state is not None)
        self._access = Access.of(tokens, self._state)
        self._rate = _Rate(requests_a_minute)
        self._has_complained = False
        self._announce()

    def _announce(self) -> None:
        """What the owner must know, before the first request."""
        said = list(self.config.warnings)
        if self.config.remembers and self._state is None:
            said.append(FORGETS)
        if self._access.made:
            kept = f" (kept in {self._access.file})" if self._access.file else ""
            said.append(f"clients need the token {self._access.made}{kept}")
        for line in said:
            print(f"fedmed: {line}", file=sys.stderr, flush=True)

    def __setitem__(self, fragment: str, data: Any) -> None:
        self._site[fragment] = data

    def __delitem__(self, fragment: str) -> None:
        del self._site[fragment]

    def __getitem__(self, fragment: str) -> ServedFragment:
        if fragment not in self:
            raise KeyError(fragment)
        return ServedFragment(fragment, self._site)

    def __contains__(self, fragment: object) -> bool:
        return fragment in self._site.names

    def answer(self, body: bytes) -> bytes:
        """The release that answers a request, as bytes: what a client's post brings back."""
        return self._site.answer(body)

    @property
    def fragments(self) -> list[str]:
        """Names of the fragments."""
        return self._site.names

    @cached_property
    def app(self) -> Flask:
        """The WSGI application: for waitress, gunicorn, or any other server."""
        try:
            import flask
        except ModuleNotFoundError as error:
            raise MissingExtra("flask", "fedmed", "A FedMed server") from error
        from federated_analytics.fedmed import pages

        app = flask.Flask("fedmed", static_folder=None)
        app.config["MAX_CONTENT_LENGTH"] = MAX_REQUEST_BYTES

        @app.before_request
        def admitted() -> Any:
            return self._stopped(flask.request)

        @app.after_request
        def guarded(response: flask.Response) -> flask.Response:
            response.headers.update(pages.HEADERS)
            return response

        @app.post("/answer")
        def answer() -> Any:
            body = flask.request.get_data(cache=False)
            return flask.Response(self.answer(body), mimetype="application/octet-stream")

        @app.get("/health")
        def health() -> Any:
            return {"status": "ok"}

        for path, page in pages.PAGES.items():
            app.add_url_rule(path, path, lambda page=page: page(self))

        app.wsgi_app = self._direct(app.wsgi_app)  # type: ignore[method-assign,assignment]
        return app

    def _direct(self, rest: WSGIApplication) -> WSGIApplication:
        """Answers what is admitted and of known length by itself, without Flask's context.

        Whatever else comes, and whatever is turned away, is Flask's.
        """
        from federated_analytics.fedmed import pages

        headers = [("Content-Type", "application/octet-stream"), *pages.DATA_HEADERS.items()]

        def application(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
            length = environ.get("CONTENT_LENGTH") or ""
            if (
                environ["REQUEST_METHOD"] != "POST"
                or environ.get("PATH_INFO") != "/answer"
                or not (length.isascii() and length.isdigit() and int(length) <= MAX_REQUEST_BYTES)
                or (environ.get("wsgi.multiprocess") and self._must_be_alone)
                or not self._access.knows(environ.get("HTTP_AUTHORIZATION", ""), in_browser=False)
                or not self._rate.take()
            ):
                return rest(environ, start)
            reply = self.answer(environ["wsgi.input"].read(int(length)))
            start("200 OK", [*headers, ("Content-Length", str(len(reply)))])
            return [reply]

        return application

    def run(self, host: str = "127.0.0.1", port: int = 5000) -> None:
        """Serve with waitress until it is interrupted."""
        try:
            from waitress import serve
        except ModuleNotFoundError as error:
            raise MissingExtra("waitress", "fedmed", "Server.run") from error
        serve(self.app, host=host, port=port, ident="fedmed")

    def _stopped(self, request: Request) -> Response | None:
        """What is said to a request that goes no further; None where it may."""
        from flask import Response

        from federated_analytics.fedmed import pages

        if request.path == "/health":
            return None
        if not self._rate.take():
            return Response(status=429, headers={"Retry-After": "1"})
        if request.environ.get("wsgi.multiprocess") and self._must_be_alone:
            return self._is_not_alone(request)
        is_page = request.method in ("GET", "HEAD")
        if not self._access.knows(request.headers.get("authorization", ""), in_browser=is_page):
            asked = ['Basic realm="fedmed"', "Bearer"] if is_page else ["Bearer"]
            headers = [("WWW-Authenticate", scheme) for scheme in asked]
            return Response(pages.locked(self.name), 401, headers)
        return None

    @property
    def _must_be_alone(self) -> bool:
        """Whether other processes would not know what this one was asked, or its token."""
        return self._state is None and (self.config.remembers or bool(self._access.made))

    def _is_not_alone(self, request: Request) -> Response:
        from flask import Response

        from federated_analytics.fedmed import pages

        refusal = SeveralProcesses("The server runs as several processes without a common folder.")
        if not self._has_complained:
            self._has_complained = True
            log.error("every request is refused: %s", refusal)
        if request.path == "/answer":
            return Response(self._site.refused(refusal), mimetype="application/octet-stream")
        return Response(pages.stopped(self.name, str(refusal)), 503)


class _Rate:
    """At most so many requests in any minute."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._times: deque[float] = deque()
        self._lock = threading.Lock()

    def take(self) -> bool:
        now = time.monotonic()
        with self._lock:
            while self._times and now - self._times[0] > 60:
                self._times.popleft()
            if len(self._times) >= self._limit:
                return False
            self._times.append(now)
            return True
