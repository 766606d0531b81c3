"""A run, recorded call by call, and replayed: a script alone, answered as it was answered then.

    recording/<node>/calls.jsonl    {"client", "order", "call", "arguments", "value" | "error"}
    recording/<node>/<number>.out   the stream of an answer, if it had one

Calls are kept for each of a worker's threads, in the order in which that thread made them, so a
replay is deterministic whatever the other nodes did, and whenever.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from federated_analytics.errors import FederatedAnalyticsError
from federated_analytics.flame.errors import Diverged, RunFailed, from_record, to_record
from federated_analytics.flame.node_calls import Answer, NodeCalls

CALLS = "calls.jsonl"
_CHOSEN_BY_CHANCE = frozenset({"id"})
_ITS_OWN = frozenset({"script_ended"})


class Recorder:
    """Stands between a node's socket and its calls, and writes down both directions."""

    def __init__(self, calls: NodeCalls, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._calls = calls
        self._folder = folder
        self._lock = threading.Lock()
        self._threads: dict[str, int] = {}
        self._streams = 0

    def answer(
        self,
        client: str,
        number: int,
        name: str,
        arguments: Mapping[str, Any],
        stream: BinaryIO | None,
    ) -> Answer:
        line: dict[str, Any] = {"call": name, "arguments": dict(arguments), "order": number}
        with self._lock:
            line["client"] = self._threads.setdefault(client, len(self._threads))
        try:
            value, out = self._calls.answer(client, number, name, arguments, stream)
        except FederatedAnalyticsError as error:
            self._write({**line, "error": to_record(error)})
            raise
        line["value"] = value
        if out is not None:
            line["stream"], out = self._kept(out)
        self._write(line)
        return value, out

    def _kept(self, out: BinaryIO) -> tuple[str, BinaryIO]:
        with self._lock:
            self._streams += 1
            name = f"{self._streams}.out"
        with out, (self._folder / name).open("wb") as file:
            shutil.copyfileobj(out, file, 1 << 20)
        return name, (self._folder / name).open("rb")

    def _write(self, line: dict[str, Any]) -> None:
        text = json.dumps(line) + "\n"
        with self._lock, (self._folder / CALLS).open("a") as file:
            file.write(text)


class Replay:
    """Answers a worker from a recording.

    Raises (by `answer`):
        Diverged: the script makes another call than it made then, or one more.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / CALLS
        if not path.is_file():
            raise RunFailed(
                "There is no recording of this node.",
                where=str(folder),
                remedy="Record one: `federated-analytics flame run SCRIPT.py --record …`.",
            )
        self._folder = folder
        self._lock = threading.Lock()
        self._threads: dict[str, int] = {}
        self._calls: dict[tuple[int, int], dict[str, Any]] = {}
        for text in path.read_text().splitlines():
            line = json.loads(text)
            self._calls[line["client"], line["order"]] = line
        self.ended: tuple[str, str] | None = None
        self.answered = 0

    @property
    def node(self) -> dict[str, Any]:
        """What the node told its script first: ids, roles, parameters."""
        for line in self._calls.values():
            if line["call"] == "start":
                return dict(line["value"])
        return {}

    def answer(
        self,
        client: str,
        number: int,
        name: str,
        arguments: Mapping[str, Any],
        stream: BinaryIO | None,
    ) -> Answer:
        if name in _ITS_OWN:
            self.ended = (str(arguments["status"]), str(arguments["reason"]))
            return None, None
        with self._lock:
            thread = self._threads.setdefault(client, len(self._threads))
            self.answered += 1
        line = self._calls.get((thread, number))
        if line is None or line["call"] != name or _asked(line["arguments"]) != _asked(arguments):
            then = "nothing more" if line is None else line["call"]
            raise Diverged(
                f"Call {number} is {name}, and was {then} when it was recorded"
                + ("." if line is None or line["call"] != name else ", with other arguments."),
                where=f"thread {thread}, call {number}",
            )
        if "error" in line:
            raise from_record(line["error"])
        out = (self._folder / line["stream"]).open("rb") if "stream" in line else None
        return line["value"], out


def _asked(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments but for ids that are random, and times that remain."""
    return {
        key: value
        for key, value in arguments.items()
        if key not in _CHOSEN_BY_CHANCE and not isinstance(value, float)
    }
