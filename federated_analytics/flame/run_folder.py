"""What a run leaves behind: submissions, states, the hub's log, results and objects."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from federated_analytics.flame.errors import RunFailed

STATUS = "status.json"
PROGRESS = "progress.json"
SUBMISSIONS = "submissions.jsonl"
HUB_LOG = "hub_log.jsonl"
STOP = "stop"
LOCK = "run.lock"
RUN = "run.json"
"""Where a run on a federation goes on, for whoever stops it after the process that began it."""
_OWN = (STATUS, PROGRESS, SUBMISSIONS, HUB_LOG, STOP, RUN, "results", "hub", "logs", "recording")
_SUFFIX = {"bytes": "bin", "pickle": "pickle", "str": "txt"}


class RunFolder:
    """`--out`: a former run's files in it are replaced, nothing else is touched.

    Raises:
        RunFailed: another run goes on in the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._submitted = 0
        self._progress: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(folder)
        if (folder / STATUS).exists():
            for name in _OWN:
                _remove(folder / name)
        for name in ("hub", "logs", "results"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / SUBMISSIONS).write_text("")
        (folder / HUB_LOG).write_text("")

    @property
    def hub(self) -> Path:
        return self.folder / "hub"

    def log_of(self, node: str) -> Path:
        """What a node's script prints; it stays at the node."""
        return self.folder / "logs" / f"{node}.log"

    def stop_asked(self) -> bool:
        """True once `federated-analytics flame stop` was called."""
        return (self.folder / STOP).exists()

    def add_log(self, node: str, level: str, text: str) -> None:
        self._append(HUB_LOG, {"node": node, "level": level, "text": text})

    def add_submission(self, node: str, output_type: str, content: BinaryIO) -> None:
        """A final result: text in the line itself, anything else in a file that it names."""
        self._submitted += 1
        line = {"node": node, "output_type": output_type}
        if output_type == "str":
            line["text"] = content.read().decode()
        else:
            name = f"results/{self._submitted}.{_SUFFIX.get(output_type, 'bin')}"
            with (self.folder / (name + ".tmp")).open("wb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
            os.replace(self.folder / (name + ".tmp"), self.folder / name)
            line.update(text=name, file=name)
        self._append(SUBMISSIONS, line)

    def write_status(self, state: str, nodes: Mapping[str, Mapping[str, str]]) -> None:
        """{"state", "nodes": {ID: {"status", "reason"}}}; the folder is free once it has ended."""
        plain = {"state": state, "nodes": {id: dict(node) for id, node in nodes.items()}}
        self._replace(STATUS, json.dumps(plain, indent=2, ensure_ascii=False))
        if state != "running":
            self._lock.close()

    def write_progress(self, node: str, value: int) -> None:
        """How far a node is, of 100."""
        self._progress[node] = value
        self._replace(PROGRESS, json.dumps(self._progress))

    def write_place(self, place: Mapping[str, Any]) -> None:
        """Where the run goes on; readable by the analyst alone."""
        self._replace(RUN, json.dumps(dict(place)), 0o600)

    def replace_log(self, entries: Iterable[Mapping[str, str]]) -> None:
        """The whole log, once it has come back, instead of what was seen of it on the way."""
        lines = [json.dumps(dict(entry), ensure_ascii=False) + "\n" for entry in entries]
        self._replace(HUB_LOG, "".join(lines).rstrip("\n"))

    def _replace(self, name: str, text: str, mode: int = 0o644) -> None:
        path = (self.folder / name).with_suffix(".tmp")
        path.touch(mode)
        path.write_text(text + "\n" if text else "", encoding="utf-8")
        os.replace(path, self.folder / name)

    def _append(self, name: str, line: dict[str, Any]) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _locked(folder: Path) -> TextIO:
    """The folder's lock, held as long as the file is open; `flame status` holds it a moment."""
    file = (folder / LOCK).open("w")
    for _ in range(20):
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        time.sleep(0.02)
    file.close()
    raise RunFailed(
        "Another run goes on in this folder.",
        where=f"--out {folder}",
        remedy="Name another folder, or end that run with `flame stop`.",
    )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
