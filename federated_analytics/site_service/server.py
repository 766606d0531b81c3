"""`serve`: the hospital's own long-lived process, until SIGTERM or SIGINT stops it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from federated_analytics.errors import MissingExtra
from federated_analytics.site_service.address import Address
from federated_analytics.site_service.limits import Limits
from federated_analytics.site_service.listening import BACKLOG, listening, user_ids
from federated_analytics.site_service.logs import log_event, write_json_lines
from federated_analytics.site_service.metrics import Metrics

if TYPE_CHECKING:
    from federated_analytics.site_service.app import Answers, ServiceState

SPARE_CONNECTIONS = 64


def serve(
    answers: Answers,
    address: Address,
    *,
    users: Iterable[str] = (),
    group: str = "",
    limits: Limits | None = None,
    on_ready: Callable[[], None] | None = None,
) -> None:
    """Serve until the process is told to stop; running studies may finish first, for a while.

    Args:
        users: names or numbers of system users who may connect, besides this process's own.
        group: the system group that may write to the Unix socket.
        on_ready: called once, when requests are taken.

    Raises:
        ConfigError: the address is taken or cannot be made, or a user or group does not exist.
        MissingExtra: FastAPI or uvicorn is not installed.
    """
    try:
        from federated_analytics.site_service.app import ServiceState
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "fastapi", "site", "The site service") from error
    chosen = limits or Limits()
    # Studies that run or wait must not use up the connections: some stay for those who ask.
    fewest = chosen.concurrent + chosen.queue + SPARE_CONNECTIONS
    chosen = dataclasses.replace(chosen, connections=max(chosen.connections, fewest))
    state = ServiceState(answers, chosen, Metrics(), address.token)
    admitted = user_ids(users) if address.path else None
    write_json_lines()
    with listening(address, group) as opened:
        _server(state, admitted, on_ready).run(sockets=[opened])
        # Still listening, so that no second service starts on the same state.
        left = chosen.stop_seconds - (time.monotonic() - state.stopped_at)
        answers.stop(max(0.0, left) if state.stopping else 0.0)
    log_event("stopped")


def _server(
    state: ServiceState, users: frozenset[int] | None, on_ready: Callable[[], None] | None
) -> Any:
    import uvicorn

    class Server(uvicorn.Server):
        """Ends with its own exit code: uvicorn would raise the signal again."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            if threading.current_thread() is not threading.main_thread():
                yield
                return
            handlers = {s: signal.signal(s, self.handle_exit) for s in _STOP}
            try:
                yield
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, handler)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if not state.stopping:
                state.stopping, state.stopped_at = True, time.monotonic()
            super().handle_exit(sig, frame)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            log_event("ready")
            _notify_systemd()
            if on_ready:
                on_ready()

    return Server(_uvicorn_config(state, users))


def _uvicorn_config(state: ServiceState, users: frozenset[int] | None) -> Any:
    import uvicorn

    from federated_analytics.site_service.app import service_app
    from federated_analytics.site_service.connections import Door, connections_through

    return uvicorn.Config(
        service_app(state),
        http=connections_through(Door(state.limits, state.metrics, users)),
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=state.limits.keep_alive_seconds,
        timeout_graceful_shutdown=state.limits.stop_seconds,
        h11_max_incomplete_event_size=state.limits.header_bytes,
    )


_STOP = (signal.SIGINT, signal.SIGTERM)


def _notify_systemd() -> None:
    """Tell systemd, if it started this, that requests are taken (sd_notify(3))."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    if not name:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, contextlib.suppress(OSError):
        notify.connect("\0" + name[1:] if name.startswith("@") else name)
        notify.sendall(b"READY=1")
