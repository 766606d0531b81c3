"""Who has answered, in which round, after how long: a bar on a terminal, else plain lines."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from federated_analytics.federation import Event

if TYPE_CHECKING:
    from rich.progress import Progress

_SIGNS = {"answered": "+", "failed": "!", "done": "=", "start": "*", "sent": ">", "waiting": "?"}
_KINDS = {sign: kind for kind, sign in _SIGNS.items()}
_LINE = re.compile(r"([+!=*>?]) \[ *([\d.]+) s\] round (\d+)  (\d+)/(\d+)  (.*)")


def line(event: Event) -> str:
    """An event as one line of text."""
    sign = _SIGNS.get(event.kind, " ")
    count = f"{event.answered}/{event.total}"
    text = " ".join(part for part in (event.site, event.message) if part)
    if event.kind == "answered" and not event.message:
        text = f"{event.site} answered"
    return f"{sign} [{event.elapsed_seconds:6.1f} s] round {event.round}  {count}  {text}"


def event_of(text: str) -> Event | None:
    """The event behind a line of `line`, read from a run's log; None for any other text.

    Site and message come back as one text, which `line` writes as it was.
    """
    found = _LINE.match(text.strip())
    if not found:
        return None
    sign, elapsed, round_number, answered, total, message = found.groups()
    return Event(
        _KINDS[sign], int(round_number), "", int(answered), int(total), float(elapsed), message
    )


class Display:
    """Shows events, and other lines, one below the other."""

    def __call__(self, event: Event) -> None:
        self.say(line(event))

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class BarDisplay(Display):
    """A bar of the sites that have answered, below the lines."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("starting", total=None)

    def __call__(self, event: Event) -> None:
        self._bar.update(
            self._task,
            total=event.total or None,
            completed=event.answered,
            description=f"round {event.round}" if event.round else "starting",
        )
        if event.kind != "sent":
            self.say(line(event))

    def say(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False)


@contextmanager
def shown() -> Iterator[Display]:
    """A display on standard error, as fits what that is."""
    if not sys.stderr.isatty():
        yield Display()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield BarDisplay(bar)
