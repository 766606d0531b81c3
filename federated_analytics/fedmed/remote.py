"""Fragments on servers reached over HTTP, or through a Flower federation."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from federated_analytics.errors import ConfigError
from federated_analytics.fedmed.batch import Begun, Channel, Fault

if TYPE_CHECKING:
    import urllib3

TOKEN_VARIABLE = "FEDMED_TOKEN"
"""Holds the token of servers for which `Remote` is given none."""
SECONDS = 60.0
MAX_REPLY_BYTES = 8 * 2**20
RETRY_SECONDS = (0.2, 0.5, 1.0)
_AGAIN = frozenset({"connection_lost", "too_many_requests", "server_busy"})
_STATUS = {
    401: Fault(
        "wrong_token",
        "The server does not know the token.",
        f'Remote(…, token="…") or the variable {TOKEN_VARIABLE} holds what its owner gave you.',
    ),
    403: Fault("forbidden", "The server's owner does not let you ask.", "Ask the owner."),
    404: Fault("not_fedmed", "There is no FedMed server at this address.", "Correct ip=…"),
    413: Fault("too_large", "The server does not take a request this large.", "Ask for less."),
    429: Fault("too_many_requests", "The server takes no more requests now.", "Ask later."),
    503: Fault("server_busy", "The server is busy.", "Ask again in a few seconds."),
}


@dataclass(frozen=True)
class HttpServer:
    """A FedMed server at an address; one connection pool for all who ask it.

    Args:
        ip: "http://127.0.0.1:5000", as the original writes it; https with TLS.
        certificates: a file of certificates to trust in place of the system's.
    """

    ip: str
    token: str = field(default="", repr=False)
    seconds: float = SECONDS
    certificates: str = ""

    def exchange(self, requests: Mapping[str, bytes]) -> Mapping[str, bytes | Fault]:
        return {server: self._answer(body) for server, body in requests.items()}

    def _answer(self, body: bytes) -> bytes | Fault:
        """A reply; where a busy server closed the connection, the same is asked again.

        That costs nothing: the same asks have the same answer.
        """
        for pause in RETRY_SECONDS:
            found = self._post(body)
            if not isinstance(found, Fault) or found.code not in _AGAIN:
                return found
            time.sleep(pause * (1 + random.random()))  # not all who were refused come at once
        return self._post(body)

    def _post(self, body: bytes) -> bytes | Fault:
        from urllib3 import Timeout

        try:
            with _pool(self.ip, self.certificates).request(
                "POST",
                self._address,
                body=body,
                headers=_headers(self._token),
                timeout=Timeout(connect=min(10.0, self.seconds), read=self.seconds),
                redirect=False,
                preload_content=False,
            ) as response:
                return _read(response.status, response.headers.get("content-type", ""), response)
        except _failures() as error:
            return _fault(error, self.seconds)

    def begin(self, requests: Mapping[str, bytes]) -> Begun | None:
        """Sends on a connection that is open; where that was closed, `exchange` asks again."""
        pool, head = _direct(self.ip, self.certificates), _head(self._address, self._token)
        if pool is None or head is None or len(requests) != 1:
            return None
        ((server, body),) = requests.items()
        connection: Any = pool._get_conn()
        if not connection.is_connected:
            pool._put_conn(connection)
            return None
        try:
            connection.sock.settimeout(self.seconds)
            # In one piece: the server wakes once, not for the head and then for the body.
            connection.sock.sendall(head % len(body) + body)
        except _failures():
            connection.close()
            return None
        until = time.monotonic() + self.seconds

        def finish() -> Mapping[str, bytes | Fault]:
            try:
                found, is_open = _finished(connection.sock, max(0.001, until - time.monotonic()))
            except _failures() as error:
                found, is_open = _fault(error, self.seconds), False
            if is_open:
                pool._put_conn(connection)
            else:
                connection.close()
            if isinstance(found, Fault) and found.code in _AGAIN:
                return self.exchange(requests)
            return {server: found}

        return finish

    @property
    def _address(self) -> str:
        return f"{self.ip.rstrip('/')}/answer"

    @property
    def _token(self) -> str:
        return self.token or os.environ.get(TOKEN_VARIABLE, "")


def _headers(token: str) -> dict[str, str]:
    headers = {"content-type": "application/octet-stream", "accept-encoding": "identity"}
    return {**headers, "authorization": f"Bearer {token}"} if token else headers


@lru_cache(maxsize=256)
def _head(address: str, token: str) -> bytes | None:
    """A request up to the length of its body, that is filled in; None of what needs quoting."""
    parts = urlsplit(address)
    if not all("!" <= c <= "~" and c not in "%@" for c in parts.netloc + parts.path + token):
        return None
    lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", "Content-Length: %d"]
    lines += (f"{name}: {value}" for name, value in _headers(token).items())
    return "\r\n".join([*lines, "", ""]).encode()


def _finished(socket: Any, seconds: float) -> tuple[bytes | Fault, bool]:
    """What comes back on a connection on which a request was sent, and whether it stays open."""
    from http.client import HTTPResponse

    if socket is None:
        raise ConnectionError("closed meanwhile")
    socket.settimeout(seconds)
    with HTTPResponse(socket, method="POST") as response:
        response.begin()
        found = _read(response.status, response.getheader("content-type", ""), response)
        if isinstance(found, Fault):
            return found, False
        if response.length:
            raise ConnectionError("cut short")
        return found, not response.will_close


@cache
def _failures() -> tuple[type[Exception], ...]:
    from http.client import HTTPException

    from urllib3.exceptions import HTTPError

    return HTTPError, HTTPException, OSError, ValueError


def _fault(error: Exception, seconds: float) -> Fault:
    """Why a request failed."""
    from http.client import HTTPException

    from urllib3 import exceptions as failed

    if isinstance(error, failed.NewConnectionError):
        return Fault("server_down", "Nothing answers at this address.", "Does the server run?")
    if isinstance(error, failed.TimeoutError | TimeoutError):
        return Fault(
            "no_answer",
            f"The server did not answer within {seconds:g} s.",
            "Ask for less, or give Remote(…, timeout=…) more seconds.",
        )
    if isinstance(error, failed.SSLError):
        return _not_trusted(error)
    if isinstance(error, failed.ProtocolError | HTTPException | ConnectionError):
        return Fault(
            "connection_lost",
            f"The server closed the connection ({type(error).__name__}).",
            "Is this the address of a FedMed server? Then ask again in a few seconds.",
        )
    return Fault(
        "server_failed",
        f"The connection failed ({type(error).__name__}).",
        "Is this the address of a FedMed server?",
    )


@cache
def _direct(ip: str, certificates: str) -> urllib3.HTTPConnectionPool | None:
    """Connections to a server that no proxy stands before."""
    from urllib3 import ProxyManager

    manager = _pool(ip, certificates)
    return None if isinstance(manager, ProxyManager) else manager.connection_from_url(ip)


@cache
def _pool(ip: str, certificates: str) -> urllib3.PoolManager:
    """Connections to one server. Requests to this machine go past any proxy."""
    from urllib.request import getproxies, proxy_bypass

    import urllib3

    host = urlsplit(ip).hostname or ""
    is_here = host == "localhost" or host.startswith("127.") or host == "::1"
    proxy = None if is_here or proxy_bypass(host) else getproxies().get(urlsplit(ip).scheme)
    given: dict[str, Any] = {
        "maxsize": 64,
        "retries": False,
        "ca_certs": certificates or None,
        "cert_reqs": "CERT_REQUIRED",
    }
    return urllib3.ProxyManager(proxy, **given) if proxy else urllib3.PoolManager(**given)


def _read(status: int, kind: str, response: Any) -> bytes | Fault:
    """A release's bytes, or what the status says. Never more than a release may have."""
    if status != 200:
        other = Fault("server_failed", f"The server answered with status {status}.")
        return _STATUS.get(status, other)
    if kind.startswith(("text/html", "text/plain")):
        return Fault(
            "not_fedmed",
            "The server answers with a page, not with a release.",
            "Is a login page or a proxy in between? Is this a FedMed server?",
        )
    body = bytearray()
    while piece := response.read(2**16):
        body += piece
        if len(body) > MAX_REPLY_BYTES:
            return Fault("too_large", "The server's answer is too large.", "Ask for less.")
    return bytes(body)


