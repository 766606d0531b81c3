"""Asks a site service: all that the ClientApp does, with the standard library alone."""

from __future__ import annotations

import contextlib
import http.client
import socket
from pathlib import Path

from federated_analytics.errors import ConfigError, SiteFailed
from federated_analytics.site_service.address import HOST, Address

MAX_BODY_BYTES = 4 * 2**20
"""Largest request that a site service reads."""
MAX_RELEASE_BYTES = 8 * 2**20 + 1_000
"""Largest release, with its signature, that is taken."""
CONTENT = "application/octet-stream"
_NOT_OURS = {
    401: ("The site service does not know the token.", "Name the same token file at both ends."),
    403: (
        "The site service does not admit this system user.",
        "The site operator adds the SuperNode's user to `users` under [service].",
    ),
    404: ("What listens there is not a site service.", "Correct the address in the node config."),
}


def ask(address: str, body: bytes, seconds: float, token_file: str | Path = "") -> bytes:
    """The site's answer to a request.

    Args:
        address: `unix:PATH` or `http://127.0.0.1:PORT`.
        seconds: how long the service may take.
        token_file: for a port, the file with its token.

    Raises:
        ConfigError: nothing listens there, or it does not admit this user or token.
        SiteFailed: it did not answer in time, or with what is no answer.
    """
    if len(body) > MAX_BODY_BYTES:
        raise ConfigError(
            f"A request has at most {MAX_BODY_BYTES} bytes.", remedy="Ask for a shorter study."
        )
    to = Address.parse(address, token_file)
    with contextlib.closing(_Connection(to, seconds)) as connection:
        _connect(connection)
        try:
            status, answer = _exchange(connection, body, to.token)
        except (OSError, http.client.HTTPException) as error:
            raise SiteFailed from error
    if status in _NOT_OURS:
        message, remedy = _NOT_OURS[status]
        raise ConfigError(message, where="the site service's address", remedy=remedy)
    if status != 200:
        raise SiteFailed
    return answer


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket, or over loopback."""

    def __init__(self, address: Address, seconds: float) -> None:
        super().__init__(HOST, address.port, timeout=seconds)
        self.address = address

    def connect(self) -> None:
        if not self.address.path:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.address.path)


def _connect(connection: _Connection) -> None:
    try:
        connection.connect()
    except TimeoutError as error:
        raise SiteFailed from error
    except OSError as error:
        raise ConfigError(
            f"The site service cannot be reached ({error.strerror}).",
            where="the site service's address",
            remedy="The site operator starts `federated-analytics site serve site.toml`, and "
            "lets the SuperNode's user write to its socket.",
        ) from error


def _exchange(connection: _Connection, body: bytes, token: str) -> tuple[int, bytes]:
    headers = {"Content-Type": CONTENT, "Connection": "close"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    # A service that refuses may close before all is sent; what it said can still be read.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.request("POST", "/answer", body, headers)
    response = connection.getresponse()
    if response.status != 200:
        return response.status, b""
    answer = response.read(MAX_RELEASE_BYTES + 1)
    right = response.getheader("Content-Type") == CONTENT
    # What a length announced and did not come is no error of http.client's when read in part.
    whole = not response.length and 0 < len(answer) <= MAX_RELEASE_BYTES
    if not right or not whole:
        raise http.client.HTTPException("not a release")
    return 200, answer
