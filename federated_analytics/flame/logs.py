"""Logs, log types and progress: methods of `FlameCoreSDK`."""

from __future__ import annotations

import math
import sys
import threading
import time
from typing import Any

from federated_analytics.flame.node_connection import NodeConnection

LEVEL_OF = {
    "info": "info",
    "normal": "info",
    "notice": "notice",
    "debug": "debug",
    "warning": "warn",
    "alert": "alert",
    "emergency": "emerg",
    "error": "error",
    "critical-error": "crit",
}
LEVELS = ("info", "notice", "debug", "warn", "alert", "emerg", "error", "crit")


class LogMethods:
    """What is printed at the node, and what of it the hub can read."""

    _connection: NodeConnection
    _silent: bool

    def __init__(self) -> None:
        self._level_of = dict(LEVEL_OF)
        self._halted = ""
        self._log_lock = threading.Lock()

    def flame_log(
        self,
        msg: str | bytes,
        sep: str = " ",
        end: str = "\n",
        file: Any = None,
        log_type: str = "normal",
        suppress_head: bool = False,
        halt_submission: bool = False,
    ) -> None:
        """Print a line at the node and submit it to the hub. Never log a person's data.

        Args:
            sep: between the head and the message.
            end, file: as for `print`.
            log_type: info, normal, notice, debug, warning, alert, emergency, error,
                critical-error, or a declared one.
            suppress_head: print the message without its head.
            halt_submission: keep it back from the hub, for the beginning of the next one.
        """
        level = self._level_of.get(log_type)
        text = msg.decode(errors="replace") if isinstance(msg, bytes) else str(msg)
        head = "" if suppress_head else f"{_head(log_type)}{sep}"
        print(f"{head}{text}", end=end, file=file, flush=True)
        with self._log_lock:
            whole = self._halted + text
            self._halted = whole + ("" if end == "\n" else end) if halt_submission else ""
        if not halt_submission:
            self._connection.call("log", level=level or "info", text=whole)
        if level is None:
            self._report(
                "error",
                f"{log_type!r} is no log type; declare it with declare_log_types.",
            )

    def declare_log_types(self, new_log_types: dict[str, str]) -> None:
        """Name further log types, each standing for one of the hub's eight levels."""
        for name, level in new_log_types.items():
            if level in LEVELS:
                self._level_of[str(name)] = level
            else:
                self._report(
                    "error",
                    f"Log type {name!r} cannot stand for {level!r}: use {', '.join(LEVELS)}.",
                )

    def get_progress(self) -> int:
        """The progress that was set last, 0 to 100."""
        return int(self._connection.call("progress"))

    def set_progress(self, progress: int | float) -> None:
        """Set the progress; floats are truncated. It only rises, within 0 and 100."""
        number = isinstance(progress, int | float) and not isinstance(progress, bool)
        if not number or not math.isfinite(progress) or not 0 <= progress <= 100:
            self._report("error", f"Progress {progress!r} is refused: use a number from 0 to 100.")
            return
        current = self.get_progress()
        if int(progress) <= current:
            self._report(
                "warn", f"Progress {progress!r} is refused: it is at {current} and only rises."
            )
            return
        self._connection.call("set_progress", value=int(progress))

    def _report(self, level: str, text: str) -> None:
        """A line of the SDK's own, on the console unless silent, and to the hub."""
        self._say(text, level)
        self._connection.call("log", level=level, text=text)

    def _say(self, text: str, level: str = "info") -> None:
        if not self._silent:
            print(f"{_head(level)} {text}", file=sys.stderr, flush=True)

    def _flush_log(self) -> None:
        """Submit what is still held back, at the script's end."""
        with self._log_lock:
            text, self._halted = self._halted, ""
        if text:
            self._connection.call("log", level="info", text=text)


def _head(log_type: str) -> str:
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"[flame {now} {log_type.upper()}]"
