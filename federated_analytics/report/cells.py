"""The result's rows gathered by place: what stands together in a table's cell or a figure's mark."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from federated_analytics.report.result import OVERALL, POOLED, Result, Row

Strata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Cell:
    """The estimates of one variable (and level) in one stratum of one population at one site.

    Fields:
        site: name of the site, or "pooled"
        population: `group_level` of the rows
        level: `variable_level`; "" where there is none
        estimates: text by estimate name
    """

    result_id: int
    site: str
    population: str
    strata: Strata
    variable: str
    level: str
    additional: Mapping[str, str]
    estimates: Mapping[str, str]

    def text(self, name: str) -> str:
        """An estimate as the row holds it; "" where there is none."""
        return self.estimates.get(name, "")

    def number(self, name: str) -> float | None:
        """An estimate as a finite number; None where it is withheld, undefined or absent."""
        return number(self.text(name))


def number(text: str) -> float | None:
    """A finite number in a text, else None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def cells(rows: Iterable[Row]) -> list[Cell]:
    """The rows' cells, in the order in which they first appear."""
    found: dict[tuple[object, ...], tuple[Row, dict[str, str]]] = {}
    for row in rows:
        key = (
            row.result_id,
            row.cdm_name,
            row.group_level,
            row.strata_name,
            row.strata_level,
            row.variable_name,
            row.variable_level,
            row.additional_name,
            row.additional_level,
        )
        found.setdefault(key, (row, {}))[1][row.estimate_name] = row.estimate_value
    return [_cell(row, estimates) for row, estimates in found.values()]


def _cell(row: Row, estimates: dict[str, str]) -> Cell:
    return Cell(
        result_id=row.result_id,
        site=row.cdm_name,
        population=row.group_level,
        strata=row.strata,
        variable=row.variable_name,
        level=row.variable_level or "",
        additional=row.additional,
        estimates=estimates,
    )


@dataclass(frozen=True)
class Label:
    """How a feature or stratum is shown. `step` is its resolution, in its unit; None: unknown."""

    label: str
    unit: str = ""
    step: float | None = None

    @property
    def axis(self) -> str:
        return f"{self.label} ({self.unit})" if self.unit else self.label


class View:
    """A result arranged for tables and figures.

    Args:
        result: what is shown.
    """

    def __init__(self, result: Result) -> None:
        self.result = result
        self.by_type: dict[str, list[Cell]] = {}
        for cell in cells(result.rows):
            self.by_type.setdefault(result.result_type(cell.result_id), []).append(cell)
        self._labels = _labels(result)

    def of(self, *result_types: str) -> list[Cell]:
        """The cells of the result types, in this order."""
        return [cell for name in result_types for cell in self.by_type.get(name, [])]

    def label(self, name: str) -> Label:
        """How a feature or stratum is called; its name made readable where no label is known."""
        found = self._labels.get(name)
        if found is not None:
            return found
        text = name.replace("_", " ").strip()
        return Label(text[:1].upper() + text[1:])

    @property
    def answers(self) -> list[Cell]:
        """All cells but those of participation and suppression."""
        others = ("participation", "suppression")
        return [c for name, found in self.by_type.items() if name not in others for c in found]

    @property
    def populations(self) -> list[str]:
        return list(dict.fromkeys(cell.population for cell in self.answers))

    @property
    def sites(self) -> list[str]:
        """Names of all sites that were asked or have rows of their own."""
        taking_part = [cell.site for cell in self.of("participation")]
        own = [cell.site for cell in self.answers if cell.site != POOLED]
        return list(dict.fromkeys([*taking_part, *own]))

    @property
    def main(self) -> str:
        """Whose numbers the tables show first: pooled, or the only site's where none is pooled."""
        found = [cell.site for cell in self.answers]
        return POOLED if POOLED in found or not found else found[0]

    def shown_sites(self) -> list[str]:
        """Sites with numbers of their own in the result."""
        return list(dict.fromkeys(c.site for c in self.answers if c.site != POOLED))


def stratum_names(cell: Cell) -> tuple[str, ...]:
    """Names of a cell's strata."""
    return tuple(name for name, _ in cell.strata)


def natural(level: str) -> tuple[bool, float, str]:
    """Sort key that puts "5 to 9" before "10 to 14" and Unknown last."""
    head = level.strip("[(<>≥ ").split(" ")[0].rstrip(",+")
    value = number(head)
    return level == "Unknown", math.inf if value is None else value, level


def readable(strata: Strata) -> str:
    """Strata's levels as one text: "Female, 20 to 39"; "Overall" of none."""
    return ", ".join(level for _, level in strata) or OVERALL.capitalize()


def ordered(found: Iterable[Strata]) -> list[Strata]:
    """Distinct strata: overall first, then alone before crossed, levels in their natural order."""
    distinct = list(dict.fromkeys(found))
    names = list(dict.fromkeys(tuple(n for n, _ in s) for s in distinct))
    return sorted(
        distinct,
        key=lambda s: (
            len(s),
            names.index(tuple(n for n, _ in s)),
            [natural(level) for _, level in s],
        ),
    )


def _labels(result: Result) -> dict[str, Label]:
    found: dict[str, Label] = {}
    for values in result.settings.values():
        try:
            entries = json.loads(values.get("labels") or "{}")
        except (ValueError, RecursionError):
            entries = {}
        if isinstance(entries, Mapping):
            found.update({str(name): _label(str(name), entry) for name, entry in entries.items()})
    return found


def _label(name: str, entry: object) -> Label:
    if not isinstance(entry, Mapping):
        return Label(str(entry) if entry else name)
    step = entry.get("step")
    return Label(
        label=str(entry.get("label") or name),
        unit=str(entry.get("unit") or ""),
        step=float(step) if isinstance(step, int | float) and step > 0 else None,
    )


def find(
    found: Sequence[Cell], *, site: str, population: str, strata: Strata = (), variable: str = ""
) -> list[Cell]:
    """The cells at a place; of every variable where `variable` is left out."""
    return [
        cell
        for cell in found
        if cell.site == site
        and cell.population == population
        and cell.strata == strata
        and (not variable or cell.variable == variable)
    ]
