"""Who has answered, in which round, after how long: a bar on a terminal, else plain lines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from federated_analytics.federation import Event

_SIGNS = {"answered": "+", "failed": "!", "done": "=", "start": ">", "sent": ">"}


def line(event: Event) -> str:
    """An event as one line of text."""
    sign = _SIGNS.get(event.kind, " ")
    count = f"{event.answered}/{event.total}"
    text = " ".join(part for part in (event.site, event.message) if part)
    if event.kind == "answered" and not event.message:
        text = f"{event.site} answered"
    return f"{sign} [{event.elapsed_seconds:6.1f} s] round {event.round}  {count}  {text}"


@contextmanager
def shown() -> Iterator[Callable[[Event], None]]:
    """A function that shows events on standard error, as fits what that is."""
    if not sys.stderr.isatty():
        yield lambda event: print(line(event), file=sys.stderr, flush=True)
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
        task = bar.add_task("asking", total=None)

        def show(event: Event) -> None:
            bar.update(task, total=event.total, completed=event.answered)
            bar.update(task, description=f"round {event.round}")
            if event.kind in ("answered", "failed"):
                bar.console.print(line(event), markup=False, highlight=False)

        yield show
