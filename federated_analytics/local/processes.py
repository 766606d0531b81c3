"""A SuperLink and SuperNodes as real processes on free loopback ports; none outlives its owner."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from federated_analytics.errors import FederationError
from federated_analytics.submit import write_connections

START_SECONDS = 60
STOP_SECONDS = 8


class ProcessFailed(FederationError):
    """A process of ours that did not start; the remedy is the end of its own log."""

    code = "process_failed"


@dataclass
class Process:
    """A process in a group of its own, with its output in a file."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    _popen: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        with self.log.open("ab") as output:
            self._popen = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self._popen is not None
        return self._popen.pid

    def is_running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def kill(self) -> None:
        """End the whole group at once, as a crash would."""
        self._signal(signal.SIGKILL)
        if self._popen is not None:
            self._popen.wait()

    def stop(self) -> None:
        """End the group in order, and by force what is left of it after a while."""
        self._signal(signal.SIGTERM)
        if self._popen is not None:
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(STOP_SECONDS)
        self._signal(signal.SIGKILL)
        if self._popen is not None:
            self._popen.wait()

    def last_words(self, lines: int = 5) -> str:
        with suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def _signal(self, number: signal.Signals) -> None:
        if self._popen is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, number)


def program(name: str) -> str:
    """A command of this Python's own environment."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else name


@dataclass
class LocalFederation:
    """A SuperLink with its SuperNodes on this machine.

    Args:
        node_configs: one a SuperNode, as of `flower-supernode --node-config`.
        folder: for logs and Flower's own home.
    """

    node_configs: Sequence[Mapping[str, str | int]]
    folder: Path
    port: int = 0
    superlink: Process | None = field(default=None, init=False)
    supernodes: list[Process] = field(default_factory=list, init=False)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What Flower's commands need to find this federation, and nothing of the user's own."""
        return {"FLWR_HOME": str(self.folder / "flwr"), "FLWR_TELEMETRY_ENABLED": "0"}

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or _free_port()
        connection: dict[str, object] = {"address": self.address, "insecure": True}
        write_connections(self.folder / "flwr", {"local-deployment": connection})
        self.start_superlink()
        for position in range(len(self.node_configs)):
            self.start_supernode(position)

    def start_superlink(self) -> None:
        """Also after a crash: on the same port, with nothing of what it knew."""
        self.superlink = self._process(
            "superlink",
            program("flower-superlink"),
            "--insecure",
            *("--host", "127.0.0.1", "--port", str(self.port)),
            "--disable-runtime-dependency-installation",
        )
        self.superlink.start()
        _until_listening(self.port, self.superlink)

    def start_supernode(self, position: int) -> Process:
        config = " ".join(f"{k}={_toml(v)}" for k, v in self.node_configs[position].items())
        port = _free_port()
        node = self._process(
            f"supernode-{position}",
            program("flower-supernode"),
            "--insecure",
            *("--superlink", self.address, "--port", str(port), "--node-config", config),
        )
        node.start()
        self.supernodes[position : position + 1] = [node]
        _until_listening(port, node)
        return node

    def stop(self) -> None:
        for process in reversed([*filter(None, [self.superlink]), *self.supernodes]):
            process.stop()

    def _process(self, name: str, *command: str) -> Process:
        return Process(name, command, self.folder / f"{name}.log", self.environment)


@contextmanager
def local_federation(
    node_configs: Sequence[Mapping[str, str | int]], folder: Path | None = None
) -> Iterator[LocalFederation]:
    """A running federation that is stopped afterwards, whatever happens."""
    with tempfile.TemporaryDirectory(prefix="federated-analytics-") as temporary, _ended_by_signal():
        federation = LocalFederation(node_configs, folder or Path(temporary))
        try:
            federation.start()
            yield federation
        finally:
            federation.stop()


@contextmanager
def _ended_by_signal() -> Iterator[None]:
    """SIGTERM as an exception, so that `finally` runs."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:  # not the main thread: its owner handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _toml(value: str | int) -> str:
    return str(value) if isinstance(value, int) else '"' + value.replace('"', '\\"') + '"'


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until_listening(port: int, process: Process) -> None:
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit:
        if not process.is_running():
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    process.stop()
    raise ProcessFailed(
        f"The {process.name} did not start.", where=str(process.log), remedy=process.last_words()
    )
