"""State, progress and last log line of each node: a table on a terminal, else plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from federated_analytics.flame.router import Event, NodeRecord

if TYPE_CHECKING:
    from rich.table import Table


@contextmanager
def shown(records: Mapping[str, NodeRecord]) -> Iterator[Callable[[Event], None]]:
    """Gives what takes the events of a run and shows them."""
    if not sys.stderr.isatty():
        yield _line
        return
    from rich.console import Console
    from rich.live import Live

    started = time.monotonic()

    with Live(
        _table(records, 0.0),
        console=Console(stderr=True),
        refresh_per_second=4,
        get_renderable=lambda: _table(records, time.monotonic() - started),
    ):
        yield lambda event: None


class Display:
    """`shown`, begun once it is known what runs."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.show: Callable[[Event], None] = lambda event: None

    def start(self, records: Mapping[str, NodeRecord]) -> None:
        self.show = self._stack.enter_context(shown(records))


@contextmanager
def shown_later() -> Iterator[Display]:
    """A display that begins with `start` and ends with the block."""
    with ExitStack() as stack:
        yield Display(stack)


def _line(event: Event) -> None:
    content = event.content
    texts = {
        "status": f"{content.get('status')} {content.get('reason', '')}".strip(),
        "log": f"{content.get('level')}: {content.get('text')}",
        "progress": f"{content.get('value')} %",
        "submission": f"submitted a final result ({content.get('output_type')})",
    }
    print(f"{event.node}  {texts.get(event.kind, event.kind)}", file=sys.stderr, flush=True)


def _table(records: Mapping[str, NodeRecord], seconds: float) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("node", "state", "progress", "last log line", title=f"{seconds:.0f} s")
    for record in records.values():
        state = record.status + (f": {record.reason}" if record.reason else "")
        last = record.last_log.splitlines()[-1][:80] if record.last_log else ""
        table.add_row(record.id, Text(state[:60]), f"{record.progress} %", Text(last))
    return table
