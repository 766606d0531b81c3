"""What the report's page shows, gathered from the result; `html` renders it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from federated_analytics.report import numerals
from federated_analytics.report.cells import Cell, View, number, stratum_names
from federated_analytics.report.chapters import Block, Chapter, chapters_of, figures_of
from federated_analytics.report.figures import Asked
from federated_analytics.report.methods import Paragraph, cited, paragraphs, readable_time
from federated_analytics.report.regression import INTERCEPT
from federated_analytics.report.regression import KIND as REGRESSION
from federated_analytics.report.result import POOLED, Result
from federated_analytics.report.site_tables import attrition, privacy_budget, status, suppression
from federated_analytics.report.tables import Table, lowered


@dataclass(frozen=True)
class SiteCard:
    name: str
    status: str
    badge: str
    numbers: str
    why: str
    code: str
    note: str


@dataclass(frozen=True)
class Page:
    """Texts are as the study and the sites wrote them: the template escapes them."""

    title: str
    description: str
    synthetic: bool
    facts: tuple[tuple[str, str], ...]
    asked: tuple[tuple[str, str], ...]
    attrition: tuple[Block, ...]
    sites: tuple[SiteCard, ...]
    budget: Table | None
    chapters: tuple[Chapter, ...]
    withheld: Table | None
    withheld_text: str
    methods: tuple[Paragraph, ...]
    references: tuple[str, ...]
    study_toml: str
    rows: str
    footer: str
    csv: str = field(default="", repr=False)


def page_of(result: Result, csv: str = "") -> Page:
    """The page of a result.

    Args:
        csv: a data: link to the CSV; "" leaves the download out.
    """
    view = View(result)
    methods = paragraphs(view)
    withheld = suppression(view)
    budget = privacy_budget(view)
    return Page(
        title=result.setting("study") or "Federated analytics report",
        description=result.setting("description"),
        synthetic=result.setting("synthetic") == "true",
        facts=tuple(_facts(view)),
        asked=tuple(_asked(view)),
        attrition=tuple(_attrition(view)),
        sites=tuple(_site_cards(view)),
        budget=budget if budget.lines else None,
        chapters=tuple(chapters_of(view)),
        withheld=withheld if withheld.lines else None,
        withheld_text=_withheld_text(view, withheld),
        methods=tuple(methods),
        references=tuple(cited(methods)),
        study_toml=result.study_toml,
        rows=f"{len(result.rows):,}",
        footer=f"federated_analytics {result.setting('package_version')}".strip(),
        csv=csv,
    )


def population_sizes(view: View) -> dict[str, str]:
    """Persons of each population as text; from a summary where nobody asked for counts."""
    sizes: dict[str, str] = {}
    for name in view.populations:
        found = view.at("counts", site=view.main, population=name, variable="persons")
        if found:
            sizes[name] = numerals.count(found[0].text("count"))
            continue
        for variable in view.variables("summary"):
            for cell in view.at("summary", site=view.main, population=name, variable=variable):
                parts = cell.number("count"), cell.number("count_missing")
                if parts[0] is not None and parts[1] is not None:
                    sizes.setdefault(name, f"{parts[0] + parts[1]:,.0f}")
    return sizes


def _facts(view: View) -> list[tuple[str, str]]:
    sizes = population_sizes(view)
    facts = [
        ("Persons" if len(sizes) == 1 else f"Persons: {name}", size)
        for name, size in list(sizes.items())[:3]
    ]
    asked = view.of("participation")
    if asked:
        answered = sum(status(cell) == "answered" for cell in asked)
        facts.append(("Sites that answered", f"{answered} of {len(asked)}"))
    for name, label, show in (
        ("rounds", "Rounds", numerals.count),
        ("elapsed_seconds", "Elapsed", numerals.seconds),
        ("bytes", "Sent and received", numerals.size),
    ):
        if text := view.result.setting(name):
            facts.append((label, show(text)))
    return facts


def _asked(view: View) -> list[tuple[str, str]]:
    result = view.result
    rows = [("Population" + "s" * (len(view.populations) > 1), "; ".join(view.populations))]
    for result_id, values in sorted(result.settings.items()):
        kind = values.get("result_type", "")
        if kind in ("participation", "suppression"):
            continue
        name = kind.replace("_", " ")
        title = values.get("title") or name[:1].upper() + name[1:]
        rows.append(
            (title, _question(view, [c for c in view.of(kind) if c.result_id == result_id]))
        )
    rows.append(("Started", readable_time(result.setting("started"))))
    return [(name, text) for name, text in rows if text]


def _question(view: View, cells: Sequence[Cell]) -> str:
    """What one analysis asked: "age, body mass index; by sex and age group"."""
    kinds = {view.result.result_type(c.result_id) for c in cells}
    if kinds == {"top_concepts"}:
        names = list(dict.fromkeys(c.additional.get("domain", "concept") for c in cells))
    elif kinds == {"counts"}:
        names = ["persons"]
    elif kinds == {REGRESSION}:
        names = [_regression_question(view, cells)]
    else:
        names = [lowered(view.label(n).label) for n in dict.fromkeys(c.variable for c in cells)]
    strata = [lowered(view.label(n).label) for n in dict.fromkeys(_strata(cells))]
    text = ", ".join(names[:40]) + (" …" if len(names) > 40 else "")
    return f"{text}; by {' and '.join(strata)}" if strata else text


def _regression_question(view: View, cells: Sequence[Cell]) -> str:
    """ "systolic blood pressure on age, sex"."""
    outcome = next((c.variable for c in cells if "r_squared" in c.estimates), "")
    rest = (c.variable for c in cells if c.variable not in (outcome, INTERCEPT))
    covariates = [lowered(view.label(name).label) for name in dict.fromkeys(rest)]
    return f"{lowered(view.label(outcome).label)} on {', '.join(covariates)}"


def _strata(cells: Sequence[Cell]) -> list[str]:
    return [name for cell in cells for name in stratum_names(cell)]


def _attrition(view: View) -> list[Block]:
    blocks = []
    for population in view.populations:
        table = attrition(view, population)
        if table.lines:
            for drawn in figures_of(view, "attrition", [Asked("", population, view.main)]):
                several = len(view.populations) > 1
                title = population if several else "Attrition"
                blocks.append(Block(figure=replace(drawn, title=title)))
            blocks.append(Block(table=table, folded="The same at each site"))
    return blocks


def _site_cards(view: View) -> list[SiteCard]:
    cards = []
    for cell in view.of("participation"):
        numbers = [
            f"{numerals.count(cell.text('persons'))} persons" if cell.text("persons") else "",
            numerals.seconds(cell.text("seconds")) if cell.text("seconds") else "",
            f"{numerals.size(cell.text('bytes_received'))} received"
            if number(cell.text("bytes_received"))
            else "",
        ]
        badge = cell.text("status")
        cards.append(
            SiteCard(
                name=cell.site,
                status=status(cell),
                badge=badge if badge in ("answered", "refused") else "failed",
                numbers=" · ".join(n for n in numbers if n),
                why=" ".join(cell.text(n) for n in ("message", "remedy") if cell.text(n)),
                code=cell.text("code"),
                note=cell.text("note"),
            )
        )
    return cards


def _withheld_text(view: View, withheld: Table) -> str:
    threshold = view.result.setting("min_cell_count", "0")
    if not withheld.lines:
        if not any(cell.site == POOLED for cell in view.answers):
            return "There is nothing to withhold: no site answered."
        return "No site withheld a number."
    numbers = sum(cell.number("count_suppressed") or 0 for cell in view.of("suppression"))
    noun = "number" if numbers == 1 else "numbers"
    return (
        f"The sites withheld {numbers:,.0f} {noun}. A count that rests on 1 to "
        f"{max(1, int(number(threshold) or 1) - 1)} persons is shown as <{threshold} "
        "(in pooled counts the bounds of the sites add up), and what rests on it as –. "
        "A pooled number leaves out the sites that withheld their part of it."
    )
