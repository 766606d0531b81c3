"""Tables written out: plain text, terminal, Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from textwrap import wrap
from typing import TYPE_CHECKING

from federated_analytics.report.cells import View
from federated_analytics.report.regression import regression_tables
from federated_analytics.report.result import Result
from federated_analytics.report.site_tables import (
    attrition,
    participation,
    per_site,
    privacy_budget,
    withheld,
)
from federated_analytics.report.survival import survival_tables
from federated_analytics.report.tables import Table, table_ones

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table as RichTable

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def shown_tables(result: Result) -> list[Table]:
    """The tables that a terminal shows: who took part, attrition, characteristics, sites."""
    view = View(result)
    found = [participation(view), privacy_budget(view)]
    found += [attrition(view, population) for population in view.populations]
    found += [table for table in table_ones(view) if table.main]
    for population in view.populations:
        found += survival_tables(view, population)
        found += [table for table in regression_tables(view, population) if table.main]
    if len(view.shown_sites()) > 1:
        found += [per_site(view, population) for population in view.populations]
    found.append(withheld(view))
    return [table for table in found if table.lines]


def to_text(result: Result, width: int = 100) -> str:
    """The result as plain text, at most `width` characters wide where its columns allow it."""
    parts = [_heading(result)]
    parts += [plain(part) for table in shown_tables(result) for part in fitted(table, width)]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_terminal(result: Result, console: Console | None = None) -> None:
    """Print the result's tables, as wide as the console."""
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    console.print(Text(_heading(result), style="bold"))
    for table in shown_tables(result):
        for part in fitted(table, console.width):
            console.print()
            console.print(to_rich(part))


def to_markdown(result: Result) -> str:
    """The result's tables as GitHub Markdown."""
    parts = [f"# {_markdown(_heading(result))}"]
    for table in shown_tables(result):
        parts.append(f"## {_markdown(table.title)}\n\n{markdown(table)}")
    return "\n\n".join(parts) + "\n"


def plain(table: Table) -> str:
    """A table in plain text: aligned columns, no lines that a screen reader reads out."""
    grid = [[table.stub, *(_clean(c.label) for c in table.columns)]]
    grid += [["  " * x.indent + _clean(x.label), *map(_clean, x.cells)] for x in table.lines]
    widths = _widths(table, grid)
    lines = [_clean(table.title)]
    if table.spanned:
        lines.append(_over(table, widths))
    lines += [_aligned(table, row, widths) for row in grid]
    rule = "-" * max(map(len, lines))
    lines.insert(1, rule)
    lines.insert(3 + table.spanned, rule)
    notes = [part for note in table.notes for part in wrap(_clean(note), max(len(rule), 72))]
    return "\n".join([*lines, rule, *notes])


def markdown(table: Table) -> str:
    """A table in GitHub Markdown; upper headings are put before the lower ones."""
    heads = [_markdown(f"{c.over}: {c.label}" if c.over else c.label) for c in table.columns]
    marks = [":---" if i in table.text_columns else "---:" for i in range(len(heads))]
    lines = [_md_row([_markdown(table.stub), *heads]), _md_row([":---", *marks])]
    for line in table.lines:
        texts = list(map(_markdown, line.cells or [""] * len(heads)))
        label = _markdown(line.label)
        label = (
            f"**{label}**" if line.heading or line.strong else "&nbsp;&nbsp;" * line.indent + label
        )
        lines.append(_md_row([label, *texts]))
    notes = "\n".join(map(_markdown, table.notes))
    return "\n".join(lines) + (f"\n\n{notes}" if notes else "")


def to_rich(table: Table) -> RichTable:
    """A table for rich's console. Texts are shown as they are: no markup is read in them."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    made = RichTable(
        title=Text(_clean(table.title), style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        caption=Text("\n".join(map(_clean, table.notes)), style="dim") if table.notes else None,
        caption_justify="left",
        pad_edge=False,
    )
    made.add_column(Text(table.stub), no_wrap=False, min_width=12)
    for i, column in enumerate(table.columns):
        head = f"{column.over}\n{column.label}" if column.over else column.label
        left = i in table.text_columns
        made.add_column(Text(_clean(head, keep="\n")), justify="left" if left else "right")
    for line in table.lines:
        style = "bold" if line.heading or line.strong else ""
        label = Text("  " * line.indent + _clean(line.label), style=style)
        texts: list[RenderableType] = [
            Text(_clean(text), style=_style(text, style)) for text in line.cells
        ]
        made.add_row(label, *texts)
    return made


def fitted(table: Table, width: int) -> list[Table]:
    """The table in parts that each fit the width: columns in order, labels repeated."""
    grid = [[table.stub, *(_clean(c.label) for c in table.columns)]]
    grid += [["  " * x.indent + _clean(x.label), *map(_clean, x.cells)] for x in table.lines]
    widths = _widths(table, grid)
    parts: list[list[int]] = [[]]
    used = widths[0]
    for i, needed in enumerate(widths[1:]):
        if parts[-1] and used + needed + 2 > width and not table.text_columns:
            parts.append([])
            used = widths[0]
        parts[-1].append(i)
        used += needed + 2
    if len(parts) == 1:
        return [table]
    return [_part(table, chosen, i == len(parts) - 1) for i, chosen in enumerate(parts)]


def _part(table: Table, chosen: Sequence[int], last: bool) -> Table:
    lines = tuple(replace(x, cells=tuple(x.cells[i] for i in chosen)) if x.cells else x
                  for x in table.lines)  # fmt: skip
    columns = tuple(table.columns[i] for i in chosen)
    title = table.title if chosen[0] == 0 else f"{table.title} (continued)"
    return replace(
        table, title=title, columns=columns, lines=lines, notes=table.notes if last else ()
    )


def _heading(result: Result) -> str:
    name = _clean(result.setting("study")) or "Result"
    return f"{name} (synthetic data)" if result.setting("synthetic") == "true" else name


def _widths(table: Table, grid: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(row[i]) for row in grid if i < len(row)) for i in range(len(table.columns) + 1)]


def _aligned(table: Table, row: Sequence[str], widths: Sequence[int]) -> str:
    texts = [row[0].ljust(widths[0])]
    for i, text in enumerate(row[1:]):
        pad = text.ljust if i in table.text_columns else text.rjust
        texts.append(pad(widths[i + 1]))
    return "  ".join(texts).rstrip()


def _over(table: Table, widths: Sequence[int]) -> str:
    texts, position = [" " * widths[0]], 1
    for head, columns in table.spans():
        room = sum(widths[position : position + columns]) + 2 * (columns - 1)
        texts.append(_clean(head)[:room].rjust(room))
        position += columns
    return "  ".join(texts).rstrip()


def _style(text: str, style: str) -> str:
    colours = {"answered": "green", "failed": "red", "refused": "yellow", "no answer": "red"}
    return colours.get(text, style)


def _clean(text: str, keep: str = "") -> str:
    """The text without control and direction characters, which could rewrite a terminal."""
    return CONTROL.sub(lambda m: m.group() if m.group() in keep and keep else "�", text)


def _markdown(text: str) -> str:
    escaped = re.sub(r"([\\`*_\[\]<>|~])", r"\\\1", _clean(text))
    return escaped.replace("&", "&amp;")


def _md_row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"
