"""Fragments of a server in this process, without HTTP: for trying a policy out."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from federated_analytics.fedmed.batch import Channel, Fault

if TYPE_CHECKING:
    from federated_analytics.fedmed.server import Server

_numbers = itertools.count(1)
_names: weakref.WeakKeyDictionary[Server, str] = weakref.WeakKeyDictionary()
_naming = threading.Lock()


@dataclass(frozen=True)
class _InProcess:
    """The way to one server in this process; its fragments share a request."""

    held: Server
    seconds: float = 600.0

    def exchange(self, requests: Mapping[str, bytes]) -> Mapping[str, bytes | Fault]:
        return {server: self.held.answer(body) for server, body in requests.items()}


class Simulation:
    """A fragment of a server in this process.

    The server's methods and policies hold as over HTTP; tokens and the rate limit, which are of
    the way to it, do not. It is mixed freely with `Remote` and `Local` fragments.

    >>> from federated_analytics import fedmed as fm
    >>> server = fm.Server(tokens=["secret"])  # the strict default policy
    >>> server["ages"] = {"age": list(range(20, 60))}
    >>> ages = fm.FedData([fm.Simulation(server, "ages")])["age"]
    >>> float(ages.mean())
    39.5
    >>> float(ages[ages > 57].mean())
    Traceback (most recent call last):
    federated_analytics.fedmed.errors.AskFailed: ...

    Args:
        server: holds the fragment.
        fragment: its name there.
    """

    def __init__(self, server: Server, fragment: str) -> None:
        self._held = server
        self.fragment = fragment

    @property
    def server(self) -> str:
        """How errors name the server."""
        with _naming:
            if self._held not in _names:
                own = f" {self._held.name!r}" if self._held.name else ""
                _names[self._held] = f"simulated server {next(_numbers)}{own}"
            return _names[self._held]

    @property
    def channel(self) -> Channel:
        return _InProcess(self._held)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Simulation):
            return NotImplemented
        return self._held is other._held and self.fragment == other.fragment

    def __hash__(self) -> int:
        return hash((id(self._held), self.fragment))

    def __repr__(self) -> str:
        return f"Simulation({self.server}, {self.fragment!r})"
