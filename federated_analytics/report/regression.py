"""Fitted regressions as the rows hold them, and their tables of coefficients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from federated_analytics.report import numerals
from federated_analytics.report.cells import SITE, Cell, Strata, View, ordered, readable
from federated_analytics.report.tables import Column, Line, Table, lowered, sites_text

KIND = "linear_regression"
INTERCEPT = "(intercept)"
INTERVAL = ("coefficient", "conf_low", "conf_high")


@dataclass(frozen=True)
class Model:
    """One regression: of one outcome, in one stratum, of one site or pooled.

    Fields:
        fit: of the outcome: persons, persons left out, R² and the residual's SD
        coefficients: a cell each, the intercept first
    """

    fit: Cell
    coefficients: tuple[Cell, ...]

    @property
    def outcome(self) -> str:
        return self.fit.variable

    def of(self, variable: str, level: str) -> Cell | None:
        """The coefficient of a column."""
        return next(
            (c for c in self.coefficients if (c.variable, c.level) == (variable, level)), None
        )


def models(found: Iterable[Cell]) -> list[Model]:
    """The regressions that the cells hold, in the order of their strata."""
    groups: dict[tuple[int, str, Strata], list[Cell]] = {}
    for cell in found:
        groups.setdefault((cell.result_id, cell.site, cell.strata), []).append(cell)
    order = {strata: i for i, strata in enumerate(ordered(place[2] for place in groups))}
    fitted = []
    for place in sorted(groups, key=lambda place: order[place[2]]):
        here = groups[place]
        fit = next((c for c in here if "r_squared" in c.estimates), None)
        if fit is not None:
            rows = tuple(c for c in here if "coefficient" in c.estimates)
            fitted.append(Model(fit, rows))
    return fitted


def regression_tables(view: View, population: str) -> list[Table]:
    """For each regression the overall coefficients, and one beside the other by stratum."""
    found = view.own(KIND, site=view.main, population=population)
    tables: list[Table] = []
    for result_id in dict.fromkeys(cell.result_id for cell in found):
        every = models(cell for cell in found if cell.result_id == result_id)
        names = dict.fromkeys(tuple(n for n, _ in model.fit.strata) for model in every)
        for by in names:
            if SITE in by:
                continue
            group = [m for m in every if tuple(n for n, _ in m.fit.strata) == by]
            table = _by_strata(view, group, by) if by else coefficient_table(view, group[0])
            tables.append(replace(table, population=population, main=not by, result_id=result_id))
    return tables


def coefficient_table(view: View, model: Model) -> Table:
    """Coefficient, standard error, 95 % interval and p value, as a paper prints them."""
    lines: list[Line] = []
    for label, indent, cell in _places(view, model):
        if cell is None:
            lines.append(Line(label))
            continue
        digits = digits_of(cell)
        texts = [_rounded(cell.text(name), digits) for name in ("coefficient", "se")]
        lines.append(Line(label, (*texts, interval_text(cell, digits), p_text(cell)), indent))
    heads = tuple(map(Column, ("Coefficient", "SE", "95 % CI", "p")))
    return Table(
        title_of(view, model), "Covariate", heads, tuple(lines), _notes(view, model, lines)
    )


def _by_strata(view: View, group: Sequence[Model], by: Sequence[str]) -> Table:
    lines: list[Line] = []
    for label, indent, cell in _places(view, group[0]):
        if cell is None:
            lines.append(Line(label))
            continue
        own = [model.of(cell.variable, cell.level) for model in group]
        texts = [text for c in own for text in (estimate_text(c), p_text(c))]
        lines.append(Line(label, tuple(texts), indent))
    for label, name in (("Persons, n", "count"), ("R²", "r_squared")):
        show = numerals.count if name == "count" else (lambda text: numerals.decimal(text, 3))
        texts = [text for model in group for text in (show(model.fit.text(name)), "")]
        lines.append(Line(label, tuple(texts), strong=True))
    heads = [
        Column(name, readable(model.fit.strata))
        for model in group
        for name in ("Coefficient (95 % CI)", "p")
    ]
    names = " and ".join(lowered(view.label(name).label) for name in by)
    given = view.result.settings[group[0].fit.result_id].get("title")
    title = f"{title_of(view, group[0])}{',' * bool(given)} by {names}"
    return Table(title, "Covariate", tuple(heads), tuple(lines), _reading(lines))


def _places(view: View, model: Model) -> Iterable[tuple[str, int, Cell | None]]:
    """Label, indent and cell of each line; the cell is None over a category's levels."""
    heading = ""
    for cell in model.coefficients:
        label = view.label(cell.variable)
        if cell.variable == INTERCEPT:
            yield "Intercept", 0, cell
        elif not cell.level:
            yield label_of(view, cell), 0, cell
        elif is_yes_no(cell):
            yield label.label, 0, cell
        else:
            if heading != cell.variable:
                yield f"{label.label} (reference: {_reference(cell)})", 0, None
            yield cell.level, 1, cell
        heading = cell.variable


