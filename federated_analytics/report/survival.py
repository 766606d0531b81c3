"""Survival curves as the rows hold them, and their table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from federated_analytics.report import numerals
from federated_analytics.report.cells import SITE, Cell, Strata, View, number, ordered, readable
from federated_analytics.report.tables import Column, Line, Table, lowered, site_name, sites_text

KIND = "survival"
YEAR = 365.25
LONG_DAYS = 1_090
"""From this horizon on, time is shown in years."""

DAY_STEPS = (1, 2, 5, 7, 14, 30, 60, 90, 180, 360)
MOST_LANDMARKS = 4


@dataclass(frozen=True)
class Curve:
    """One curve: of one event, in one stratum, of one site or pooled.

    Fields:
        whole: persons, events and the median
        points: cells of single days, in their order; empty where the curve is withheld
    """

    label: str
    whole: Cell
    points: tuple[Cell, ...]

    @cached_property
    def days(self) -> tuple[float, ...]:
        return tuple(day_of(cell) or 0.0 for cell in self.points)

    @property
    def grid_days(self) -> int:
        """Days of a step of the public grid; 0 where there are not two."""
        widths = Counter(round(b - a) for a, b in pairwise(self.days))
        return widths.most_common(1)[0][0] if widths else 0

    @property
    def horizon(self) -> float:
        return self.days[-1] if self.days else 0.0

    def at(self, day: float) -> Cell | None:
        """The last point of the grid up to a day."""
        passed = [cell for cell, own in zip(self.points, self.days, strict=True) if own <= day]
        return passed[-1] if passed else None

    def at_risk(self, day: float) -> str:
        """Persons who are followed beyond the grid's last point up to a day: "812".

        "≤812" where the number there is not told, since a site's joined steps reach across it.
        """
        if day <= 0:
            return numerals.count(self.whole.text("count"))
        passed = [cell for cell, own in zip(self.points, self.days, strict=True) if own <= day]
        for back, cell in enumerate(reversed(passed)):
            if cell.number("at_risk") is not None:
                return "≤" * bool(back) + numerals.count(cell.text("at_risk"))
        return f"≤{numerals.count(self.whole.text('count'))}"

    @cached_property
    def band(self) -> tuple[tuple[float, float], ...]:
        """The confidence interval at each point, falling as survival does.

        A limit from below of a later day holds on earlier ones too, and one from above of an
        earlier day on later ones; where an interval is not defined, it is the estimate.
        """
        lows, highs, last = [], [], 0.0
        for cell in reversed(self.points):
            value = cell.number(KIND) or 0.0
            low = cell.number("conf_low")
            last = max(last, value if low is None else low)
            lows.append(last)
        last = 1.0
        for cell in self.points:
            limits = (cell.number("conf_high"), cell.number(KIND))
            last = min(last, next((limit for limit in limits if limit is not None), last))
            highs.append(last)
        return tuple(zip(reversed(lows), highs, strict=True))

    @property
    def known(self) -> tuple[bool, ...]:
        """At which points a step ends at all sites, so that the number at risk is told."""
        return tuple(cell.number("at_risk") is not None for cell in self.points)

    @property
    def uncertainty(self) -> float:
        """How far the curve of the exact days may be from this one: a share of persons."""
        found = [0.0]
        for cell in self.points:
            value, low, high = (cell.number(n) for n in (KIND, "survival_lower", "survival_upper"))
            if value is not None and low is not None and high is not None:
                found += [value - low, high - value]
        return max(found)


def day_of(cell: Cell) -> float | None:
    """The day of a point; None in the cell of the whole curve."""
    return number(cell.additional.get("time_days", ""))


def curves(found: Sequence[Cell], strata: Sequence[Strata], by_site: bool = False) -> list[Curve]:
    """The curves that the cells of one event hold, in the order of the strata."""
    groups: dict[tuple[str, Strata], list[Cell]] = {}
    for cell in found:
        groups.setdefault((cell.site, cell.strata), []).append(cell)
    if by_site:
        return [_curve(site_name(site), here) for (site, own), here in groups.items() if not own]
    sites = list(dict.fromkeys(site for site, _ in groups))
    places = [(site, own) for own in strata for site in sites if (site, own) in groups]
    return [_curve(readable(place[1]), groups[place]) for place in places]


def _curve(label: str, here: Sequence[Cell]) -> Curve:
    points = sorted((c for c in here if day_of(c) is not None), key=lambda c: day_of(c) or 0.0)
    whole = next((cell for cell in here if day_of(cell) is None), here[0])
    return Curve(label, whole, tuple(points))


def ticks(horizon: float, most: int) -> list[float]:
    """Round times from 0 to the horizon, in days: whole years where it is long."""
    unit, steps = (YEAR, (1, 2, 5, 10, 20)) if horizon >= LONG_DAYS else (1.0, DAY_STEPS)
    # Five years of 365 days are a leap day short of five years.
    last = horizon * 1.002
    step = next((s for s in steps if int(last / (s * unit)) <= most), steps[-1])
    return [i * step * unit for i in range(int(last / (step * unit)) + 1)]


def time_text(day: float, horizon: float) -> str:
    """A tick's number, in the unit of the axis."""
    return f"{day / YEAR:.0f}" if horizon >= LONG_DAYS else f"{day:,.0f}"


