"""`fm.Server`: fragments behind HTTP, for any WSGI server."""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from federated_analytics.errors import MissingExtra
from federated_analytics.fedmed.config import Config
from federated_analytics.fedmed.fragment_site import FragmentSite
from federated_analytics.fedmed.fragments import Fragment
from federated_analytics.fedmed.remote import TOKEN_VARIABLE
from federated_analytics.fedmed.sql.table import TableFragment

if TYPE_CHECKING:
    from flask import Flask

log = logging.getLogger(__name__)
MAX_REQUEST_BYTES = 4 * 2**20
REQUESTS_A_MINUTE = 6_000
OFF = "The policy is switched off (privacy: []): every number leaves, whoever it is of."


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
        state: a folder that keeps over restarts what was asked and which version is shown, and
            every answer (`federated-analytics site audit list FOLDER`).
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
        self.name = name
        self._tokens = list(tokens) if tokens else _tokens()
        folder = Path(state) if state else None
        self._site = FragmentSite(self.config, folder, name=name, audited=state is not None)
        self._rate = _Rate(requests_a_minute)
        if self.config.is_off:
            print(f"fedmed: {OFF}", file=sys.stderr, flush=True)

    def __setitem__(self, fragment: str, data: Any) -> None:
        self._site[fragment] = data

    def __delitem__(self, fragment: str) -> None:
        del self._site[fragment]

    def __getitem__(self, fragment: str) -> Fragment | TableFragment:
        return self._site[fragment]

    def __contains__(self, fragment: object) -> bool:
        return fragment in self._site.names

    def append(self, fragment: str, rows: Any) -> None:
        """Rows behind a fragment's own; shown when the configuration's NewSamples lets them be."""
        self._site.append(fragment, rows)

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
            if flask.request.path == "/health":
                return None
            if not self._rate.take():
                return flask.Response(status=429, headers={"Retry-After": "1"})
            if not self._knows(flask.request.headers.get("authorization", "")):
                return flask.Response(pages.locked(self.name), 401, {"WWW-Authenticate": "Bearer"})
            return None

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

        return app

    def run(self, host: str = "127.0.0.1", port: int = 5000) -> None:
        """Serve with waitress until it is interrupted."""
        try:
            from waitress import serve
        except ModuleNotFoundError as error:
            raise MissingExtra("waitress", "fedmed", "Server.run") from error
        serve(self.app, host=host, port=port, ident="fedmed")

    def _knows(self, header: str) -> bool:
        given = header.removeprefix("Bearer ").encode()
        return any(hmac.compare_digest(given, token.encode()) for token in self._tokens)


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


def _tokens() -> list[str]:
    """The environment's token; otherwise a new one, printed for the owner to hand on."""
    known = os.environ.get(TOKEN_VARIABLE, "")
    if known:
        return [known]
    made = secrets.token_urlsafe(24)
    print(f"fedmed: clients need the token {made}", file=sys.stderr, flush=True)
    return [made]
