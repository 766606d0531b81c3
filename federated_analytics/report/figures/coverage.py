"""Coverage: for how many persons each site has a value of each feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from federated_analytics.report.cells import Cell, View, number
from federated_analytics.report.figures.place import Asked, nothing_for
from federated_analytics.report.figures.svg import Drawing, Figure
from federated_analytics.report.numerals import WITHHELD
from federated_analytics.report.result import POOLED
from federated_analytics.report.tables import site_name

ROW_HEIGHT = 26.0
MOST_SITES = 12


def figure(view: View, asked: Asked) -> Figure:
    """A bar for each feature and site: the percentage of persons with a value."""
    found = {
        (c.variable, c.site): c
        for c in view.of("summary")
        if c.population == asked.population and not c.strata
    }
    features = list(dict.fromkeys(name for name, _ in found))
    sites = list(dict.fromkeys(site for _, site in found))[: MOST_SITES + 1]
    if not any(c.text("percentage_missing") for c in found.values()):
        raise nothing_for(asked, "summary with count_missing")
    title = f"Persons with a value, by feature and site – {asked.population}"
    drawing = Drawing(asked.width, title, _described(found, features, sites))
    if asked.narrow:
        _stacked(view, drawing, found, features, sites)
    else:
        _grid(view, drawing, found, features, sites)
    return drawing.finish()


Found = Mapping[tuple[str, str], Cell]


def _stacked(
    view: View, drawing: Drawing, found: Found, features: Sequence[str], sites: Sequence[str]
) -> None:
    """For small screens: each feature's name above its sites' bars."""
    left, y = 96.0, 0.0
    for name in features:
        y += 14
        drawing.text(0, y, view.label(name).label, bold=True, room=drawing.width)
        for site in sites:
            if (cell := found.get((name, site))) is not None:
                y += 18
                drawing.text(0, y, site_name(site), size=11.5, fill="soft", room=left - 8)
                _bar(drawing, cell, left, y - 10, drawing.width - left)
        y += 12


def _grid(
    view: View, drawing: Drawing, found: Found, features: Sequence[str], sites: Sequence[str]
) -> None:
    left = 210.0
    room = (drawing.width - left) / len(sites)
    for i, site in enumerate(sites):
        bold = site == POOLED
        drawing.text(left + i * room + 6, 12, site_name(site), bold=bold, size=11, room=room - 8)
    for row, name in enumerate(features):
        y = 22 + ROW_HEIGHT * row
        drawing.line(0, y, drawing.width, y)
        drawing.text(0, y + 17, view.label(name).label, room=left - 6)
        for i, site in enumerate(sites):
            cell = found.get((name, site))
            if cell is not None:
                _bar(drawing, cell, left + i * room + 6, y + 7, room - 8)


def _described(found: Found, features: Sequence[str], sites: Sequence[str]) -> str:
    first = sites[0]
    texts = [f"{n} {coverage(found[n, first])[1]} %" for n in features[:20] if (n, first) in found]
    return f"{site_name(first)}: {', '.join(texts)}."


def _bar(drawing: Drawing, cell: Cell, x: float, y: float, room: float) -> None:
    share, text = coverage(cell)
    length = max(8.0, room - 40)
    hover = f"{cell.variable}, {site_name(cell.site)}: {text} %"
    colour = "s1" if cell.site == POOLED else "s0"
    if share is None:
        drawing.hatched(x, y, length, 11, colour="soft", hover=hover)
    else:
        drawing.rect(x, y, length, 11, fill="track", radius=2, hover=hover)
        drawing.rect(x, y, length * share / 100, 11, fill=colour, radius=2, hover=hover)
    drawing.text(x + length + 5, y + 10, text, size=11, fill="soft")


def coverage(cell: Cell) -> tuple[float | None, str]:
    """Percent of persons with a value, with its text; "≥ 97" where few are missing."""
    gone = cell.number("percentage_missing")
    if gone is not None:
        return 100 - gone, _percent(100 - gone)
    n, bound = cell.number("count"), number(cell.text("count_missing").removeprefix("<"))
    if n and bound and cell.text("count_missing").startswith("<"):
        least = 100 * n / (n + bound - 1)
        return least, f"≥{_percent(least)}"
    return None, WITHHELD


def _percent(value: float) -> str:
    """Whole percents; 100 only where nobody misses."""
    return f"{int(value)}" if 99 <= value < 100 else f"{value:.0f}"
