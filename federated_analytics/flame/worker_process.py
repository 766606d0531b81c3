"""One worker as the node's service sees it: started, watched, ended; with everything it started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from federated_analytics.flame.sdk import ADDRESS_VARIABLE, NODE_VARIABLE

_STARTER = Path(__file__).with_name("worker_main.py")
GUARD_GONE = "the worker's guard ended early"
_PYTHON = (sys.prefix, sys.base_prefix, str(Path(__file__).resolve().parents[2]))


def default_memory_bytes() -> int:
    """8 GiB of address space, or half of what a smaller machine has."""
    return min(8 << 30, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)


@dataclass(frozen=True)
class Limits:
    """Bounds on one worker and all that it starts.

    seconds: wall clock
    memory_bytes: address space of each process
    processes: and threads, beyond those that the user has (the kernel does not hold root to it)
    """

    seconds: float | None = None
    memory_bytes: int | None = field(default_factory=default_memory_bytes)
    processes: int | None = 512
    cpu_seconds: int | None = None


@dataclass(frozen=True)
class Order:
    """What a worker runs, and where.

    Fields:
        directory: its working directory, the only place where it may write
        address, token: of its node's socket
        network: leave it the machine's network
        readable: beside the system's and Python's own, the only folders that it may read, where
            Landlock is there to enforce it; None: all
        full_reasons: tell the hub the text of a script's exceptions, not only type and line
        tied: end it when the process that started it ends
        leash: of a worker that is not tied, the file that its service locks while it is there
        reconnect_seconds: how long its node's service may be away
    """

    node: str
    script: Path
    directory: Path
    address: str
    token: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    network: bool = False
    readable: tuple[str, ...] | None = None
    full_reasons: bool = False
    tied: bool = True
    leash: str = ""
    reconnect_seconds: float = 60.0


@dataclass(frozen=True)
class Outcome:
    """How a worker ended: its exit code, None when it was killed, and the reason."""

    code: int | None
    reason: str


@dataclass(frozen=True)
class Trace:
    """A guard's process id and start, so that another one is never taken for it."""

    pid: int
    started: str
    outcome: str


class WorkerProcess:
    """A guard, and from `begin` on its worker.

    Its trace can be written down in between: there is no worker that nobody knows of.

    Args:
        log: receives what the script prints; stays at the node.
    """

    def __init__(self, order: Order, log: Path) -> None:
        self._order = order
        self._outcome = order.directory.parent / "outcome.json"
        self._outcome.unlink(missing_ok=True)
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(_STARTER)],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={NODE_VARIABLE: order.node, ADDRESS_VARIABLE: order.address},
                start_new_session=True,
            )

    def begin(self) -> None:
        """Let the worker start."""
        assert self._process.stdin is not None
        self._process.stdin.write(_line(self._order, self._outcome))
        self._process.stdin.flush()
        if not self._order.tied:
            self._process.stdin.close()

    @property
    def trace(self) -> Trace:
        """What a restarted service needs, to find it again."""
        return Trace(self._process.pid, _started(self._process.pid), str(self._outcome))

    def poll(self) -> Outcome | None:
        """How it ended; None while it runs."""
        return None if self._process.poll() is None else _outcome(self._outcome)

    def kill(self, wait_seconds: float = 15.0) -> None:
        """End the worker and all that it started, and wait until it is so."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(wait_seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self.close()

    def close(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()


class AdoptedWorker:
    """A worker that a former process of the service has started, and that outlived it."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    @property
    def trace(self) -> Trace:
        return self._trace

    def poll(self) -> Outcome | None:
        """How it ended; None while it runs."""
        path = Path(self._trace.outcome)
        return None if not path.exists() and self._runs() else _outcome(path)

    def kill(self, wait_seconds: float = 15.0) -> None:
        """End the worker and all that it started, and wait until it is so."""
        if not self._runs():
            return
        os.kill(self._trace.pid, signal.SIGTERM)
        end = time.monotonic() + wait_seconds
        while self._runs() and time.monotonic() < end:
            time.sleep(0.02)
        if self._runs():
            os.killpg(self._trace.pid, signal.SIGKILL)

    def close(self) -> None:
        """Nothing of it is held open here."""

    def _runs(self) -> bool:
        return _started(self._trace.pid) == self._trace.started != ""


def _outcome(path: Path) -> Outcome:
    with contextlib.suppress(OSError, ValueError, KeyError):
        known = json.loads(path.read_text())
        return Outcome(known["code"], known["reason"])
    return Outcome(None, GUARD_GONE)


def _started(pid: int) -> str:
    """The boot and the tick at which a process was started; "" when it is not there any more."""
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return "" if fields[0] == "Z" else f"{boot} {fields[19]}"
    return ""


def _line(order: Order, outcome: Path) -> bytes:
    limits = asdict(order.limits)
    fields = {name: getattr(order, name) for name in Order.__dataclass_fields__}
    fields.update(
        script=str(order.script),
        directory=str(order.directory),
        parameters=dict(order.parameters),
        limits=limits,
        outcome=str(outcome),
        readable=None if order.readable is None else [*_PYTHON, str(order.script), *order.readable],
    )
    return json.dumps(fields).encode() + b"\n"
