"""What a figure is asked to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from federated_analytics.errors import FormatError
from federated_analytics.report.cells import Cell, Strata, View, ordered, stratum_names


@dataclass(frozen=True)
class Asked:
    """One figure.

    Fields:
        variable: a feature; "" where the figure is about all of them
        by: names of strata
        population, site: whose numbers
        width: pixels; text keeps its size
        result_id: the analysis; the first that has such cells where left out
    """

    variable: str
    population: str
    site: str
    by: tuple[str, ...] = ()
    width: float = 720.0
    result_id: int | None = None

    @property
    def narrow(self) -> bool:
        return self.width < 520


def levels(cells: Sequence[Cell], by: Sequence[str]) -> list[Strata]:
    """The strata of exactly these names that the cells hold, in their order."""
    return ordered(c.strata for c in cells if stratum_names(c) == tuple(by))


def own(view: View, asked: Asked, *result_types: str) -> list[Cell]:
    """The cells that a figure may use.

    Raises:
        FormatError: there are none.
    """
    found = [
        cell
        for cell in view.own(*result_types, site=asked.site, population=asked.population)
        if (not asked.variable or cell.variable == asked.variable)
        and (asked.result_id is None or cell.result_id == asked.result_id)
    ]
    if not found:
        raise nothing_for(asked, " or ".join(result_types))
    # Two analyses may ask for the same feature, with other bins or strata: their cells do not mix.
    return [cell for cell in found if cell.result_id == found[0].result_id]


def nothing_for(asked: Asked, kinds: str) -> FormatError:
    what = f"{asked.variable!r} of " if asked.variable else ""
    return FormatError(
        f"The result has no {kinds} of {what}{asked.population!r} at {asked.site!r}.",
        where="plot",
        remedy="Ask for it in an [[analysis]] of the study, or name another variable.",
    )


DASHES = ("", "7 3", "2 2.5", "9 3 2 3", "4 2")
"""Five, as the colours are six: thirty series differ in one or the other."""


def dash_of(position: int) -> str:
    """The line style of the series at a position, for those who do not see its colour."""
    return DASHES[position % len(DASHES)]


def colour_of(position: int) -> str:
    """The colour of the series at a position; they repeat after six."""
    from federated_analytics.report.figures.svg import SERIES

    return SERIES[position % len(SERIES)]
