"""The chapters of results: tables and figures for each population."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from federated_analytics.errors import FormatError
from federated_analytics.report.cells import SITE, View, stratum_names
from federated_analytics.report.figures import KINDS, Asked, Figure
from federated_analytics.report.regression import KIND as REGRESSION
from federated_analytics.report.regression import models, regression_tables
from federated_analytics.report.site_tables import per_site
from federated_analytics.report.survival import KIND as SURVIVAL
from federated_analytics.report.survival import strata_of_interest, survival_tables
from federated_analytics.report.tables import Table, is_yes_no, lowered, table_ones

DESK, PHONE = 810.0, 330.0
MOST_FIGURES = 24
"""Figures of a kind that a chapter shows, so that the page stays light."""


@dataclass(frozen=True)
class Drawn:
    """A figure at two widths."""

    title: str
    desk: Figure
    phone: Figure


@dataclass(frozen=True)
class Block:
    """A table or a figure; behind a summary where `folded` gives its text."""

    table: Table | None = None
    figure: Drawn | None = None
    folded: str = ""


@dataclass(frozen=True)
class Part:
    title: str
    blocks: tuple[Block, ...]
    more: str = ""


@dataclass(frozen=True)
class Chapter:
    title: str
    parts: tuple[Part, ...]


def chapters_of(view: View) -> list[Chapter]:
    """A chapter that compares the populations where there are several, and one for each."""
    tables = table_ones(view)
    chapters = []
    populations = view.populations
    if len(populations) > 1:
        first = [Block(table=t) for t in tables if t.population == ""]
        if first:
            chapters.append(Chapter("Populations compared", (Part("", tuple(first)),)))
    for population in populations:
        blocks = [
            Block(table=t, folded="" if t.main else t.title)
            for t in tables
            if t.population == population
        ]
        parts = [Part("", tuple(blocks)) if blocks else None]
        parts += [make(view, population) for make in _PARTS]
        shown = tuple(part for part in parts if part is not None and part.blocks)
        if shown:
            chapters.append(Chapter(population, shown))
    return chapters


def _distributions(view: View, population: str) -> Part:
    names = view.variables("histogram", "quantiles")
    blocks: list[Block] = []
    for name in names[:MOST_FIGURES]:
        found = view.own("histogram", site=view.main, population=population)
        own = [c for c in found if c.variable == name]
        groups = dict.fromkeys((c.result_id, stratum_names(c)) for c in own)
        for result_id, by in groups:
            if SITE in by:
                continue
            asked = Asked(name, population, view.main, by, result_id=result_id)
            folded = f"By {_listed(view, by)}"
            for drawn in figures_of(view, "histogram", [asked]):
                blocks.append(Block(figure=drawn, folded=folded if len(by) > 1 else ""))
        boxes = Asked(name, population, view.main, _single(view, population))
        blocks += [Block(figure=drawn) for drawn in figures_of(view, "box", [boxes])]
    return Part("Distributions", tuple(blocks), _more(names, population))


def _categories(view: View, population: str) -> Part:
    names = [name for name in view.variables("frequencies") if not is_yes_no(view, name)]
    asked = [Asked(name, population, view.main) for name in names[:MOST_FIGURES]]
    prevalence = figures_of(view, "prevalence", [Asked("", population, view.main)])
    blocks = [Block(figure=drawn) for drawn in (*prevalence, *figures_of(view, "bars", asked))]
    return Part("Categories", tuple(blocks), _more(names, population))


def _concepts(view: View, population: str) -> Part:
    blocks = []
    for result_id in view.result.ids("top_concepts"):
        asked = Asked("", population, view.main, result_id=result_id)
        cells = [c for c in view.of("top_concepts") if c.result_id == result_id]
        domain = next((c.additional.get("domain", "") for c in cells), "")
        title = view.result.settings[result_id].get("title") or f"Domain: {domain}"
        for drawn in figures_of(view, "bars", [asked]):
            blocks.append(Block(figure=replace(drawn, title=title)))
    return Part("Most frequent concepts", tuple(blocks))


def _survival(view: View, population: str) -> Part:
    found = view.own(SURVIVAL, site=view.main, population=population)
    places = list(dict.fromkeys((cell.result_id, cell.variable) for cell in found))
    blocks = []
    for table in survival_tables(view, population):
        blocks.append(Block(table=table))
        names = [name for result_id, name in places[:MOST_FIGURES] if result_id == table.result_id]
        for name in names:
            here = [c for c in found if (c.result_id, c.variable) == (table.result_id, name)]
            for by in strata_of_interest(here):
                asked = Asked(name, population, view.main, by, result_id=table.result_id)
                folded = f"By {_listed(view, by)}" if len(by) > 1 else ""
                drawn = figures_of(view, "survival", [asked])
                blocks += [Block(figure=figure, folded=folded) for figure in drawn]
    return Part("Time to event", tuple(blocks), _more([name for _, name in places], population))


def _regression(view: View, population: str) -> Part:
    found = view.own(REGRESSION, site=view.main, population=population)
    tables = regression_tables(view, population)
    blocks: list[Block] = []
    for result_id in dict.fromkeys(cell.result_id for cell in found):
        fitted = models(cell for cell in found if cell.result_id == result_id)
        own = [table for table in tables if table.result_id == result_id]
        blocks += [Block(table=table) for table in own if table.main]
        for by in dict.fromkeys(tuple(n for n, _ in model.fit.strata) for model in fitted):
            if SITE in by:
                continue
            asked = Asked(fitted[0].outcome, population, view.main, by, result_id=result_id)
            folded = f"Coefficients by {_listed(view, by)}, as a figure" if by else ""
            drawn = figures_of(view, "coefficients", [asked])
            blocks += [Block(figure=figure, folded=folded) for figure in drawn]
        blocks += [Block(table=table, folded=table.title) for table in own if not table.main]
    return Part("Regression", tuple(blocks))


def _listed(view: View, by: Sequence[str]) -> str:
    return " and ".join(lowered(view.label(name).label) for name in by)


def _sites(view: View, population: str) -> Part | None:
    if not view.shown_sites():
        return None
    names = view.variables("summary")
    asked = [Asked(name, population, view.main) for name in names[:MOST_FIGURES]]
    blocks = [Block(figure=drawn) for drawn in figures_of(view, "forest", asked)]
    for kind, result_type in (("survival", SURVIVAL), ("coefficients", REGRESSION)):
        blocks += [Block(figure=drawn) for drawn in _by_site(view, population, kind, result_type)]
    table = per_site(view, population)
    blocks += [Block(table=table)] if table.lines else []
    return Part("Site by site", tuple(blocks), _more(names, population))


def _by_site(view: View, population: str, kind: str, result_type: str) -> list[Drawn]:
    """Each site's own survival curve, or coefficients, beside the pooled ones."""
    found = view.own(result_type, site=view.main, population=population)
    whole = {(c.result_id, c.variable): c for c in found if not c.strata}
    if result_type == REGRESSION:
        fitted = models(whole.values())
        whole = {(model.fit.result_id, model.outcome): model.fit for model in fitted}
    asked = [
        Asked(name, population, view.main, (SITE,), result_id=result_id)
        for result_id, name in list(whole)[:MOST_FIGURES]
    ]
    return figures_of(view, kind, asked)


