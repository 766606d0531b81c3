"""A SuperLink and SuperNodes as real processes on free loopback ports; none outlives its owner."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from federated_analytics.connections import write_connections
from federated_analytics.local.program import (
    Process,
    ProcessFailed,
    ended_by_signals,
    program,
    with_own_programs,
)

__all__ = ["LocalFederation", "Process", "ProcessFailed", "local_federation", "program"]

CONNECTION = "local-deployment"
START_SECONDS = 90
SUPERLINK_READY = "Uvicorn running on"
SUPERNODE_READY = "SuperNode ID:"
"""A SuperNode writes it when the SuperLink has let it in."""


@dataclass
class LocalFederation:
    """A SuperLink with its SuperNodes on this machine; each listens on one loopback port.

    Args:
        node_configs: one a SuperNode, as of `flower-supernode --node-config`.
        folder: for logs and Flower's own home.
        port: of the SuperLink; 0 for a free one.
        options: more of the SuperLink's command line.
    """

    node_configs: Sequence[Mapping[str, str | int]]
    folder: Path
    port: int = 0
    options: Sequence[str] = ("--disable-runtime-dependency-installation",)
    superlink: Process | None = field(default=None, init=False)
    supernodes: dict[int, Process] = field(default_factory=dict, init=False)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What Flower's commands need to find this federation, and nothing of the user's own."""
        return {
            "FLWR_HOME": str(self.folder / "flwr"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "PATH": with_own_programs(os.environ)["PATH"],
        }

    def start(self) -> None:
        """Start all processes and wait until every SuperNode is connected."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        connection: dict[str, object] = {"address": self.address, "insecure": True}
        write_connections(self.folder / "flwr", {CONNECTION: connection})
        self.start_superlink()
        for position in range(len(self.node_configs)):
            self._launch_supernode(position)
        for node in self.supernodes.values():
            node.until(SUPERNODE_READY, START_SECONDS)

    def start_superlink(self) -> None:
        """Also after a crash: on the same port, with nothing of what it knew."""
        self.superlink = self._process(
            "superlink",
            program("flower-superlink"),
            "--insecure",
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *self.options,
        )
        self.superlink.start()
        self.superlink.until(SUPERLINK_READY, START_SECONDS)

    def start_supernode(self, position: int) -> Process:
        """Start the SuperNode at `position` and wait until it is connected."""
        node = self._launch_supernode(position)
        node.until(SUPERNODE_READY, START_SECONDS)
        return node

    def stop(self) -> None:
        """End every process that was started, and all that they started."""
        processes = [*self.supernodes.values(), *filter(None, [self.superlink])]
        for process in processes[:-1]:
            process.ask_to_stop()
        for process in processes:
            process.stop()

    def _launch_supernode(self, position: int) -> Process:
        node = self._process(
            f"supernode-{position}",
            program("flower-supernode"),
            "--insecure",
            *("--superlink", self.address, "--port", str(free_port())),
            *("--node-config", node_config(self.node_configs[position])),
        )
        self.supernodes[position] = node
        node.start()
        return node

    def _process(self, name: str, *command: str) -> Process:
        return Process(name, command, self.folder / f"{name}.log", self.environment)


@contextmanager
def local_federation(
    node_configs: Sequence[Mapping[str, str | int]], folder: Path | None = None
) -> Iterator[LocalFederation]:
    """A running federation that is stopped afterwards, whatever happens."""
    with (
        tempfile.TemporaryDirectory(prefix="federated-analytics-") as temporary,
        ended_by_signals(),
    ):
        federation = LocalFederation(node_configs, folder or Path(temporary))
        try:
            federation.start()
            yield federation
        finally:
            federation.stop()


def node_config(values: Mapping[str, str | int]) -> str:
    """Values as `flower-supernode --node-config` takes them: TOML pairs in one line."""
    return " ".join(f"{key}={_toml(value)}" for key, value in values.items())


def _toml(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
