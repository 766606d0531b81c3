"""What a run has left in its folder, read while it goes on and afterwards; and its stop."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federated_analytics.errors import ConfigError
from federated_analytics.flame.errors import RunFailed
from federated_analytics.flame.run_folder import (
    HUB_LOG,
    LOCK,
    PROGRESS,
    RUN,
    STATUS,
    STOP,
    SUBMISSIONS,
)

_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class RunFiles:
    """The folder that `--out` named.

    Raises:
        ConfigError: it is not the folder of a run.
    """

    out: Path

    def __post_init__(self) -> None:
        self.status()

    def status(self) -> dict[str, Any]:
        """{"state", "nodes"}, as status.json has it."""
        try:
            return dict(json.loads((self.out / STATUS).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            raise ConfigError(
                "This is not the folder of a run.",
                where=str(self.out),
                remedy="Name what --out named.",
            ) from None

    @property
    def running(self) -> bool:
        return bool(self.status()["state"] == "running")

    @property
    def alone(self) -> bool:
        """It is said to run, and no process writes into its folder any more: it was killed."""
        try:
            with (self.out / LOCK).open("a") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self.running
        except OSError:
            return False

    @property
    def on_federation(self) -> bool:
        return (self.out / RUN).exists()

    def progress(self) -> dict[str, int]:
        """How far each node is, of 100; those that said nothing are missing."""
        path = self.out / PROGRESS
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def log(self) -> list[dict[str, str]]:
        """What has reached the hub so far: node, level, text."""
        return [json.loads(line) for line in _lines(self.out / HUB_LOG)]

    def submissions(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in _lines(self.out / SUBMISSIONS)]

    def printed(self) -> list[tuple[str, str]]:
        """What the scripts have printed, node by node: lines that the hub does not see."""
        paths = sorted((self.out / "logs").glob("*.log"))
        return [(path.stem, line) for path in paths for line in _lines(path)]

    def so_far(self, node: str, printed: bool) -> Iterator[str]:
        """The lines of the log, or of what was printed; of one node, or of all."""
        return self._new({}, node, printed)

    def follow(self, node: str, printed: bool) -> Iterator[str]:
        """Each line once, as it comes, until the run has ended."""
        seen: dict[str, int] = {}
        while True:
            running = self.running and not self.alone
            yield from self._new(seen, node, printed)
            if not running:
                return
            time.sleep(_LOOK_SECONDS)

    def _new(self, seen: dict[str, int], node: str, printed: bool) -> Iterator[str]:
        """By number, as the whole log replaces what was seen of it on the way."""
        if printed:
            lines = [(own, f"{own}: {text}") for own, text in self.printed()]
        else:
            lines = [(e["node"], f"{e['node']} {e['level']}: {e['text']}") for e in self.log()]
        count: dict[str, int] = {}
        for own, text in lines:
            count[own] = count.get(own, 0) + 1
            if count[own] > seen.get(own, 0) and node in ("", own):
                yield text
        seen.update(count)

    def stop(self, seconds: float, say: Callable[[str], None]) -> str:
        """End the run and wait for its end; its state.

        Raises:
            RunFailed: it goes on after `seconds`.
        """
        if self.alone:
            return self._stop_alone(say)
        (self.out / STOP).write_text("")
        end = time.monotonic() + seconds
        while self.running:
            if time.monotonic() > end:
                raise RunFailed(
                    "The run does not stop.",
                    where=str(self.out),
                    remedy="See whether its process still runs, and end that.",
                )
            time.sleep(0.05)
        return str(self.status()["state"])

    def _stop_alone(self, say: Callable[[str], None]) -> str:
        """The process that began the run was killed: what it left is ended from here."""
        from federated_analytics.flame.federation_run import STOPPED, Place

        if self.on_federation:
            place = Place(**json.loads((self.out / RUN).read_text(encoding="utf-8")))
            for site, what in place.stop(say).items():
                say(f"{site}: {what}")
        known = self.status()
        ended = {"status": "stopped", "reason": STOPPED}
        nodes = {
            id: ended if node["status"] in ("starting", "running") else node
            for id, node in known["nodes"].items()
        }
        path = (self.out / STATUS).with_suffix(".tmp")
        path.write_text(json.dumps({"state": "stopped", "nodes": nodes}, indent=2) + "\n")
        path.replace(self.out / STATUS)
        return "stopped"


def _lines(path: Path) -> list[str]:
    """The whole lines of a file that may still grow."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return text[: text.rfind("\n") + 1].split("\n")[:-1]
