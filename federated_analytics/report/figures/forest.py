"""Forest plots: each site's mean with its 95 % confidence interval, and the pooled diamond."""

from __future__ import annotations

import math
from collections.abc import Sequence

from federated_analytics.report import numerals
from federated_analytics.report.cells import Cell, View
from federated_analytics.report.figures.axes import Scale, x_axis
from federated_analytics.report.figures.place import Asked, nothing_for
from federated_analytics.report.figures.svg import Drawing, Figure
from federated_analytics.report.result import POOLED
from federated_analytics.report.tables import digits_for, lowered, site_name

ROW_HEIGHT = 28.0


def figure(view: View, asked: Asked) -> Figure:
    """Squares grow with the persons behind them; the dashed line is the pooled mean."""
    found = [
        c
        for c in view.of("summary")
        if c.variable == asked.variable and c.population == asked.population and not c.strata
    ]
    sites = [c for c in found if c.site != POOLED]
    pooled = next((c for c in found if c.site == POOLED), None)
    drawn = [c for c in (*sites, pooled) if c is not None and _interval(c) is not None]
    if not sites or not drawn:
        raise nothing_for(asked, "summary at several sites")
    label, digits = view.label(asked.variable), digits_for(view, asked.variable)
    title = f"Mean {lowered(label.label)} by site – {asked.population}"
    drawing = Drawing(asked.width, title, _described(drawn, digits))
    _draw(drawing, sites, pooled, drawn, label.axis, digits)
    return drawing.finish()


def _draw(
    drawing: Drawing,
    sites: Sequence[Cell],
    pooled: Cell | None,
    drawn: Sequence[Cell],
    label: str,
    digits: int,
) -> None:
    narrow = drawing.width < 520
    left, right = (96.0, 12.0) if narrow else (150.0, 240.0)
    top = 12.0 if narrow else 26.0
    rows = [*sites, *([pooled] if pooled else [])]
    bottom = top + ROW_HEIGHT * len(rows) + 4
    x = Scale(*_extent(drawn), left, drawing.width - right)
    x_axis(drawing, x, bottom, top, label)
    if not narrow:
        _heads(drawing)
    if pooled is not None and (mean := pooled.number("mean")) is not None:
        drawing.line(x(mean), top, x(mean), bottom, stroke="soft", width=1.2, dash="4 3")
    largest = max((c.number("count") or 0 for c in sites), default=0) or 1
    for i, cell in enumerate(rows):
        y = top + ROW_HEIGHT * (i + 0.5)
        bold = cell.site == POOLED
        if bold:
            drawing.line(0, y - ROW_HEIGHT / 2, drawing.width, y - ROW_HEIGHT / 2)
        drawing.text(0, y + 4, site_name(cell.site), bold=bold, room=left - 8)
        _mark(drawing, cell, x, y, largest)
        if not narrow:
            _texts(drawing, cell, y + 4, digits)


def _mark(drawing: Drawing, cell: Cell, x: Scale, y: float, largest: float) -> None:
    interval = _interval(cell)
    if interval is None:
        text = f"withheld (n {numerals.count(cell.text('count'))})"
        drawing.text(x.start + 4, y + 4, text, fill="soft", size=11)
        return
    low, mean, high = interval
    if cell.site == POOLED:
        points = [(x(low), y), (x(mean), y - 8), (x(high), y), (x(mean), y + 8)]
        drawing.path(points, fill="s1", closed=True, hover="Pooled")
        return
    half = 3 + 5 * math.sqrt((cell.number("count") or 0) / largest)
    drawing.line(x(low), y, x(high), y, stroke="s0", width=1.6)
    drawing.rect(x(mean) - half, y - half, 2 * half, 2 * half, fill="s0", hover=cell.site)


def _heads(drawing: Drawing) -> None:
    for text, x in (("Persons", drawing.width - 160), ("Mean (95 % CI)", drawing.width)):
        drawing.text(x, 14, text, anchor="end", fill="soft", size=11)


def _texts(drawing: Drawing, cell: Cell, y: float, digits: int) -> None:
    bold = cell.site == POOLED
    persons = numerals.count(cell.text("count"))
    drawing.text(drawing.width - 160, y, persons, anchor="end", size=11.5, bold=bold)
    drawing.text(drawing.width, y, _numbers(cell, digits), anchor="end", size=11.5, bold=bold)


def _numbers(cell: Cell, digits: int) -> str:
    names = ("mean", "conf_low", "conf_high")
    mean, low, high = (numerals.decimal(cell.text(name), digits) for name in names)
    return f"{mean} ({low} to {high})" if cell.number("mean") is not None else mean


def _interval(cell: Cell) -> tuple[float, float, float] | None:
    low, mean, high = (cell.number(name) for name in ("conf_low", "mean", "conf_high"))
    return None if low is None or mean is None or high is None else (low, mean, high)


def _extent(drawn: Sequence[Cell]) -> tuple[float, float]:
    intervals = [found for cell in drawn if (found := _interval(cell)) is not None]
    low, high = min(i[0] for i in intervals), max(i[2] for i in intervals)
    margin = (high - low) * 0.08 or abs(high) * 0.02 or 1.0
    return low - margin, high + margin


def _described(drawn: Sequence[Cell], digits: int) -> str:
    texts = [f"{site_name(c.site)}: {_numbers(c, digits)}" for c in drawn[:20]]
    return "Mean (95 % confidence interval). " + "; ".join(texts) + "."
