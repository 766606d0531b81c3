"""The result's rows gathered by place: what a table's cell or a figure's mark shows."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from federated_analytics.report.result import OVERALL, POOLED, Result, Row

SITE = "site"
"""The stratum under which pooled rows hold the sites' own numbers."""

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


_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Label:
    """How a feature or stratum is shown. `step` is its resolution, in its unit; None: unknown."""

    label: str
    unit: str = ""
    step: float | None = None

    @property
    def axis(self) -> str:
        """The label with its unit: "Body mass index (kg/m²)"."""
        unit = self.shown_unit
        return f"{self.label} ({unit})" if unit else self.label

    @property
    def shown_unit(self) -> str:
        """The unit as papers print it: UCUM's "mm[Hg]" is "mmHg", "10*3/uL" is "10³/µL"."""
        plain = re.sub(r"[][{}]", "", self.unit).replace("_av", "").replace("_", " ")
        if plain.startswith("u") and plain[1:2].isalpha() and plain != "unit":
            plain = f"µ{plain[1:]}"
        plain = re.sub(r"10\*(\d)", lambda m: f"10{m.group(1).translate(_SUPERSCRIPT)}", plain)
        plain = re.sub(r"m([23])\b", lambda m: f"m{m.group(1).translate(_SUPERSCRIPT)}", plain)
        return plain.replace("/uL", "/µL")


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
        self._levels: dict[str, dict[str, frozenset[str]]] = {}
        self._index: dict[tuple[object, ...], list[Cell]] = {}
        for name, found in self.by_type.items():
            for cell in found:
                place = (name, cell.site, cell.population, cell.strata, cell.variable)
                self._index.setdefault(place, []).append(cell)
                self._index.setdefault(place[:3], []).append(cell)

    def at(
        self,
        *result_types: str,
        site: str,
        population: str,
        strata: Strata = (),
        variable: str,
    ) -> list[Cell]:
        """A variable's cells at a place, in the order of the result types."""
        places = ((name, site, population, strata, variable) for name in result_types)
        return [cell for place in places for cell in self._index.get(place, ())]

    def own(self, *result_types: str, site: str, population: str) -> list[Cell]:
        """A site's cells of a population, of every stratum and variable."""
        places = ((name, site, population) for name in result_types)
        return [cell for place in places for cell in self._index.get(place, ())]

    def of(self, *result_types: str) -> list[Cell]:
        """The cells of the result types, in this order."""
        return [cell for name in result_types for cell in self.by_type.get(name, [])]

    def variables(self, *result_types: str) -> list[str]:
        """The variables of the result types, in their order."""
        return list(dict.fromkeys(cell.variable for cell in self.of(*result_types)))

    def levels(self, result_type: str, variable: str) -> frozenset[str]:
        """All levels of a variable, wherever they occur."""
        if result_type not in self._levels:
            found: dict[str, set[str]] = {}
            for cell in self.of(result_type):
                found.setdefault(cell.variable, set()).add(cell.level)
            self._levels[result_type] = {n: frozenset(levels) for n, levels in found.items()}
        return self._levels[result_type].get(variable, frozenset())

    def label(self, name: str) -> Label:
        """How a feature or stratum is called; its name made readable where no label is known."""
        found = self._labels.get(name)
        if found is not None:
            return found
        text = name.replace("_", " ").strip()
        return Label(text[:1].upper() + text[1:])

    @cached_property
    def answers(self) -> list[Cell]:
        """All cells but those of participation and suppression."""
        others = ("participation", "suppression")
        return [c for name, found in self.by_type.items() if name not in others for c in found]

    @property
    def noisy(self) -> bool:
        """Whether a site answered with the noise of differential privacy."""
        return self.result.setting("noisy_sites", "0") not in ("", "0")

    @cached_property
    def populations(self) -> list[str]:
        return list(dict.fromkeys(cell.population for cell in self.answers))

    @property
    def sites(self) -> list[str]:
        """Names of all sites that were asked or have rows of their own."""
        taking_part = [cell.site for cell in self.of("participation")]
        own = [cell.site for cell in self.answers if cell.site != POOLED]
        return list(dict.fromkeys([*taking_part, *own]))

    @cached_property
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
