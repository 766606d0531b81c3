"""The modules `flame` and `flamesdk` of a worker: our own, under the names that scripts import."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_HOMES = {
    "FlameCoreSDK": "sdk",
    "LocalDifferentialPrivacyParams": "storage",
    "Message": "message",
    "StarModel": "star",
    "StarAnalyzer": "star",
    "StarAggregator": "star",
    "StarLocalDPModel": "star",
}
NAMES = tuple(
    package + part
    for package in ("flame", "flamesdk")
    for part in ("", ".star", ".patterns", ".patterns.star")
)


class ScriptModule(ModuleType):
    """Loads what a script names, when it names it: a star pattern needs more than a message."""

    __all__ = sorted(_HOMES)

    def __init__(self, name: str) -> None:
        super().__init__(name, "FLAME's interface, by federated_analytics.")
        self.__path__ = []

    def __getattr__(self, name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        home = importlib.import_module(f"federated_analytics.flame.{_HOMES[name]}")
        return getattr(home, name)

    def __dir__(self) -> list[str]:
        return sorted(_HOMES)


def register() -> None:
    """Make `from flame import FlameCoreSDK` and its kin work in this process."""
    for name in NAMES:
        sys.modules[name] = ScriptModule(name)
