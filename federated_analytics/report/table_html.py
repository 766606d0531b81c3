"""Tables as HTML. Every text is escaped here, whoever wrote it."""

from __future__ import annotations

from html import escape

from federated_analytics.report.figures.svg import CONTROL
from federated_analytics.report.tables import Line, Table

WIDE = 6
"""Tables with more columns than this are set smaller."""

DENSE = 98
"""Tables with more characters in a line than this, gaps included, are set smaller on a screen."""

LONG = 45
"""Tables with more lines than this are broken over printed pages."""


def table_html(table: Table) -> str:
    """A table that scrolls in its own box where the page is narrower."""
    kind = "wide" if len(table.columns) > WIDE else "dense" if _breadth(table) > DENSE else ""
    wide = f' class="{kind}"' if kind else ""
    long = " long" if len(table.lines) > LONG else ""
    body = "\n".join(_line(table, line) for line in table.lines)
    notes = f'<p class="notes">{_text(" ".join(table.notes))}</p>' if table.notes else ""
    return (
        f'<div class="block{long}"><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{_text(table.title)}">\n<table{wide}><caption>{_text(table.title)}</caption>\n'
        f"<thead>{_over(table)}{_head(table)}</thead>\n<tbody>{body}</tbody></table></div>"
        f"{notes}</div>"
    )


def _breadth(table: Table) -> int:
    """Characters of the broadest line, three of them for each gap; 0 of tables of texts."""
    if table.text_columns:
        return 0
    columns = [column.label.split() for column in table.columns]
    for line in table.lines:
        for texts, text in zip(columns, line.cells, strict=False):
            texts.append(text)
    stub = max((len(line.label) for line in table.lines if line.cells), default=0)
    return min(max(stub, 16), 34) + sum(3 + max(map(len, texts), default=0) for texts in columns)


def _over(table: Table) -> str:
    if not table.spanned:
        return ""
    cells = []
    for text, columns in table.spans():
        scope = ' scope="colgroup"' if text else ""
        cells.append(f'<th class="over-head" colspan="{columns}"{scope}>{_text(text)}</th>')
    return f"<tr><th></th>{''.join(cells)}</tr>\n"


def _head(table: Table) -> str:
    cells = [f'<th scope="col">{_text(table.stub)}</th>']
    for i, column in enumerate(table.columns):
        left = ' class="text"' if i in table.text_columns else ""
        cells.append(f'<th scope="col"{left}>{_text(column.label)}</th>')
    return f"<tr>{''.join(cells)}</tr>"


def _line(table: Table, line: Line) -> str:
    names = ["heading"] * line.heading + ["strong"] * line.strong + ["indent"] * bool(line.indent)
    kind = f' class="{" ".join(names)}"' if names else ""
    span = f' colspan="{len(table.columns) + 1}"' if line.heading else ""
    cells = [f'<th scope="row"{span}>{_text(line.label)}</th>']
    for i, text in enumerate(line.cells):
        left = ' class="text"' if i in table.text_columns else ""
        cells.append(f"<td{left}>{_text(text)}</td>")
    return f"<tr{kind}>{''.join(cells)}</tr>"


def _text(text: str) -> str:
    return escape(CONTROL.sub("\ufffd", text), quote=True)
