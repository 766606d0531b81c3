"""Survival curves in steps, with their 95 % confidence band and the number at risk below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from federated_analytics.report.cells import SITE, View
from federated_analytics.report.figures.axes import Scale
from federated_analytics.report.figures.place import (
    Asked,
    colour_of,
    dash_of,
    levels,
    nothing_for,
    own,
)
from federated_analytics.report.figures.svg import Drawing, Figure, text_width, wrapped
from federated_analytics.report.survival import (
    KIND,
    LONG_DAYS,
    Curve,
    curves,
    event_text,
    median_text,
    percent_with_interval,
    ticks,
    time_text,
)
from federated_analytics.report.tables import lowered

MOST = 12
TOP = 30.0
FEW = 3
"""Up to so many curves are drawn with their bounds; more could not be told apart."""

ROOM = 0.15
BOUNDS = ("survival_lower", "survival_upper")
VISIBLE = 0.004
"""Bounds nearer to the curve than this share would lie under its line."""


def figure(view: View, asked: Asked) -> Figure:
    """Percent of persons without the event, over the time since the index date.

    By strata, each level has a colour and a line style; by ("site",) each site that shows its
    own numbers stands beside the pooled curve.
    """
    if not asked.variable:
        asked = replace(asked, variable=next(iter(view.variables(KIND)), ""))
    found = own(view, asked, KIND)
    if asked.by == (SITE,):
        here = [c for c in view.of(KIND) if c.population == asked.population]
        same = [c for c in here if c.result_id == found[0].result_id]
        every = curves([c for c in same if c.variable == asked.variable], (), by_site=True)
    else:
        every = curves(found, levels(found, asked.by))
    drawn = [curve for curve in every if curve.points][:MOST]
    if not drawn:
        raise nothing_for(asked, KIND)
    by = " and ".join(lowered(view.label(name).label) for name in asked.by)
    title = f"{event_text(view, asked.variable)}{f' by {by}' if by else ''} – {asked.population}"
    drawing = Drawing(asked.width, title, _described(every))
    y_label = f"{event_text(view, asked.variable)} (%)"
    _draw(drawing, drawn, y_label, asked)
    _notes(drawing, view, drawn, every)
    return drawing.finish()


def _draw(drawing: Drawing, drawn: Sequence[Curve], y_label: str, asked: Asked) -> None:
    room = max(text_width(curve.label, 11.5) for curve in drawn) + 64
    left = 44.0 if asked.narrow else max(64.0, min(190.0, room))
    bottom = TOP + (210.0 if asked.narrow else 300.0)
    horizon = max(curve.horizon for curve in drawn)
    number = max(text_width(f"≤{curve.at_risk(0)}", 11) for curve in drawn) + 8
    times = ticks(horizon, max(2, int((drawing.width - left - 18) / max(48, number))))
    x = Scale(0.0, max(horizon, times[-1]), left, drawing.width - 18)
    y = Scale(_lowest(drawn), 1.0, bottom, TOP)
    drawing.text(0, 12, y_label, fill="soft", room=drawing.width)
    _axes(drawing, x, y, times, horizon)
    for i, curve in enumerate(drawn):
        _band(drawing, curve, x, y, colour_of(i))
    for i, curve in enumerate(drawn):
        if _has_bounds(curve, drawn):
            for name in BOUNDS:
                bound = _steps(curve, _values(curve, name), x, y)
                drawing.path(bound, stroke=colour_of(i), width=1, dash="1.5 2.5")
        _curve(drawing, curve, x, y, i)
    _at_risk(drawing, drawn, x, times, bottom + 62, asked.narrow)


def _axes(drawing: Drawing, x: Scale, y: Scale, times: Sequence[float], horizon: float) -> None:
    for tick in y.ticks(max(2, int((y.start - y.end) / 48))):
        drawing.line(x.start, y(tick), x.end, y(tick), stroke="rule")
        text = f"{100 * tick:.0f}"
        drawing.text(x.start - 8, y(tick) + 4, text, anchor="end", fill="soft", size=11)
    if y.low < 0.5 < y.high:
        drawing.line(x.start, y(0.5), x.end, y(0.5), stroke="soft", dash="3 3")
    for time in times:
        drawing.line(x(time), y.start, x(time), y.start + 5, stroke="soft")
        text = time_text(time, horizon)
        drawing.text(x(time), y.start + 18, text, anchor="middle", fill="soft", size=11)
    drawing.line(x.start, y.start, x.end, y.start, stroke="soft")
    unit = "Years" if horizon >= LONG_DAYS else "Days"
    middle = (x.start + x.end) / 2
    drawing.text(middle, y.start + 36, f"{unit} since the index date", anchor="middle", fill="soft")


def _curve(drawing: Drawing, curve: Curve, x: Scale, y: Scale, position: int) -> None:
    text = percent_with_interval(curve.points[-1], curve.whole)
    hover = f"{curve.label}: {text} % on day {curve.horizon:,.0f}"
    steps = _steps(curve, _values(curve, KIND), x, y)
    colour, dash = colour_of(position), dash_of(position)
    drawing.path(steps, stroke=colour, width=2, dash=dash, hover=hover)
    if _has_dots(curve):
        for is_known, (px, py) in zip(curve.known, steps[2::2], strict=True):
            if is_known:
                drawing.rect(px - 3.5, py - 3.5, 7, 7, fill=colour, radius=3.5)


def _has_dots(curve: Curve) -> bool:
    """Whether so many steps are joined that the ends of the others need a mark."""
    return 0 < sum(curve.known) <= len(curve.points) / 2


def _band(drawing: Drawing, curve: Curve, x: Scale, y: Scale, colour: str) -> None:
    upper = _steps(curve, [high for _, high in curve.band], x, y)
    lower = _steps(curve, [low for low, _ in curve.band], x, y)
    drawing.path([*upper, *reversed(lower)], fill=colour, opacity=0.15, closed=True)


def _values(curve: Curve, name: str) -> list[float | None]:
    return [cell.number(name) for cell in curve.points]


def _steps(
    curve: Curve, values: Sequence[float | None], x: Scale, y: Scale
) -> list[tuple[float, float]]:
    """The corners of a step line: a value holds from its day up to the next."""
    level = y(1.0)
    corners = [(x(0.0), level)]
    for value, day in zip(values, curve.days, strict=True):
        corners.append((x(day), level))
        level = level if value is None else y(max(y.low, value))
        corners.append((x(day), level))
    return corners


def _has_bounds(curve: Curve, drawn: Sequence[Curve]) -> bool:
    return len(drawn) <= FEW and curve.uncertainty > VISIBLE


def _lowest(drawn: Sequence[Curve]) -> float:
    """Where the axis starts: 0, or a little below the bands where they are high.

    Bounds have some room; where they are wider they end at the axis, and the note says how wide.
    """
    least = min(low for curve in drawn for low, _ in curve.band)
    shown = [curve for curve in drawn if _has_bounds(curve, drawn)]
    bounds = [value for curve in shown for value in _values(curve, BOUNDS[0])]
    bound = min((value for value in bounds if value is not None), default=least)
    least = min(least, max(bound, least - ROOM))
    return 0.0 if least < 0.55 else min(0.9, int(least * 20 - 0.2) / 20)


def _at_risk(
    drawing: Drawing,
    drawn: Sequence[Curve],
    x: Scale,
    times: Sequence[float],
    y: float,
    narrow: bool,
) -> None:
    drawing.text(0, y, "Number at risk", bold=True, size=11.5, fill="soft")
    for i, curve in enumerate(drawn):
        y += 20
        drawing.line(0, y - 4, 26, y - 4, stroke=colour_of(i), width=2.5, dash=dash_of(i))
        room = drawing.width - 32 if narrow else x.start - 60
        drawing.text(32, y, curve.label, size=11.5, room=room)
        if narrow:
            y += 16
        for time in times:
            drawing.text(x(time), y, curve.at_risk(time), anchor="middle", size=11)


def _notes(drawing: Drawing, view: View, drawn: Sequence[Curve], every: Sequence[Curve]) -> None:
    least = view.result.settings[drawn[0].whole.result_id].get("min_cell_count", "")
    texts = [f"Times on a grid of {drawn[0].grid_days or drawn[0].horizon:g} days"]
    if least not in ("", "0", "1"):
        texts[0] += f"; each step holds at least {least} events, or none, at each site"
    texts[0] += ". Bands: 95 % confidence intervals."
    if start := _lowest(drawn):
        texts.append(f"The axis starts at {100 * start:.0f} %.")
    if not all(known for curve in drawn for known in curve.known):
        told = any(map(_has_dots, drawn))
        texts.append(
            "Where steps are joined, the curve takes exits as spread evenly over them"
            + ("; a dot marks the end of a step at all sites." if told else ".")
        )
    widest = max(curve.uncertainty for curve in drawn)
    if widest > 0.0005:
        dotted = " (dotted)" if any(_has_bounds(curve, drawn) for curve in drawn) else ""
        texts.append(
            "The Kaplan–Meier curve of the exact days differs by at most "
            f"{100 * widest:.1f} percentage points{dotted}."
        )
    withheld = [curve.label for curve in every if not curve.points]
    if withheld:
        texts.append(f"Withheld: {', '.join(withheld)}.")
    if len(every) - len(withheld) > MOST:
        texts.append(f"The first {MOST} of {len(every) - len(withheld)} curves are shown.")
    y = drawing.height + 18
    for line in wrapped(" ".join(texts), drawing.width, 11, lines=8):
        drawing.text(0, y, line, size=11, fill="soft")
        y += 15


def _described(every: Sequence[Curve]) -> str:
    parts = []
    for curve in every[:MOST]:
        if not curve.points:
            parts.append(f"{curve.label}: withheld")
            continue
        last = percent_with_interval(curve.points[-1], curve.whole)
        median = median_text(curve.whole)
        parts.append(f"{curve.label}: {last} % on day {curve.horizon:,.0f}, median {median}")
    return "Percent without the event (95 % confidence interval). " + "; ".join(parts) + "."
