"""What a run leaves behind: submissions, states, the hub's log, results and objects."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO

STATUS = "status.json"
SUBMISSIONS = "submissions.jsonl"
HUB_LOG = "hub_log.jsonl"
STOP = "stop"
_OWN = (STATUS, SUBMISSIONS, HUB_LOG, STOP, "results", "hub", "logs", "recording")
_SUFFIX = {"bytes": "bin", "pickle": "pickle", "str": "txt"}


class RunFolder:
    """`--out`: a former run's files in it are replaced, nothing else is touched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._states: dict[str, dict[str, str]] = {}
        self._submitted = 0
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

    def write_status(self, state: str, nodes: dict[str, dict[str, str]]) -> None:
        """{"state", "nodes": {ID: {"status", "reason"}}}"""
        text = json.dumps({"state": state, "nodes": nodes}, indent=2, ensure_ascii=False)
        path = self.folder / STATUS
        path.with_suffix(".tmp").write_text(text + "\n")
        os.replace(path.with_suffix(".tmp"), path)

    def _append(self, name: str, line: dict[str, Any]) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
