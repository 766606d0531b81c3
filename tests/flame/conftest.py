"""The backend that the SDK's tests run on: several nodes, each a worker process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from federated_analytics.flame.testbed import FlameTestBed

Federation = Callable[..., FlameTestBed]


@pytest.fixture(params=["local"])
def federation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Federation]:
    """Makes a test bed with given nodes, the last of which aggregates."""

    def make(*nodes: str, aggregator: str = "") -> FlameTestBed:
        return FlameTestBed(tmp_path, nodes or ("node-a", "node-c"), aggregator)

    yield make
    left = [p for p in Path("/proc").glob("[0-9]*") if _of_a_worker(p, tmp_path)]
    assert left == [], "a worker was left running"


def _of_a_worker(process: Path, folder: Path) -> bool:
    """A process that still writes into this test's folder."""
    try:
        return any(str(folder) in str(fd.readlink()) for fd in (process / "fd").iterdir()) and (
            b"worker_main" in (process / "cmdline").read_bytes()
        )
    except OSError:
        return False