def _not_trusted(error: BaseException) -> Fault:
    import ssl

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason = cause.verify_message.rstrip(".")
            return Fault(
                "untrusted_certificate",
                f"The server's certificate is not trusted: {reason}.",
                "Its owner renews it, or Remote(…, certificates=FILE) trusts the one that signed.",
            )
        held = [a for a in cause.args if isinstance(a, BaseException)]
        cause = held[0] if held else cause.__cause__ or cause.__context__
    return Fault("no_tls", "The server does not speak TLS.", "Write http:// in place of https.")


@dataclass(frozen=True)
class Remote:
    """A fragment on a server.

    >>> from federated_analytics import fedmed as fm
    >>> fm.Remote(ip="http://127.0.0.1:5000", fragment="test array 1/2")
    Remote(ip='http://127.0.0.1:5000', fragment='test array 1/2')

    Args:
        ip: the server's address over HTTP.
        fragment: the fragment's name there; any text.
        token: what the server's owner gave you; where left out, the variable FEDMED_TOKEN.
        timeout: seconds to wait for an answer; over Flower, for the whole run.
        certificates: file of certificates to trust in place of the system's.
        site, superlink: in place of `ip`, a site of a Flower federation, and its connection's
            name in Flower's config.toml or HOST:PORT of its SuperLink.
        key, project: at guarded sites, file of the analyst's key and the project it is for.
    """

    ip: str = ""
    fragment: str = ""
    token: str = field(default="", repr=False)
    timeout: float = 0.0
    certificates: str = ""
    site: str = ""
    superlink: str = ""
    key: str = ""
    project: str = ""

    def __post_init__(self) -> None:
        if bool(self.ip) == bool(self.site and self.superlink) or bool(self.site) != bool(
            self.superlink
        ):
            raise ConfigError(
                "A remote fragment has an ip, or a site and a superlink.",
                where="Remote(…)",
                remedy='Write Remote(ip="http://HOST:PORT", fragment="NAME").',
            )
        if not self.fragment:
            raise ConfigError("A remote fragment has a name.", where="Remote(fragment=…)")
        if self.ip and urlsplit(self.ip).scheme not in ("http", "https"):
            raise ConfigError(
                f"{self.ip[:100]!r} is no address.",
                where="Remote(ip=…)",
                remedy='Write "http://HOST:PORT" or "https://HOST".',
            )
        if self.certificates and not Path(self.certificates).is_file():
            raise ConfigError("There is no such file.", where="Remote(certificates=…)")

    def __repr__(self) -> str:
        shown = ("ip", "fragment", "site", "superlink")
        given = ((name, getattr(self, name)) for name in shown)
        return f"Remote({', '.join(f'{n}={v!r}' for n, v in given if v)})"

    @property
    def server(self) -> str:
        return self.ip or self.site

    @property
    def channel(self) -> Channel:
        if self.ip:
            seconds = self.timeout or SECONDS
            return HttpServer(self.ip, self.token, seconds, self.certificates)
        from federated_analytics.fedmed.flower import FlowerSites

        seconds = self.timeout or 300.0
        return FlowerSites(self.superlink, seconds, self.certificates, self.key, self.project)
