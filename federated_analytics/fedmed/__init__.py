"""FedMed's interface: one data set over fragments at several servers, which stay there.

>>> from federated_analytics import fedmed as fm
>>> data = fm.FedData([fm.Local([1, 2]), fm.Local([3])])
>>> mean = data.sum() / data.len()
>>> print("Mean", mean)
Mean 2.0

The names are loaded when they are first used: a client needs no server's packages.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import federated_analytics.fedmed.stats as stats
    from federated_analytics.fedmed.batch import Batch
    from federated_analytics.fedmed.data import FedData
    from federated_analytics.fedmed.errors import AskFailed, FedMedError
    from federated_analytics.fedmed.local import Local
    from federated_analytics.fedmed.remote import Remote
    from federated_analytics.fedmed.server import Server
    from federated_analytics.fedmed.simulation import Simulation
    from federated_analytics.fedmed.sql.table import SQLTable

_HOMES = {
    "AskFailed": "errors",
    "Batch": "batch",
    "FedData": "data",
    "FedMedError": "errors",
    "Local": "local",
    "Remote": "remote",
    "SQLTable": "sql.table",
    "Server": "server",
    "Simulation": "simulation",
}
_MODULES = ("ops", "privacy", "stats")

__all__ = [
    "AskFailed",
    "Batch",
    "FedData",
    "FedMedError",
    "Local",
    "Remote",
    "SQLTable",
    "Server",
    "Simulation",
    "stats",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})
