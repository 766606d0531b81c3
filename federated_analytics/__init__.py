"""Federated analytics over OMOP CDM databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Result", "Study", "__version__", "run"]

if TYPE_CHECKING:
    from federated_analytics.report.result import Result
    from federated_analytics.running import run
    from federated_analytics.study import Study

_HOMES = {"Result": "report.result", "Study": "study", "run": "running"}


def __getattr__(name: str) -> Any:
    """Loaded when first used: a ClientApp starts for each message and needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