def is_yes_no(cell: Cell) -> bool:
    """Whether a coefficient is of a yes/no feature, so that its level says nothing more."""
    return (cell.level, _reference(cell)) in (("Yes", "No"), ("Yes", ""))


def _reference(cell: Cell) -> str:
    return cell.additional.get("reference", "")


def label_of(view: View, cell: Cell, factor: int = 1) -> str:
    """A coefficient in one line: "Age (per 10 years)", "Sex: Male", "Hypertension"."""
    label = view.label(cell.variable)
    if cell.variable == INTERCEPT:
        return "Intercept"
    if cell.level:
        return label.label if is_yes_no(cell) else f"{label.label}: {cell.level}"
    unit = label.shown_unit
    if factor > 1:
        return f"{label.label} (per {factor:,} {unit}".rstrip() + ")"
    # A word in the plural, such as years; no symbol of a unit is that long and ends in s.
    one = unit[:-1] if unit.isalpha() and len(unit) > 3 and unit.endswith("s") else unit
    return f"{label.label} (per {one or 1})"


def title_of(view: View, model: Model) -> str:
    """ "Linear regression of systolic blood pressure", or the analysis's own title."""
    given = view.result.settings[model.fit.result_id].get("title")
    label = lowered(view.label(model.outcome).label)
    several = f" – {model.fit.population}" if len(view.populations) > 1 else ""
    return f"{given or f'Linear regression of {label}'}{several}"


def digits_of(cell: Cell, factor: int = 1) -> int:
    """Decimals that show two digits of the standard error."""
    error = cell.number("se") or abs(cell.number("coefficient") or 0.0)
    return max(0, min(8, 1 - math.floor(math.log10(error * factor)))) if error else 2


def _rounded(text: str, digits: int) -> str:
    """To the decimals of the standard error, also where nothing but zeros is left."""
    if numerals.placeholder(text) is not None:
        return numerals.decimal(text, digits)
    return f"{round(float(text), digits) + 0.0:,.{digits}f}".replace("-", "−")


def interval_text(cell: Cell, digits: int) -> str:
    """ "0.21 to 0.34"."""
    low, high = (_rounded(cell.text(name), digits) for name in INTERVAL[1:])
    return low if cell.number("conf_low") is None else f"{low} to {high}"


def estimate_text(cell: Cell | None, factor: int = 1) -> str:
    """ "0.28 (0.21 to 0.34)", of `factor` units of the covariate."""
    if cell is None:
        return ""
    digits = digits_of(cell, factor)
    texts = []
    for name in INTERVAL:
        number = cell.number(name)
        text = cell.text(name) if number is None else repr(number * factor)
        texts.append(_rounded(text, digits))
    value, low, high = texts
    return value if cell.number("conf_low") is None else f"{value} ({low} to {high})"


def p_text(cell: Cell | None) -> str:
    """ "0.43", "0.012", "<0.001"."""
    if cell is None:
        return ""
    p = cell.number("p_value")
    if p is None:
        return numerals.placeholder(cell.text("p_value")) or numerals.WITHHELD
    if p < 0.001:
        return "<0.001"
    return f"{p:.2f}" if p >= 0.0995 else f"{p:.3f}"


def _notes(view: View, model: Model, lines: Sequence[Line]) -> tuple[str, ...]:
    fit, outcome = model.fit, view.label(model.outcome)
    texts = [
        f"Outcome: {outcome.axis}.",
        f"Persons: {numerals.count(fit.text('count'))}",
    ]
    if fit.text("count_missing"):
        gone = numerals.count(fit.text("count_missing"))
        texts[-1] += f" (left out for a missing value: {gone})"
    texts[-1] += "."
    if behind := sites_text(view, fit):
        texts.append(f"Sites behind it: {behind}.")
    if fit.number("r_squared") is not None:
        r, adjusted = (
            numerals.decimal(fit.text(n), 3) for n in ("r_squared", "adjusted_r_squared")
        )
        sd = numerals.decimal(fit.text("residual_sd"), significant(fit.number("residual_sd")))
        unit = f" {outcome.shown_unit}" if outcome.shown_unit else ""
        texts.append(f"R² {r} (adjusted {adjusted}); SD of the residuals {sd}{unit}.")
    return (" ".join(texts), *_reading(lines))


def significant(value: float | None) -> int:
    """Decimals that show three digits."""
    return max(0, min(8, 2 - math.floor(math.log10(value)))) if value else 2


def _reading(lines: Sequence[Line]) -> tuple[str, ...]:
    texts = {text for line in lines for text in line.cells}
    notes = []
    if numerals.WITHHELD in texts:
        notes.append(f"{numerals.WITHHELD}: withheld.")
    if numerals.UNDEFINED in texts:
        notes.append(
            f"{numerals.UNDEFINED}: the covariate is constant or follows from those before it."
        )
    return tuple(notes)