def _coverage(view: View, population: str) -> Part:
    drawn = figures_of(view, "coverage", [Asked("", population, view.main)])
    return Part("Coverage", tuple(Block(figure=replace(d, title="")) for d in drawn))


_PARTS: tuple[Callable[[View, str], Part | None], ...] = (
    _distributions,
    _categories,
    _concepts,
    _survival,
    _regression,
    _sites,
    _coverage,
)


def figures_of(view: View, kind: str, asked: Sequence[Asked]) -> list[Drawn]:
    """The figures that the rows can answer, at two widths."""
    found = []
    for one in asked:
        try:
            desk, phone = (KINDS[kind](view, replace(one, width=width)) for width in (DESK, PHONE))
        except FormatError:
            continue
        found.append(Drawn(desk.title.removesuffix(f" – {one.population}"), desk, phone))
    return found


def _single(view: View, population: str) -> tuple[str, ...]:
    """Strata by which quantiles are split, one at a time."""
    own = view.own("quantiles", site=view.main, population=population)
    found = [stratum_names(c) for c in own]
    return tuple(dict.fromkeys(g[0] for g in found if len(g) == 1 and g != (SITE,)))


def _more(names: Sequence[str], population: str) -> str:
    if len(names) <= MOST_FIGURES:
        return ""
    return (
        f"Figures of the first {MOST_FIGURES} of {len(names)} features are shown. "
        f'The others: result.plot("{names[MOST_FIGURES]}", population="{population}").'
    )
