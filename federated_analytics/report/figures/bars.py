"""Bars of categories and of the most frequent concepts, by persons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from federated_analytics.report import numerals
from federated_analytics.report.cells import Cell, Strata, View, natural, number, readable
from federated_analytics.report.figures.axes import legend
from federated_analytics.report.figures.place import Asked, colour_of, levels, nothing_for, own
from federated_analytics.report.figures.svg import Drawing, Figure, text_width
from federated_analytics.report.tables import YES, is_yes_no

MOST = 40
THIN, THICK = 11.0, 10.0


@dataclass(frozen=True)
class Bar:
    label: str
    cell: Cell | None
    colour: str


def figure(view: View, asked: Asked) -> Figure:
    """Percent of persons in each category of `variable`; the top concepts where it is "".

    A bar's length is its share of all persons, so bars of several figures can be compared.
    """
    kind = "frequencies" if asked.variable else "top_concepts"
    found = own(view, asked, kind)
    shown = levels(found, asked.by) or levels(found, ())
    if not shown:
        raise nothing_for(asked, kind)
    groups = _groups(found, shown, concepts=not asked.variable)
    name = view.label(asked.variable).label if asked.variable else "Most frequent concepts"
    drawing = Drawing(asked.width, f"{name} – {asked.population}", _described(groups))
    _draw(drawing, groups, shown)
    return drawing.finish()


def prevalence(view: View, asked: Asked) -> Figure:
    """Percent of persons for whom each yes/no feature is true, most frequent first."""
    found = own(view, replace(asked, variable="", by=()), "frequencies")
    yes = [c for c in found if c.level == YES and not c.strata and is_yes_no(view, c.variable)]
    if not yes:
        raise nothing_for(asked, "yes/no frequencies")
    yes.sort(key=lambda c: -(c.number("percentage") or 0.0))
    groups = [(view.label(c.variable).label, [Bar("", c, colour_of(0))]) for c in yes[:MOST]]
    drawing = Drawing(asked.width, f"Persons with … – {asked.population}", _described(groups))
    _draw(drawing, groups, [()])
    return drawing.finish()


def _groups(
    found: Sequence[Cell], shown: Sequence[Strata], *, concepts: bool
) -> list[tuple[str, list[Bar]]]:
    first = [cell for cell in found if cell.strata == shown[0]] if concepts else found
    keys = dict.fromkeys((c.variable if concepts else c.level, c.level) for c in first)
    if concepts:
        ranks = {c.level: natural(c.additional.get("rank", "")) for c in reversed(found)}
        order = sorted(keys, key=lambda key: ranks.get(key[1], natural("")))
    else:
        order = sorted(keys, key=lambda key: natural(key[0]))
    by_place = {(c.strata, c.level): c for c in found}
    return [
        (
            label or "(empty)",
            [Bar(readable(s), by_place.get((s, level)), colour_of(i)) for i, s in enumerate(shown)],
        )
        for label, level in order[:MOST]
    ]


def _draw(
    drawing: Drawing, groups: Sequence[tuple[str, list[Bar]]], shown: Sequence[Strata]
) -> None:
    several = len(shown) > 1
    longest = max((_share(b.cell) for _, bars in groups for b in bars), default=0.0)
    limit = 100.0 if longest > 25 else max(10.0, longest * 1.2)
    thickness = THIN if several else THICK
    values = [_text(b.cell) for _, bars in groups for b in bars]
    right = max(map(text_width, values), default=0.0) + 10
    room = drawing.width - right
    y = 4.0
    for label, bars in groups:
        y += 14
        drawing.text(0, y, label, room=drawing.width if several else room)
        y += 6
        for bar in bars:
            _bar(drawing, bar, y, room, limit, thickness)
            y += thickness + 4
        y += 8
    if several:
        legend(drawing, 0, y + 14, [(readable(s), colour_of(i)) for i, s in enumerate(shown)])


def _bar(drawing: Drawing, bar: Bar, y: float, room: float, limit: float, thickness: float) -> None:
    text = _text(bar.cell)
    hover = f"{bar.label}: {text}"
    drawing.rect(0, y, room, thickness, fill="track", radius=2, hover=hover)
    if bar.cell is not None and number(bar.cell.text("count")) is None:
        drawing.hatched(0, y, 24, thickness, colour="soft", hover=hover)
    else:
        length = room * min(1.0, _share(bar.cell) / limit)
        drawing.rect(0, y, length, thickness, fill=bar.colour, radius=2, hover=hover)
    drawing.text(drawing.width, y + thickness, text, anchor="end", size=11.5)


def _share(cell: Cell | None) -> float:
    return (cell.number("percentage") or 0.0) if cell is not None else 0.0


def _text(cell: Cell | None) -> str:
    if cell is None:
        return "0"
    persons = numerals.count(cell.text("count"))
    if cell.number("percentage") is None or persons == "0":
        return persons
    return f"{persons} ({numerals.percent(cell.text('percentage'))} %)"


def _described(groups: Sequence[tuple[str, list[Bar]]]) -> str:
    return "; ".join(f"{label}: {_text(bars[0].cell)}" for label, bars in groups[:12]) + "."
