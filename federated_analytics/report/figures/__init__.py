"""Figures of a result, each a self-contained SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from federated_analytics.errors import FormatError, did_you_mean
from federated_analytics.report.cells import View
from federated_analytics.report.figures import (
    bars,
    box,
    coefficients,
    coverage,
    flow,
    forest,
    histogram,
    survival,
)
from federated_analytics.report.figures.place import Asked
from federated_analytics.report.figures.svg import Figure
from federated_analytics.report.result import Result

KINDS: Mapping[str, Callable[[View, Asked], Figure]] = {
    "histogram": histogram.figure,
    "box": box.figure,
    "forest": forest.figure,
    "survival": survival.figure,
    "coefficients": coefficients.figure,
    "bars": bars.figure,
    "prevalence": bars.prevalence,
    "coverage": coverage.figure,
    "attrition": flow.figure,
}
WITHOUT_VARIABLE = ("survival", "coefficients", "bars", "prevalence", "coverage", "attrition")


def plot(
    result: Result,
    variable: str = "",
    kind: str = "",
    by: tuple[str, ...] = (),
    *,
    population: str = "",
    site: str = "",
    result_id: int | None = None,
    width: float = 720.0,
) -> Figure:
    """A figure of a result.

    Args:
        variable: a feature: an event in survival curves, the outcome in coefficients; left out
            for coverage, attrition, prevalence and top concepts.
        kind: one of `KINDS`; the first that the rows can answer where left out.
        by: strata whose levels are shown beside each other; ("site",) in box plots,
            survival curves and coefficients.
        population: the first one where left out.
        site: pooled where left out.
        result_id: the analysis; the first that can answer where left out.
        width: pixels.

    Raises:
        FormatError: an unknown kind or variable, or no rows for such a figure.
    """
    view = View(result)
    if kind and kind not in KINDS:
        raise FormatError(
            f"There is no figure {kind!r}.",
            where="kind",
            remedy=did_you_mean(kind, KINDS) or f"There are: {', '.join(KINDS)}.",
        )
    known = {cell.variable for cell in view.answers}
    if variable and variable not in known:
        remedy = did_you_mean(variable, known) or f"There are: {', '.join(sorted(known)[:20])}."
        raise FormatError(
            f"The result has no variable {variable!r}.", where="variable", remedy=remedy
        )
    place = population or next(iter(view.populations), "")
    asked = Asked(variable, place, site or view.main, by, width, result_id)
    if kind:
        return KINDS[kind](view, asked)
    kinds = [k for k in KINDS if variable or k in WITHOUT_VARIABLE]
    failed: FormatError | None = None
    for name in kinds:
        try:
            return KINDS[name](view, asked)
        except FormatError as error:
            failed = failed or error
    raise failed or FormatError("There is nothing to plot.", where="plot")


__all__ = ["KINDS", "Asked", "Figure", "plot"]
