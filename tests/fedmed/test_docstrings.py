"""The examples in the docstrings of FedMed's client are run."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

MODULES = (
    "",
    ".batch",
    ".data",
    ".groups",
    ".local",
    ".ops",
    ".ops.binary",
    ".ops.private",
    ".ops.public",
    ".remote",
    ".served_fragment",
    ".server",
    ".tables",
    ".values",
)
WITH_STATS = (*MODULES, ".dates", ".grid", ".simulation", ".stats", ".stats.test")


@pytest.mark.parametrize("name", WITH_STATS)
def test_examples(name: str) -> None:
    module = import_module(f"federated_analytics.fedmed{name}")
    found = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0
    assert found.failed == 0