def survival_tables(view: View, population: str) -> list[Table]:
    """For each survival analysis: persons, events, median and survival at some days."""
    found = view.own(KIND, site=view.main, population=population)
    several = f" – {population}" if len(view.populations) > 1 else ""
    tables = []
    for result_id in dict.fromkeys(cell.result_id for cell in found):
        here = [cell for cell in found if cell.result_id == result_id]
        title = view.result.settings[result_id].get("title") or "Survival"
        table = _table(view, here, f"{title}{several}")
        tables.append(replace(table, population=population, result_id=result_id))
    return tables


def _table(view: View, here: Sequence[Cell], title: str) -> Table:
    variables = list(dict.fromkeys(cell.variable for cell in here))
    by_variable = {
        name: curves(own, ordered(c.strata for c in own))
        for name in variables
        for own in [[cell for cell in here if cell.variable == name]]
    }
    longest = max((c for own in by_variable.values() for c in own), key=lambda c: c.horizon)
    days = landmarks(longest)
    lines: list[Line] = []
    for name, own in by_variable.items():
        lines.append(Line(view.label(name).label))
        lines += _lines(view, own, days)
    heads = [Column("Persons"), Column("Events"), Column("Median (days)")]
    heads += [Column(_landmark_text(day), "Without event, %") for day in days]
    fewer = [note for own in by_variable.values() if (note := _behind(view, own))]
    notes = (*_notes(lines), *fewer)
    return Table(title, "Event", tuple(heads), tuple(lines), notes)


def _behind(view: View, own: Sequence[Curve]) -> str:
    """Which curves rest on fewer sites than answered."""
    found = [f"{curve.label}: {text}" for curve in own if (text := sites_text(view, curve.whole))]
    event = lowered(view.label(own[0].whole.variable).label)
    return f"Sites behind {event}: {'; '.join(found)}." if found else ""


def _lines(view: View, own: Sequence[Curve], days: Sequence[float]) -> list[Line]:
    lines = []
    for curve in own:
        names = " and ".join(view.label(name).label for name, _ in curve.whole.strata)
        label = f"{names}: {curve.label}" if names else curve.label
        texts = [numerals.count(curve.whole.text(n)) for n in ("count", "count_events")]
        texts.append(median_text(curve.whole))
        texts += [percent_with_interval(curve.at(day), curve.whole) for day in days]
        lines.append(Line(label, tuple(texts), indent=1, strong=not curve.whole.strata))
    return lines


def _notes(lines: Sequence[Line]) -> tuple[str, ...]:
    texts = [text for line in lines for text in line.cells]
    notes = ["In parentheses: 95 % confidence intervals."]
    if any("[" in text for text in texts):
        notes.append("In brackets: the days between which the median of the exact days lies.")
    if any(text == NOT_REACHED for text in texts):
        notes.append(f"{NOT_REACHED}: not reached; more than half are without event to the end.")
    if any(text.startswith("<") or text == numerals.WITHHELD for text in texts):
        notes.append(f"<5 and the like, {numerals.WITHHELD}: withheld.")
    return tuple(notes)


NOT_REACHED = "NR"


def median_text(whole: Cell) -> str:
    """ "812", or "812 [790–840]" with the bounds of the exact days' median."""
    names = ("median_survival", "median_survival_lower", "median_survival_upper")
    median, low, high = (whole.number(name) for name in names)
    if median is None:
        withheld = whole.text(names[0]) == "-"
        return numerals.WITHHELD if withheld else NOT_REACHED
    if low is None or high is None or (low == median == high):
        return f"{median:,.0f}" if high is not None else f"{median:,.0f} [from {low or 0:,.0f}]"
    return f"{median:,.0f} [{low:,.0f}–{high:,.0f}]"


def percent_with_interval(point: Cell | None, whole: Cell) -> str:
    """ "84.2 (83.1–85.3)": percent without event."""
    if point is None:
        return numerals.WITHHELD if whole.text("median_survival") == "-" else numerals.UNDEFINED
    value, low, high = (point.number(n) for n in (KIND, "conf_low", "conf_high"))
    if value is None:
        return numerals.WITHHELD
    if low is None or high is None:
        return f"{100 * value:.1f}"
    return f"{100 * value:.1f} ({100 * low:.1f}–{100 * high:.1f})"


def landmarks(curve: Curve) -> list[float]:
    """A few days of the grid at which a table shows the curve, the last near the horizon."""
    if not curve.points:
        return []
    rounds = [t for t in ticks(curve.horizon, 6) if t > 0] or [curve.horizon]
    while len(rounds) > MOST_LANDMARKS:
        rounds = rounds[len(rounds) % 2 == 0 :: 2]
    found = [curve.at(day) for day in rounds]
    return list(dict.fromkeys(day_of(cell) or 0.0 for cell in found if cell is not None))


def _landmark_text(day: float) -> str:
    years = round(day / YEAR)
    if years and abs(day - years * YEAR) <= 2:
        return f"{years} year" + "s" * (years > 1)
    return f"Day {day:,.0f}"


def event_text(view: View, name: str) -> str:
    """What a curve shows: "Survival" of death, else "Without heart failure"."""
    return "Survival" if name == "death" else f"Without {lowered(view.label(name).label)}"


def strata_of_interest(found: Sequence[Cell]) -> list[tuple[str, ...]]:
    """Names of the strata by which there are curves: none, each alone, crossed; not the site."""
    names = dict.fromkeys(tuple(n for n, _ in cell.strata) for cell in found)
    return sorted((by for by in names if SITE not in by), key=len)
