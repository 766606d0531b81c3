"""Forest of a regression's coefficients, with their 95 % confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from federated_analytics.report.cells import SITE, Cell, View, readable
from federated_analytics.report.figures.axes import Scale, legend, x_axis
from federated_analytics.report.figures.place import Asked, colour_of, nothing_for
from federated_analytics.report.figures.svg import Drawing, Figure, text_width
from federated_analytics.report.regression import (
    INTERCEPT,
    INTERVAL,
    KIND,
    Model,
    estimate_text,
    label_of,
    models,
)
from federated_analytics.report.result import POOLED
from federated_analytics.report.tables import lowered, site_name

ROW, GROUP = 24.0, 30.0
SMALL = 8
"""A number's coefficient that is this much smaller than the largest is shown of 10, 100 … units."""


@dataclass(frozen=True)
class Mark:
    cell: Cell
    label: str
    position: int


@dataclass(frozen=True)
class Group:
    """A covariate's coefficients, per `factor` of its units."""

    label: str
    factor: int
    marks: tuple[Mark, ...]


def figure(view: View, asked: Asked) -> Figure:
    """A row for each covariate of the outcome `variable`; the intercept is in the table.

    By strata, or by ("site",), each level has a row of its own in each covariate.
    """
    every = [m for m in _models(view, asked) if any(map(_interval, m.coefficients))]
    names = [_name(model, asked) for model in every]
    groups = _groups(view, every, names)
    if not groups:
        raise nothing_for(asked, KIND)
    outcome = view.label(every[0].outcome)
    by = " and ".join(lowered(view.label(name).label) for name in asked.by)
    title = f"Coefficients of {lowered(outcome.label)}{f' by {by}' if by else ''}"
    drawing = Drawing(asked.width, f"{title} – {asked.population}", _described(groups))
    unit = f" ({outcome.shown_unit})" if outcome.shown_unit else ""
    _draw(drawing, groups, names, f"Difference in {lowered(outcome.label)}{unit}")
    return drawing.finish()


def _models(view: View, asked: Asked) -> list[Model]:
    by_site = asked.by == (SITE,)
    found = [
        cell
        for cell in view.of(KIND)
        if cell.population == asked.population
        and (by_site or cell.site == asked.site)
        and (asked.result_id is None or cell.result_id == asked.result_id)
    ]
    every = [m for m in models(found) if not asked.variable or m.outcome == asked.variable]
    by = () if by_site else asked.by
    every = [m for m in every if tuple(name for name, _ in m.fit.strata) == by]
    if not every:
        raise nothing_for(asked, KIND)
    return [m for m in every if m.fit.result_id == every[0].fit.result_id]


def _name(model: Model, asked: Asked) -> str:
    return site_name(model.fit.site) if asked.by == (SITE,) else readable(model.fit.strata)


def _groups(view: View, every: Sequence[Model], names: Sequence[str]) -> list[Group]:
    columns = dict.fromkeys((c.variable, c.level) for m in every for c in m.coefficients)
    by_column: dict[tuple[str, str], list[Mark]] = {}
    for column in columns:
        for i, (model, name) in enumerate(zip(every, names, strict=True)):
            cell = model.of(*column)
            if cell is not None and column[0] != INTERCEPT:
                by_column.setdefault(column, []).append(Mark(cell, name, i))
    reaches = {column: _reach(marks) for column, marks in by_column.items()}
    largest = max(reaches.values(), default=0.0)
    groups = []
    for column, marks in by_column.items():
        if not any(_interval(mark.cell) for mark in marks):
            continue
        factor = 1 if column[1] else _factor(reaches[column], largest)
        groups.append(Group(label_of(view, marks[0].cell, factor), factor, tuple(marks)))
    return groups


def _factor(reach: float, largest: float) -> int:
    if not reach or reach * SMALL > largest:
        return 1
    return int(min(10 ** math.floor(math.log10(largest / reach)), 1_000))


def _reach(marks: Sequence[Mark]) -> float:
    intervals = (_interval(mark.cell) for mark in marks)
    return max((abs(end) for interval in intervals if interval for end in interval), default=0.0)


def _interval(cell: Cell, factor: int = 1) -> tuple[float, float, float] | None:
    """Lower end, coefficient and upper end."""
    value, low, high = (cell.number(name) for name in INTERVAL)
    if value is None or low is None or high is None:
        return None
    return low * factor, value * factor, high * factor


