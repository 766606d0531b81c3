"""Tables about the sites: who took part, what each found, what each withheld, attrition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from federated_analytics.report import numerals
from federated_analytics.report.cells import Cell, View
from federated_analytics.report.result import POOLED
from federated_analytics.report.tables import (
    NUMERIC,
    Column,
    Line,
    Table,
    digits_for,
    mean_interval,
    mean_sd,
    median_iqr,
    missing,
    n_percent,
    site_name,
)


def per_site(view: View, population: str) -> Table:
    """Each site's overall numbers under the pooled ones, feature by feature."""
    shown = (POOLED, *view.shown_sites())
    lines: list[Line] = []
    for name in view.variables(*NUMERIC):
        digits = digits_for(view, name)
        at = {s: view.at(*NUMERIC, site=s, population=population, variable=name) for s in shown}
        if any(at.values()):
            lines.append(Line(view.label(name).axis))
        for site, here in at.items():
            if here:
                texts = _site_cells(here, digits)
                lines.append(Line(site_name(site), texts, indent=1, strong=site == POOLED))
    names = ("Persons", "Mean (SD)", "95 % CI of the mean", "Median [IQR]", "Missing, n (%)")
    columns = tuple(Column(name) for name in names)
    title = "Site by site" + (f" – {population}" if len(view.populations) > 1 else "")
    return Table(title, "Site", columns, tuple(lines))


def attrition(view: View, population: str) -> Table:
    """How many persons each step of a population's definition left, pooled and at each site."""
    found = [c for c in view.of("counts") if c.variable == "attrition"]
    found = [c for c in found if c.population == population]
    sites = list(dict.fromkeys(cell.site for cell in found))
    steps = dict.fromkeys((c.additional.get("step", ""), c.level) for c in found)
    by_place = {(c.site, c.additional.get("step", ""), c.level): c for c in found}
    lines = []
    for step, level in steps:
        here = [by_place.get((site, step, level)) for site in sites]
        lines.append(Line(level, tuple(n_percent(cell) for cell in here)))
    columns = tuple(Column(site_name(site)) for site in sites)
    return Table(
        f"Attrition – {population}", "Step", columns, tuple(lines), ("n (% of the first step).",)
    )


_REMARKS = ("code", "message", "remedy", "note")


def participation(view: View) -> Table:
    """Which sites answered, which did not, and why."""
    lines = []
    for cell in view.of("participation"):
        note = " ".join(cell.text(name) for name in _REMARKS if cell.text(name))
        lines.append(
            Line(
                cell.site,
                (
                    status(cell),
                    numerals.seconds(cell.text("seconds")) if cell.text("seconds") else "",
                    numerals.size(cell.text("bytes_received"))
                    if cell.text("bytes_received")
                    else "",
                    note,
                ),
            )
        )
    columns = tuple(Column(name) for name in ("Status", "Time", "Received", "Remark"))
    return Table("Participation", "Site", columns, tuple(lines), text_columns=frozenset({0, 3}))


def privacy_budget(view: View) -> Table:
    """What the study cost of the analyst's budget at each site with noise, and what is left."""
    lines = []
    delta = view.result.setting("delta")
    for cell in view.of("participation"):
        if not cell.text("epsilon_charged"):
            continue
        charged, left = cell.number("epsilon_charged"), cell.number("epsilon_remaining")
        days = numerals.count(cell.text("budget_days")) if cell.text("budget_days") else ""
        texts = (
            _epsilon(charged),
            _epsilon(left),
            _epsilon(cell.number("epsilon_budget")),
            numerals.power(cell.text("delta") or delta),
            f"{days} days" if days else numerals.WITHHELD,
        )
        lines.append(Line(cell.site, texts))
    names = ("ε charged", "ε remaining", "ε in all", "δ", "Period")
    told = [i for i in range(len(names)) if any(x.cells[i] != numerals.WITHHELD for x in lines)]
    lines = [replace(line, cells=tuple(line.cells[i] for i in told)) for line in lines]
    return Table(
        "Privacy budget",
        "Site",
        tuple(Column(names[i]) for i in told),
        tuple(lines),
        (BUDGET_NOTE,),
    )


BUDGET_NOTE = (
    "Of the analyst who asked, at each site. Losses add up as zero-concentrated privacy: "
    "several charges together take less than the sum of their ε. An answer that was given before "
    "costs nothing; a question that needs more than what remains is refused until earlier charges "
    "are older than the period."
)


def _epsilon(value: float | None) -> str:
    return numerals.WITHHELD if value is None else f"{value:.3g}"


def suppression(view: View) -> Table:
    """How many numbers each site withheld, where and by which rule."""
    lines = []
    for cell in view.of("suppression"):
        lines.append(
            Line(
                cell.site,
                (
                    cell.additional.get("population", ""),
                    cell.additional.get("analysis", "").replace("_", " "),
                    view.label(cell.variable).label,
                    numerals.count(cell.text("count_suppressed")),
                    cell.additional.get("rule", "").replace("_", " "),
                    cell.text("reason"),
                ),
            )
        )
    names = ("Population", "Analysis", "Feature", "Numbers withheld", "Rule", "Why")
    columns = tuple(Column(name) for name in names)
    return Table("Withheld", "Site", columns, tuple(lines), text_columns=frozenset({0, 1, 2, 4, 5}))


def withheld(view: View) -> Table:
    """How many numbers each site withheld in all, by rule: a terminal's short form."""
    counts: dict[tuple[str, str, str], int] = {}
    for cell in view.of("suppression"):
        place = (cell.site, cell.additional.get("rule", ""), cell.text("reason"))
        counts[place] = counts.get(place, 0) + int(cell.text("count_suppressed") or 0)
    lines = tuple(
        Line(site, (f"{count:,}", rule, why)) for (site, rule, why), count in counts.items()
    )
    columns = tuple(Column(name) for name in ("Numbers withheld", "Rule", "Why"))
    note = ("report.html lists them by analysis and feature.",)
    return Table("Withheld", "Site", columns, lines, note, text_columns=frozenset({1, 2}))


def status(cell: Cell) -> str:
    """A site's status in words: "answered", "no answer" …"""
    return cell.text("status").replace("_", " ") or "unknown"


def _site_cells(here: Sequence[Cell], digits: int) -> tuple[str, ...]:
    n = next((cell.text("count") for cell in here if cell.text("count")), "")
    interval = mean_interval(here, digits)
    return (
        numerals.count(n) if n else "",
        mean_sd(here, digits),
        interval,
        median_iqr(here, digits),
        missing(here),
    )
