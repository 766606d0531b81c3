"""Peak memory of each kind of process that a run consists of."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

INTERVAL_SECONDS = 0.05
KINDS = {
    "flower-superlink": "SuperLink",
    "flower-superexec": "SuperExec",
    "flower-supernode": "SuperNode",
    "flwr-serverapp": "ServerApp",
    "flwr-clientapp": "ClientApp",
    "flwr": "flwr run",
}
"""Programs by the name of their command, and what they are called."""


class Peaks(dict[str, float]):
    """Peak resident memory in MiB by kind of process: the largest single process of each."""

    def note(self, kind: str, mebibytes: float) -> None:
        self[kind] = max(self.get(kind, 0.0), mebibytes)


@contextmanager
def sampled(roots: Iterable[int], interval: float = INTERVAL_SECONDS) -> Iterator[Peaks]:
    """Peaks of the processes below `roots`, sampled until the block ends.

    Linux keeps each process's own high-water mark, so a peak between two samples counts too.
    Empty where there is no /proc.
    """
    peaks, over = Peaks(), threading.Event()
    watched = list(roots)
    for pid in descendants(watched):
        _forget_peak(pid)

    def watch() -> None:
        while not over.wait(interval):
            for pid in descendants(watched):
                _note(pid, peaks)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peaks
    finally:
        over.set()
        watcher.join()


def descendants(roots: Iterable[int]) -> list[int]:
    """Process ids of `roots` and everything that they started, as far as it still runs."""
    found, waiting = [], list(roots)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):
                waiting += map(int, children.read_text().split())
    return found


def kind_of(command: list[str]) -> str:
    """The kind of a process by its command line; "" for others."""
    for word in command[:2]:
        if kind := KINDS.get(Path(word).name):
            return kind
    return ""


def _note(pid: int, peaks: Peaks) -> None:
    with suppress(OSError, ValueError, StopIteration):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM:"))
        if kind := kind_of(command):
            peaks.note(kind, int(peak.split()[1]) / 1024)


def _forget_peak(pid: int) -> None:
    """Start a long-lived process's high-water mark anew, where the system lets us."""
    with suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")
