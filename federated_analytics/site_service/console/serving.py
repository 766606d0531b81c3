"""Serves the console on a loopback port: never on the socket that the ClientApp may write to."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from federated_analytics.errors import ConfigError
from federated_analytics.site_service.console.sessions import Sessions

if TYPE_CHECKING:
    import uvicorn

    from federated_analytics.site_service.console.state import ConsoleState

HOST = "127.0.0.1"
CONNECTIONS = 64
STOP_SECONDS = 5
START_SECONDS = 10.0


def serve_console(state: ConsoleState, port: int = 0) -> None:
    """Serves until it is stopped, and prints the address with a one-time token.

    Args:
        port: 0 takes a free one.

    Raises: ConfigError where the port is taken.
    """
    sessions = Sessions()
    with _listening(port) as listener:
        print(login_address(listener.getsockname()[1], sessions), flush=True)
        _server(state, sessions).run(sockets=[listener])


@contextlib.contextmanager
def console_running(
    state: ConsoleState, sessions: Sessions | None = None, port: int = 0
) -> Iterator[int]:
    """Serves in a thread of this process for as long as the block runs; yields the port."""
    with _listening(port) as listener:
        server = _server(state, sessions or Sessions())
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(START_SECONDS + STOP_SECONDS)


def login_address(port: int, sessions: Sessions) -> str:
    """The address to open, with a token that signs in once."""
    return f"http://{HOST}:{port}/console/login?token={sessions.invite()}"


@contextlib.contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise ConfigError(
                f"The console cannot listen on port {port}.",
                where="console port",
                remedy="Give another port, or 0 for a free one.",
            ) from error
        listener.listen(CONNECTIONS)
        yield listener


def _server(state: ConsoleState, sessions: Sessions) -> uvicorn.Server:
    import uvicorn

    from federated_analytics.site_service.console.app import console_app

    return uvicorn.Server(
        uvicorn.Config(
            console_app(state, sessions),
            access_log=False,  # an address may hold a token
            log_config=None,
            server_header=False,
            proxy_headers=False,
            ws="none",
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
    )
