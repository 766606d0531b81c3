"""Fragments held by the client itself."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from federated_analytics.fedmed.batch import Channel, Fault

if TYPE_CHECKING:
    from federated_analytics.fedmed.fragment_site import FragmentSite

_numbers = itertools.count(1)


@dataclass(frozen=True)
class _Process:
    """The client's own fragments, in its own process and under no policy: they are its data."""

    seconds: float = 600.0

    def exchange(self, requests: Mapping[str, bytes]) -> Mapping[str, bytes | Fault]:
        return {server: _site().answer(body) for server, body in requests.items()}


@cache
def _site() -> FragmentSite:
    """One for the process, so that local fragments can be combined row by row."""
    from federated_analytics.fedmed.config import Config
    from federated_analytics.fedmed.fragment_site import FragmentSite

    return FragmentSite(Config.without_policy())


_changing = threading.Lock()


@dataclass(frozen=True, eq=False)
class Local:
    """A fragment that the client holds: a list, a dict of lists, a DataFrame, a file.

    >>> from federated_analytics import fedmed as fm
    >>> float(fm.FedData([fm.Local([1, 2, 3])]).mean())
    2.0

    Args:
        data: whatever a `Server` takes. It is read now.
        fragment: how errors name it.
    """

    data: Any = field(repr=False)
    fragment: str = ""

    def __post_init__(self) -> None:
        name = f"{self.fragment or 'local'} {next(_numbers)}"
        object.__setattr__(self, "fragment", name)
        with _changing:
            _site()[name] = self.data
        weakref.finalize(self, _forget, name)

    @property
    def server(self) -> str:
        return "this process"

    @property
    def channel(self) -> Channel:
        return _Process()


def _forget(name: str) -> None:
    with _changing:
        del _site()[name]
