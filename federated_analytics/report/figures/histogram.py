"""Histograms: bars overall, small multiples by stratum. Withheld bins are hatched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from federated_analytics.report import numerals
from federated_analytics.report.cells import Cell, Strata, View, number, readable
from federated_analytics.report.figures.axes import Scale, legend, tick_text, x_axis
from federated_analytics.report.figures.place import Asked, levels, nothing_for, own
from federated_analytics.report.figures.svg import Drawing, Figure
from federated_analytics.report.tables import lowered

PANEL_HEIGHT = 110.0
COLOUR = "s0"


@dataclass(frozen=True)
class Bin:
    """Persons in [low, high): `height` in percent or density; None where withheld.

    `most` is the height that a withheld bin cannot exceed; None where nothing is known.
    """

    low: float
    high: float
    height: float | None
    most: float | None
    text: str
    mark: str


@dataclass(frozen=True)
class Panel:
    title: str
    bins: tuple[Bin, ...]


def figure(view: View, asked: Asked) -> Figure:
    """Percent of persons a bin, or density where bins differ in width."""
    found = own(view, asked, "histogram")
    shown = levels(found, asked.by)
    even = _even(found)
    panels = [panel for s in shown if (panel := _panel(found, s, even)).bins]
    if not panels:
        raise nothing_for(asked, "histogram")
    overall = _bins([c for c in found if not c.strata], even) if asked.by else ()
    label = view.label(asked.variable)
    by = f" by {' and '.join(lowered(view.label(n).label) for n in asked.by)}" if asked.by else ""
    title = f"Distribution of {lowered(label.label)}{by} – {asked.population}"
    drawing = Drawing(asked.width, title, _described(panels))
    _draw(drawing, panels, overall, label.axis, "% of persons" if even else "Density")
    return drawing.finish()


def _draw(
    drawing: Drawing, panels: Sequence[Panel], overall: Sequence[Bin], label: str, unit: str
) -> None:
    columns = _columns(len(panels), drawing.width)
    height = 200.0 if len(panels) == 1 else PANEL_HEIGHT
    low, high = _extent(panels)
    tallest = max(_heights([*(b for p in panels for b in p.bins), *overall]), default=0.0) or 1.0
    gap, left = 26.0, 40.0
    width = (drawing.width - columns * left - (columns - 1) * gap / 2 - 8) / columns
    for i, panel in enumerate(panels):
        row, column = divmod(i, columns)
        last_row = i + columns >= len(panels)
        x0 = left + column * (width + left + gap / 2)
        y0 = 20 + row * (height + 46)
        x = Scale(low, high, x0, x0 + width)
        y = Scale(0, tallest * 1.06, y0 + height, y0 + 8)
        drawing.text(x0, y0 - 2, panel.title, bold=True, room=width)
        _y_axis(drawing, y, x0, x0 + width)
        x_axis(drawing, x, y0 + height, y0 + height, label if last_row else "")
        _bars(drawing, panel, x, y)
        _outline(drawing, overall, x, y)
        drawing.line(x0, y0 + height, x0 + width, y0 + height, stroke="soft")
    entries = [(unit, COLOUR), *([("Overall", "soft")] if overall else [])]
    entries += _withheld_entry(panels)
    legend(drawing, left, drawing.height + 22, entries)


def _withheld_entry(panels: Sequence[Panel]) -> list[tuple[str, str]]:
    withheld = [b for p in panels for b in p.bins if b.height is None]
    if not withheld:
        return []
    marks = {b.mark for b in withheld if b.most is not None}
    persons = f"{marks.pop()} persons" if len(marks) == 1 else "too few persons"
    return [(f"Withheld: {persons}, at their most", "withheld")]


def _bars(drawing: Drawing, panel: Panel, x: Scale, y: Scale) -> None:
    base = y(0)
    for item in panel.bins:
        left, right = x(item.low), x(item.high)
        inset = 0.5 if right - left > 3 else 0.0
        if item.height is None:
            top = min(base - 7, y(item.most) if item.most else base)
            drawing.hatched(
                left + inset, top, right - left - 2 * inset, base - top,
                colour="soft", hover=item.text,
            )  # fmt: skip
        elif item.height > 0:
            top = min(y(item.height), base - 0.75)
            drawing.rect(
                left + inset, top, right - left - 2 * inset, base - top,
                fill=COLOUR, hover=item.text,
            )  # fmt: skip


def _outline(drawing: Drawing, bins: Sequence[Bin], x: Scale, y: Scale) -> None:
    """The overall distribution as a step line, to compare each panel with."""
    inside = [b for b in bins if x.low <= b.low and b.high <= x.high]
    points: list[tuple[float, float]] = []
    for item in inside:
        level = y(item.height or 0.0)
        points += [(x(item.low), level), (x(item.high), level)]
    drawing.path(points, stroke="soft", width=1.2)


def _y_axis(drawing: Drawing, y: Scale, left: float, right: float) -> None:
    for tick in y.ticks(max(2, int((y.start - y.end) / 40))):
        drawing.line(left, y(tick), right, y(tick))
        text = tick_text(tick)
        drawing.text(left - 6, y(tick) + 4, text, anchor="end", fill="soft", size=11)


def _panel(found: Sequence[Cell], strata: Strata, even: bool) -> Panel:
    here = [cell for cell in found if cell.strata == strata]
    total = next((c.text("count") for c in here if not c.level), "")
    persons = f" (n = {numerals.count(total)})" if total else ""
    bins = _bins(here, even)
    # A group that is withheld as a whole would be an empty panel.
    shown = bins if not strata or any(b.height for b in bins) else ()
    return Panel(readable(strata) + persons, shown)


def _bins(here: Sequence[Cell], even: bool) -> tuple[Bin, ...]:
    total = next((c.number("count") for c in here if not c.level), None)
    found = []
    for cell in here:
        low, high = (number(cell.additional.get(f"bin_{end}", "")) for end in ("lower", "upper"))
        if low is None or high is None or high <= low:
            continue
        height = cell.number("percentage" if even else "density")
        # Nobody in a stratum without anybody: 0 of 0 is undefined, and nothing is withheld.
        if height is None and cell.number("count") == 0:
            height = 0.0
        most = _most(cell, total, high - low, even)
        found.append(Bin(low, high, height, most, _hover(cell), cell.text("count")))
    return tuple(sorted(found, key=lambda b: b.low))


def _most(cell: Cell, total: float | None, width: float, even: bool) -> float | None:
    bound = number(cell.text("count").removeprefix("<"))
    if not total or bound is None or not cell.text("count").startswith("<"):
        return None
    share = (bound - 1) / total
    return 100 * share if even else share / width


def _hover(cell: Cell) -> str:
    share = numerals.percent(cell.text("percentage"))
    persons = numerals.count(cell.text("count"))
    return f"{cell.level}: {persons} persons" + (f", {share} %" if cell.number("count") else "")


def _even(found: Sequence[Cell]) -> bool:
    widths = {
        round(
            (number(c.additional["bin_upper"]) or 0) - (number(c.additional["bin_lower"]) or 0), 9
        )
        for c in found
        if "bin_lower" in c.additional and "bin_upper" in c.additional
    }
    return len(widths) <= 1


def _extent(panels: Sequence[Panel]) -> tuple[float, float]:
    """From the first bin to the last that holds anybody, so that empty tails take no room."""
    everything = [b for p in panels for b in p.bins]
    held = [b for b in everything if b.height is None or b.height > 0] or everything
    return min(b.low for b in held), max(b.high for b in held)


def _heights(bins: Sequence[Bin]) -> list[float]:
    return [h for b in bins for h in (b.height, b.most) if h is not None]


def _columns(panels: int, width: float) -> int:
    if panels == 1 or width < 460:
        return 1
    return 3 if panels in (3, 5, 6) or panels > 8 else 2


def _described(panels: Sequence[Panel]) -> str:
    parts = []
    for panel in panels[:12]:
        peak = max(panel.bins, key=lambda b: -math.inf if b.height is None else b.height)
        parts.append(f"{panel.title}: highest at {peak.text}.")
    return " ".join(parts)