def _draw(drawing: Drawing, groups: Sequence[Group], names: Sequence[str], axis_label: str) -> None:
    narrow, several = drawing.width < 520, len(names) > 1
    longest = max(text_width(group.label) for group in groups)
    left = 4.0 if narrow else max(90.0, min(250.0, longest + 16))
    right = 12.0 if narrow else 190.0
    row = GROUP + 12 if narrow and not several else ROW
    heading = 26.0 if several else 0.0
    top = 6.0 if narrow else 26.0
    bottom = top + sum(heading + row * len(g.marks) for g in groups) + 6
    x = Scale(*_extent(groups), left, drawing.width - right)
    x_axis(drawing, x, bottom, top, axis_label)
    if x.low <= 0 <= x.high:
        drawing.line(x(0), top, x(0), bottom, stroke="soft", width=1.3)
    if not narrow:
        head = "Coefficient (95 % CI)"
        drawing.text(drawing.width, 14, head, anchor="end", fill="soft", size=11)
    y = top
    for group in groups:
        if several:
            y += heading
            drawing.rect(0, y - 14, text_width(group.label, 11.5, bold=True), 16, fill="paper")
            drawing.text(0, y - 3, group.label, bold=True, size=11.5, room=drawing.width)
        for mark in group.marks:
            _mark(drawing, group, mark, x, y, row, several)
            y += row
    if several:
        entries = [(name, colour_of(i)) for i, name in enumerate(names)]
        if narrow:
            legend(drawing, 0, bottom + 58, entries)


def _mark(
    drawing: Drawing, group: Group, mark: Mark, x: Scale, y: float, row: float, several: bool
) -> None:
    narrow = drawing.width < 520
    text = estimate_text(mark.cell, group.factor)
    label = mark.label if several else group.label
    middle = y + (row - 9 if narrow and not several else row / 2)
    if narrow and not several:
        # The lines of the axis end at a text.
        for start, width in ((0.0, text_width(label)), (drawing.width, -text_width(text, 11.5))):
            drawing.rect(min(start, start + width), y + 5, abs(width), 18, fill="paper")
        drawing.text(0, y + 18, label, room=drawing.width - text_width(text, 11.5) - 8)
        drawing.text(drawing.width, y + 18, text, anchor="end", size=11.5)
    elif not narrow:
        indent = 14.0 if several else 0.0
        drawing.text(indent, middle + 4, label, room=x.start - 8 - indent)
        drawing.text(drawing.width, middle + 4, text, anchor="end", size=11.5)
    interval = _interval(mark.cell, group.factor)
    if interval is None:
        if narrow and several:
            drawing.text(x.start + 4, middle + 4, f"{mark.label}: {text}", fill="soft", size=11)
        return
    low, value, high = interval
    colour, hover = colour_of(mark.position), f"{mark.label}, {group.label}: {text}"
    drawing.line(x(low), middle, x(high), middle, stroke=colour, width=1.8, hover=hover)
    for end in (low, high):
        drawing.line(x(end), middle - 4, x(end), middle + 4, stroke=colour, width=1.8)
    _point(drawing, x(value), middle, colour, hover, mark.cell.site == POOLED and several)


def _point(drawing: Drawing, x: float, y: float, colour: str, hover: str, pooled: bool) -> None:
    if pooled:
        corners = [(x - 6, y), (x, y - 6), (x + 6, y), (x, y + 6)]
        drawing.path(corners, fill=colour, closed=True, hover=hover)
        return
    drawing.rect(x - 4.5, y - 4.5, 9, 9, fill=colour, hover=hover)


def _extent(groups: Sequence[Group]) -> tuple[float, float]:
    """From the least to the greatest end, with 0 where "no difference" is."""
    found = [_interval(mark.cell, g.factor) for g in groups for mark in g.marks]
    ends = [0.0, *(end for interval in found if interval for end in interval)]
    margin = (max(ends) - min(ends)) * 0.06 or 1.0
    return min(ends) - margin, max(ends) + margin


def _described(groups: Sequence[Group]) -> str:
    several = any(len(group.marks) > 1 for group in groups)
    parts = []
    for group in groups[:20]:
        for mark in group.marks:
            place = f", {mark.label}" if several else ""
            parts.append(f"{group.label}{place}: {estimate_text(mark.cell, group.factor)}")
    return "Coefficient (95 % confidence interval). " + "; ".join(parts[:40]) + "."
