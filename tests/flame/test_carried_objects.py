"""Objects that travel as letters: whole, once, for whom they are meant, a part at a time."""

from __future__ import annotations

import hashlib
import io
import random
import threading
import time
from pathlib import Path

import pytest

from federated_analytics.flame.carried_objects import (
    PART_BYTES,
    CarriedHost,
    CarriedObjects,
    CarryingRouter,
    HubHere,
)
from federated_analytics.flame.errors import UnknownObject
from federated_analytics.flame.node_host import NodeSettings

pytestmark = pytest.mark.timeout(40)
NODES = {"a": "default", "b": "default", "c": "aggregator"}


class Carrier:
    """Bundles between hosts and a router; every one may be lost, repeated or late."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.router = CarryingRouter(NODES, folder / "hub", "analysis")
        self.hosts = {
            node: CarriedHost(NodeSettings(node, NODES, "analysis", "p"), folder / node)
            for node in NODES
        }
        self.random = random.Random(seed)
        self.largest = 0
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.stopped.wait(0.002):
            for node, host in self.hosts.items():
                there = self.router.bundle_for(node, 1_000_000)
                self.largest = max(self.largest, sum(len(str(x)) for x in there["letters"]))
                if self.random.random() < 0.3:
                    continue  # lost on its way
                back = host.exchange(there, 1_000_000)
                for _ in range(self.random.choice((0, 1, 1, 2))):
                    self.router.receive(node, back)

    def sent(self, node: str) -> None:
        """Wait until a node's letters are with the hub."""
        end = time.monotonic() + 20
        while self.hosts[node].has_outgoing():
            assert time.monotonic() < end
            time.sleep(0.005)

    def close(self) -> None:
        self.stopped.set()
        self.thread.join(10)
        for host in self.hosts.values():
            host.close()


@pytest.fixture
def carrier(tmp_path: Path):  # type: ignore[no-untyped-def]
    found = Carrier(tmp_path)
    yield found
    found.close()


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, 5_000_000])
def test_an_object_arrives_whole_over_a_carrier_that_loses_and_repeats(
    carrier: Carrier, size: int
) -> None:
    data = random.Random(size).randbytes(size)
    id = CarriedObjects(carrier.hosts["a"]).put(io.BytesIO(data), None)
    # b's request is behind nothing of a's: it waits until the hub has it, as a message would.
    carrier.sent("a")
    with CarriedObjects(carrier.hosts["b"]).open(id) as file:
        assert hashlib.sha256(file.read()).digest() == hashlib.sha256(data).digest()
    with HubHere(carrier.router, "c").open(id) as file:
        assert file.read() == data
    assert carrier.largest < 2_500_000  # no bundle holds more than about what it may


def test_only_its_readers_get_an_object(carrier: Carrier) -> None:
    id = CarriedObjects(carrier.hosts["a"]).put(io.BytesIO(b"for c"), ["c"])
    carrier.sent("a")
    with HubHere(carrier.router, "c").open(id) as file:
        assert file.read() == b"for c"
    for wrong in (id, "0" * 32, "../../etc/passwd", ""):
        with pytest.raises(UnknownObject):
            CarriedObjects(carrier.hosts["b"]).open(wrong)


def test_a_node_cannot_write_into_anothers_object(carrier: Carrier) -> None:
    id = CarriedObjects(carrier.hosts["a"]).put(io.BytesIO(b"mine"), None)
    carrier.sent("a")
    carrier.hosts["b"].post({"kind": "object", "id": id, "readers": None})
    carrier.hosts["b"].post({"kind": "part", "id": id, "at": 0, "data": "dGhlaXJz"})
    carrier.sent("b")
    with HubHere(carrier.router, "c").open(id) as file:
        assert file.read() == b"mine"
