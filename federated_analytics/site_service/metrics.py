"""What a service counts of itself, in Prometheus' text form (exposition format 0.0.4)."""

from __future__ import annotations

import bisect
import re
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0)
"""Upper ends of the histogram's intervals."""
_CODE = re.compile(r"^[a-z_]{1,40}$")


@dataclass
class Metrics:
    """Requests by decision, their seconds, and what goes on now; never anything of their content.

    Safe to use from several threads.
    """

    decisions: Counter[str] = field(default_factory=Counter)
    turned_away: Counter[str] = field(default_factory=Counter)
    intervals: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    seconds: float = 0.0
    running: int = 0
    queued: int = 0
    connections: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def answered(self, code: str, seconds: float) -> None:
        """One request was answered, with a release or a refusal's code."""
        with self._lock:
            self.decisions[code if _CODE.match(code) else "other"] += 1
            self.intervals[bisect.bisect_left(SECONDS, seconds)] += 1
            self.seconds += seconds

    def turn_away(self, reason: str) -> None:
        """A connection or a request was refused before it was looked at."""
        with self._lock:
            self.turned_away[reason if _CODE.match(reason) else "other"] += 1

    def text(self) -> str:
        """The exposition."""
        with self._lock:
            lines = [
                *_counter("requests_total", "Requests answered.", "decision", self.decisions),
                *_counter("turned_away_total", "Refused unread.", "reason", self.turned_away),
                *self._histogram(),
                *_gauge("running", "Requests that are answered now.", self.running),
                *_gauge("queued", "Requests that wait for a place.", self.queued),
                *_gauge("connections", "Open connections.", self.connections),
            ]
        return "\n".join(lines) + "\n"

    def _histogram(self) -> list[str]:
        name = "federated_analytics_site_seconds"
        lines = [f"# HELP {name} Seconds to answer.", f"# TYPE {name} histogram"]
        total = 0
        for end, count in zip([*map(str, SECONDS), "+Inf"], self.intervals, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{end}"}} {total}')
        return [*lines, f"{name}_sum {self.seconds:.6f}", f"{name}_count {total}"]


def gauges(counts: Mapping[str, int]) -> str:
    """Numbers of studies by what they do now, in the same form."""
    lines = [
        line
        for name, count in counts.items()
        for line in _gauge(f"studies_{name}", f"Studies: {name}.", count)
    ]
    return "".join(f"{line}\n" for line in lines)


def _counter(name: str, help: str, label: str, counts: Counter[str]) -> list[str]:
    name = f"federated_analytics_site_{name}"
    lines = [f"# HELP {name} {help}", f"# TYPE {name} counter"]
    return lines + [f'{name}{{{label}="{code}"}} {n}' for code, n in sorted(counts.items())]


def _gauge(name: str, help: str, value: int) -> list[str]:
    name = f"federated_analytics_site_{name}"
    return [f"# HELP {name} {help}", f"# TYPE {name} gauge", f"{name} {value}"]
