"""One program of this environment as a process of ours: started, watched, ended with its children.

Flower's processes start others, some in sessions of their own: a SuperLink its SuperExec, which
starts the ServerApp. A process group alone would leave them behind, so all descendants are ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from federated_analytics.errors import FederationError

STOP_SECONDS = 8.0


class ProcessFailed(FederationError):
    """A process of ours that did not start; the remedy is the end of its own log."""

    code = "process_failed"


@dataclass
class Process:
    """A process in a session of its own, with its output in a file."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    _popen: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _log_start: int = field(default=0, init=False)

    def start(self) -> None:
        with self.log.open("ab") as output:
            self._log_start = output.tell()
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

    def said(self) -> str:
        """The output since the last start."""
        with suppress(OSError), self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")
        return ""

    def last_words(self, lines: int = 5) -> str:
        """The end of `said`."""
        return "\n".join(line.strip() for line in self.said().splitlines()[-lines:])

    def until(self, ready: str, seconds: float) -> None:
        """Wait until the process says `ready`.

        Raises:
            ProcessFailed: it ended, or `seconds` went by; it is stopped then.
        """
        limit = time.monotonic() + seconds
        while ready not in self.said():
            if not self.is_running() or time.monotonic() > limit:
                self.stop()
                last = self.last_words().replace("\n", " / ")
                raise ProcessFailed(
                    f"The {self.name} did not start.",
                    where=str(self.log),
                    remedy=f"It said last: {last[-600:] or 'nothing'}",
                )
            time.sleep(0.1)

    def ask_to_stop(self) -> None:
        """SIGTERM, without waiting; `stop` waits."""
        if self.is_running():
            self._popen_signal(signal.SIGTERM)

    def stop(self) -> None:
        """End the process and its descendants in order, and by force what is left of them."""
        self._end(signal.SIGTERM, STOP_SECONDS)

    def kill(self) -> None:
        """End the process and its descendants at once, as a crash would."""
        self._end(signal.SIGKILL, STOP_SECONDS)

    def _end(self, first: signal.Signals, seconds: float) -> None:
        if self._popen is None:
            return
        # Before it ends: a child whose parent is gone is no longer known as its descendant.
        family = descendants(self._popen.pid) if self.is_running() else frozenset()
        self._popen_signal(first)
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(seconds)
        self._popen_signal(signal.SIGKILL)
        self._popen.wait()
        _end_all(family, first)

    def _popen_signal(self, number: signal.Signals) -> None:
        assert self._popen is not None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, number)


@dataclass(frozen=True)
class Descendant:
    """A process by its id and its birth, so that a reused id is not taken for it."""

    pid: int
    born: str

    def is_alive(self) -> bool:
        return self in _processes()

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, number)


def descendants(pid: int) -> frozenset[Descendant]:
    """The children of a process, their children, and so on."""
    parents = _processes()
    found: set[Descendant] = set()
    front = {pid}
    while front:
        children = {d for d, parent in parents.items() if parent in front} - found
        found |= children
        front = {d.pid for d in children}
    return frozenset(found)


def _processes() -> dict[Descendant, int]:
    """Every living process and its parent's id."""
    if not Path("/proc/self/stat").exists():
        return _listed()
    found: dict[Descendant, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError, IndexError):
                # After the name, which may hold spaces: state, parent, …, 20th the start time.
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if fields[0] not in "ZX":
                    found[Descendant(int(folder.name), fields[19])] = int(fields[1])
    return found


def _listed() -> dict[Descendant, int]:
    """As `_processes`, where there is no /proc (macOS)."""
    command = ["ps", "-A", "-o", "pid=,ppid=,lstart="]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    rows = (line.split(None, 2) for line in lines.splitlines())
    return {Descendant(int(pid), born): int(parent) for pid, parent, born in rows}


def _end_all(family: frozenset[Descendant], first: signal.Signals) -> None:
    for number, seconds in ((first, STOP_SECONDS / 2), (signal.SIGKILL, STOP_SECONDS / 2)):
        limit = time.monotonic() + seconds
        left = family & _processes().keys()
        for one in left:
            one.signal(number)
        while left and time.monotonic() < limit:
            time.sleep(0.05)
            left = family & _processes().keys()
        if not left:
            return


def program(name: str) -> str:
    """A command of this Python's own environment."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else name


def with_own_programs(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` with this Python's commands on PATH: Flower starts its own by bare name."""
    folder = str(Path(sys.executable).parent)
    return {**environment, "PATH": os.pathsep.join([folder, environment.get("PATH", "")])}


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and a closed terminal as an exception, as Ctrl-C is, so that `finally` runs."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {}
    # Elsewhere than in the main thread signals are the owner's.
    with suppress(ValueError):
        for number in (signal.SIGTERM, signal.SIGHUP):
            before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
