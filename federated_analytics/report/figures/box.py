"""Box plots from quantiles, with the bounds between which each quantile is guaranteed to lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from federated_analytics.report import numerals
from federated_analytics.report.cells import SITE, Cell, View
from federated_analytics.report.figures.axes import Scale, legend, x_axis
from federated_analytics.report.figures.place import Asked, colour_of, levels, nothing_for, own
from federated_analytics.report.figures.svg import Drawing, Figure
from federated_analytics.report.tables import digits_for, lowered, site_name

QUANTILES = ("q05", "q25", "median", "q75", "q95")
ROW_HEIGHT = 30.0


@dataclass(frozen=True)
class Box:
    """One box: `cell` is None for a heading."""

    label: str
    cell: Cell | None
    colour: str = "s0"


def figure(view: View, asked: Asked) -> Figure:
    """Boxes from q25 to q75, whiskers to q05 and q95, by each stratum of `by` and by site."""
    found = own(view, asked, "quantiles")
    boxes = _by_site(view, asked) if asked.by == (SITE,) else _by_strata(view, asked, found)
    drawn = [box for box in boxes if box.cell is not None and box.cell.number("median") is not None]
    if not drawn:
        raise nothing_for(asked, "quantiles")
    label = view.label(asked.variable)
    title = f"Quantiles of {lowered(label.label)} – {asked.population}"
    digits = max(0, digits_for(view, asked.variable) - 1)
    drawing = Drawing(asked.width, title, _described(drawn, digits))
    _draw(drawing, boxes, drawn, label.axis, digits)
    return drawing.finish()


def _by_strata(view: View, asked: Asked, found: Sequence[Cell]) -> list[Box]:
    boxes = [Box("Overall", _at(found, ()))]
    for i, name in enumerate(asked.by, start=1):
        here = levels(found, (name,))
        if here:
            boxes.append(Box(view.label(name).label, None))
        boxes += [Box(s[0][1], _at(found, s), colour_of(i)) for s in here]
    return [box for box in boxes if box.cell is not None or box.label != "Overall"]


def _by_site(view: View, asked: Asked) -> list[Box]:
    found = [c for c in view.of("quantiles") if c.population == asked.population]
    found = [c for c in found if c.variable == asked.variable and not c.strata]
    return [Box(site_name(c.site), c, colour_of(0 if c.site == asked.site else 1)) for c in found]


def _at(found: Sequence[Cell], strata: tuple[tuple[str, str], ...]) -> Cell | None:
    return next((cell for cell in found if cell.strata == strata), None)


def _draw(
    drawing: Drawing, boxes: Sequence[Box], drawn: Sequence[Box], label: str, digits: int
) -> None:
    narrow = drawing.width < 520
    left, right = (104.0, 12.0) if narrow else (150.0, 150.0)
    low, high = _extent(drawn)
    bottom = 26 + ROW_HEIGHT * len(boxes)
    x = Scale(low, high, left, drawing.width - right)
    x_axis(drawing, x, bottom, 20, label)
    if not narrow:
        head = "Median [IQR]"
        drawing.text(drawing.width, 12, head, anchor="end", fill="soft", size=11)
    for i, box in enumerate(boxes):
        y = 26 + ROW_HEIGHT * (i + 0.5)
        if box.cell is None:
            drawing.text(0, y + 8, box.label, bold=True, size=11.5, fill="soft", room=left)
            continue
        drawing.text(left - 10, y + 4, box.label, anchor="end", room=left - 12)
        _box(drawing, box, x, y, digits)
        if not narrow and box.cell.number("median") is not None:
            text = _numbers(box.cell, digits)
            drawing.text(drawing.width, y + 4, text, anchor="end", size=11.5)
    entries = [("Box: middle half; whiskers: 5 % to 95 %", "s0")]
    entries.append(("Dark: where the median is sure to lie", "soft"))
    legend(drawing, 0, bottom + 58, entries)


def _box(drawing: Drawing, box: Box, x: Scale, y: float, digits: int) -> None:
    cell, colour = box.cell, box.colour
    if cell is None:
        return
    q05, q25, median, q75, q95 = (cell.number(name) for name in QUANTILES)
    hover = f"{box.label}: {_numbers(cell, digits)}"
    if median is None:
        drawing.text(x.start + 6, y + 4, _numbers(cell, digits), fill="soft")
        return
    for end, edge in ((q05, q25), (q95, q75)):
        if end is not None and edge is not None:
            drawing.line(x(end), y, x(edge), y, stroke=colour, width=1.5, hover=hover)
            drawing.line(x(end), y - 5, x(end), y + 5, stroke=colour, width=1.5)
    if q25 is not None and q75 is not None:
        width = x(q75) - x(q25)
        drawing.rect(x(q25), y - 9, width, 18, fill="paper", radius=2)
        drawing.rect(x(q25), y - 9, width, 18, fill=colour, opacity=0.32, radius=2, hover=hover)
    _bounds(drawing, cell, x, y)
    drawing.line(x(median), y - 9, x(median), y + 9, stroke="ink", width=2.2, hover=hover)


def _bounds(drawing: Drawing, cell: Cell, x: Scale, y: float) -> None:
    lower, upper = cell.number("median_lower"), cell.number("median_upper")
    if lower is None or upper is None:
        return
    left, right = x(max(lower, x.low)), x(min(upper, x.high))
    drawing.rect(left, y - 9, right - left, 18, fill="ink", opacity=0.14)


def _extent(drawn: Sequence[Box]) -> tuple[float, float]:
    values = [
        value
        for box in drawn
        for name in QUANTILES
        if box.cell is not None and (value := box.cell.number(name)) is not None
    ]
    low, high = min(values), max(values)
    margin = (high - low) * 0.04 or abs(high) * 0.05 or 1.0
    return low - margin, high + margin


def _numbers(cell: Cell, digits: int) -> str:
    if cell.number("median") is None:
        return f"n = {numerals.count(cell.text('count'))}"
    median, q25, q75 = (numerals.decimal(cell.text(n), digits) for n in ("median", "q25", "q75"))
    return f"{median} [{q25}, {q75}]" if cell.text("q25") else median


def _described(drawn: Sequence[Box], digits: int) -> str:
    texts = [f"{b.label}: {_numbers(b.cell, digits)}" for b in drawn[:12] if b.cell is not None]
    return "Median [interquartile range]. " + "; ".join(texts) + "."
