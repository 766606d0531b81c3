"""FedMed servers of this project on free ports, for tests of both halves together."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from federated_analytics import fedmed as fm

_names = itertools.count()
EXACT: Mapping[str, Any] = {"privacy": []}
"""A configuration whose owner has switched the policy off."""


@contextmanager
def served(server: fm.Server) -> Iterator[str]:
    """The address of a server under waitress."""
    from waitress import wasyncore
    from waitress.server import create_server

    wsgi = create_server(server.app, host="127.0.0.1", port=0, threads=4)
    thread = threading.Thread(target=wsgi.run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{wsgi.effective_port}"
    finally:
        # Its own thread closes what it selects from; nothing is then left to wait for.
        with suppress(OSError):  # closed already
            wsgi.trigger.pull_trigger(lambda: wasyncore.close_all(wsgi._map))
        thread.join(10)
        wsgi.task_dispatcher.shutdown()


@contextmanager
def exact_servers(count: int) -> Iterator[Callable[[Sequence[Any]], list[fm.Remote]]]:
    """Publishes data, one piece a server, under names that no one had before."""
    with ExitStack() as stack:
        servers = [fm.Server(config=EXACT, tokens=["t"]) for _ in range(count)]
        addresses = [stack.enter_context(served(server)) for server in servers]

        def publish(pieces: Sequence[Any]) -> list[fm.Remote]:
            name = f"piece {next(_names)}/?"
            found = []
            for server, address, piece in zip(servers, addresses, pieces, strict=False):
                server[name] = piece
                found.append(fm.Remote(address, name, token="t"))
            return found

        yield publish
