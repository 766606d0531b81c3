"""Flow chart of attrition: how many persons each step of a population's definition left."""

from __future__ import annotations

from federated_analytics.report import numerals
from federated_analytics.report.cells import Cell, View, natural
from federated_analytics.report.figures.place import Asked, nothing_for, own
from federated_analytics.report.figures.svg import Drawing, Figure, wrapped
from federated_analytics.report.tables import persons_text

GAP = 34.0


def figure(view: View, asked: Asked) -> Figure:
    """A box for each step; beside each arrow the persons who were left out."""
    place = Asked("attrition", asked.population, asked.site, width=asked.width)
    steps = own(view, place, "counts")
    steps = sorted(steps, key=lambda c: natural(c.additional.get("step", "")))
    if not steps:
        raise nothing_for(asked, "attrition")
    title = f"Attrition – {asked.population}"
    described = "; ".join(f"{c.level}: {persons_text(c)}" for c in steps)
    drawing = Drawing(asked.width, title, f"{described}.")
    width = min(380.0, asked.width * 0.64)
    y = 4.0
    for position, cell in enumerate(steps):
        if position:
            _arrow(drawing, width / 2, y, _left_out(steps[position - 1], cell))
            y += GAP
        y = _step(drawing, cell, y, width, last=position == len(steps) - 1)
    return drawing.finish()


def _step(drawing: Drawing, cell: Cell, y: float, width: float, *, last: bool) -> float:
    lines = wrapped(cell.level, width - 24)
    height = 34 + 16 * len(lines)
    drawing.rect(1, y, width - 2, height, fill="track", stroke="s0" if last else "rule", radius=6)
    for i, line in enumerate(lines):
        drawing.text(12, y + 19 + 16 * i, line)
    share = cell.text("percentage")
    n = f"n = {persons_text(cell)}"
    drawing.text(12, y + height - 11, n, bold=True, fill="s0" if last else "ink")
    if numerals.placeholder(share) is None:
        text = f"{numerals.percent(share)} %"
        drawing.text(width - 12, y + height - 11, text, anchor="end", fill="soft", size=11)
    return y + height


def _arrow(drawing: Drawing, x: float, y: float, left_out: str) -> None:
    tip = y + GAP
    drawing.line(x, y, x, tip - 6, stroke="soft", width=1.4)
    drawing.path([(x - 4, tip - 7), (x + 4, tip - 7), (x, tip - 1)], fill="soft", closed=True)
    drawing.line(x, y + GAP / 2, x + 24, y + GAP / 2, stroke="soft", width=1.4)
    room = drawing.width - x - 30
    drawing.text(x + 30, y + GAP / 2 + 4, left_out, fill="soft", room=room)


def _left_out(before: Cell, after: Cell) -> str:
    earlier, later = before.number("count"), after.number("count")
    if earlier is None or later is None:
        return f"left out: {numerals.WITHHELD}"
    # Counts with noise may grow from one step to the next.
    return f"left out: {earlier - later:,.0f}" if later <= earlier else "left out: about 0"
