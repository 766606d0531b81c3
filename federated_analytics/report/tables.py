"""Tables as a paper prints them, as data: `table_text` and the report write them out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from federated_analytics.report import numerals
from federated_analytics.report.cells import (
    Cell,
    Strata,
    View,
    number,
    ordered,
)
from federated_analytics.report.result import POOLED

NUMERIC = ("summary", "quantiles")
YES, NO, UNKNOWN = "Yes", "No", "Unknown"
READING_NOTE = "Mean (SD); median [interquartile range]; n (%)."
NOISE_NOTE = (
    "Numbers carry the noise of differential privacy. In parentheses behind persons: between "
    "these lies the exact number, with 95 % confidence. The intervals of means include the noise; "
    "where an interval is wide, the number itself says little."
)
WITHHELD_NOTE = (
    f"<5 and the like: a count below a site's threshold; {numerals.WITHHELD}: withheld with it; "
    f"{numerals.UNDEFINED}: not defined."
)


@dataclass(frozen=True)
class Column:
    """A column of numbers: its heading, and a heading over it that neighbours share."""

    label: str
    over: str = ""


@dataclass(frozen=True)
class Line:
    """A table's row.

    Fields:
        cells: one text a column; empty for a heading
        indent: 0 or 1
        strong: stands out, as pooled numbers do
    """

    label: str
    cells: tuple[str, ...] = ()
    indent: int = 0
    strong: bool = False

    @property
    def heading(self) -> bool:
        return not self.cells


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Fields:
        stub: heads the column of labels
        text_columns: positions of columns that are aligned to the left
        population: whom it is about; "" for several
        main: of the first rank; others are details
        result_id: the analysis that it shows; 0 where it gathers several
    """

    title: str
    stub: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    text_columns: frozenset[int] = frozenset()
    population: str = ""
    main: bool = True
    result_id: int = 0

    @property
    def spanned(self) -> bool:
        return any(column.over for column in self.columns)

    def spans(self) -> list[tuple[str, int]]:
        """The upper headings with the number of columns under each."""
        found: list[tuple[str, int]] = []
        for column in self.columns:
            if found and found[-1][0] == column.over:
                found[-1] = (column.over, found[-1][1] + 1)
            else:
                found.append((column.over, 1))
        return found


@dataclass(frozen=True)
class Place:
    """Whose numbers a column of Table 1 shows."""

    column: Column
    site: str
    population: str
    strata: Strata = ()


def characteristics(view: View, places: Sequence[Place], title: str) -> Table:
    """Features against places: persons, mean (SD), median [IQR], missing; categories with n (%)."""
    lines = list(_persons_lines(view, places))
    for name in view.variables(*NUMERIC):
        lines += _numeric_lines(view, places, name)
    for name in view.variables("frequencies"):
        lines += _category_lines(view, places, name)
    notes = [READING_NOTE, *([NOISE_NOTE] if view.noisy else [])]
    if any(text.startswith("<") or text == numerals.WITHHELD for x in lines for text in x.cells):
        notes.append(WITHHELD_NOTE)
    columns = tuple(place.column for place in places)
    return Table(title, "Characteristic", columns, tuple(lines), tuple(notes))


def table_ones(view: View) -> list[Table]:
    """The tables of characteristics that the result holds.

    One that sets the populations beside each other where there are several; for each population
    one by each stratum alone, and one by the strata crossed.
    """
    found: list[Table] = []
    populations, main = view.populations, view.main
    described = view.of("counts", "summary", "quantiles", "frequencies")
    if len(populations) > 1:
        places = [Place(Column(name), main, name) for name in populations]
        found.append(characteristics(view, places, "Characteristics of the populations"))
    for population in populations:
        own = [c for c in described if c.population == population and c.site == main]
        strata = ordered(cell.strata for cell in own)
        several = f" – {population}" if len(populations) > 1 else ""
        single = [s for s in strata if len(s) <= 1]
        if len(populations) == 1 or len(single) > 1:
            places = [Place(_column(view, s), main, population, s) for s in single]
            table = characteristics(view, places, f"Characteristics{several}")
            found.append(replace(table, population=population))
        crossed = [s for s in strata if len(s) > 1]
        for names in dict.fromkeys(tuple(n for n, _ in s) for s in crossed):
            places = [
                Place(_column(view, s), main, population, s)
                for s in crossed
                if tuple(n for n, _ in s) == names
            ]
            by = " and ".join(lowered(view.label(name).label) for name in names)
            table = characteristics(view, places, f"Characteristics by {by}{several}")
            found.append(replace(table, population=population, main=False))
    return [table for table in found if table.lines]


def _persons_lines(view: View, places: Sequence[Place]) -> Iterable[Line]:
    texts = []
    for place in places:
        here = _at(view, ("counts",), place, "persons")
        texts.append(persons_text(here[0]) if here else "")
    if any(texts):
        yield Line("Persons, n", tuple(texts), strong=True)


def _numeric_lines(view: View, places: Sequence[Place], name: str) -> Iterable[Line]:
    at = [_at(view, NUMERIC, place, name) for place in places]
    digits = digits_for(view, name)
    rows = [
        ("Mean (SD)", [mean_sd(here, digits) for here in at]),
        ("95 % CI", [mean_interval(here, digits) * view.noisy for here in at]),
        ("Median [IQR]", [median_iqr(here, digits) for here in at]),
        ("Missing, n (%)", [missing(here) for here in at]),
    ]
    rows = [(label, texts) for label, texts in rows if any(texts)]
    if rows:
        yield Line(view.label(name).axis)
    for label, texts in rows:
        yield Line(label, tuple(texts), indent=1)


def _category_lines(view: View, places: Sequence[Place], name: str) -> Iterable[Line]:
    at = [{c.level: c for c in _at(view, ("frequencies",), place, name)} for place in places]
    levels = list(dict.fromkeys(level for here in at for level in here))
    if levels and is_yes_no(view, name):
        texts = [n_percent(here.get(YES)) or ("0" if here else "") for here in at]
        yield Line(f"{view.label(name).label}, n (%)", tuple(texts))
        return
    if levels:
        yield Line(f"{view.label(name).label}, n (%)")
    for level in levels:
        # A category that nobody has at a place has no row there.
        texts = [n_percent(here[level]) if level in here else "0" if here else "" for here in at]
        yield Line(level or "(empty)", tuple(texts), indent=1)


def is_yes_no(view: View, name: str) -> bool:
    """Whether a feature is true or false of a person, so that its "Yes" says everything."""
    levels = view.levels("frequencies", name)
    return bool(levels) and levels <= {YES, NO, UNKNOWN} and bool(levels & {YES, NO})


def persons_text(cell: Cell) -> str:
    """ "433", or with noise "433 (256–611)": between these the exact number lies."""
    shown = numerals.count(cell.text("count"))
    low, high = (cell.number(f"count_{end}") for end in ("lower", "upper"))
    return shown if low is None or high is None else f"{shown} ({low:,.0f}–{high:,.0f})"


def mean_interval(here: Sequence[Cell], digits: int) -> str:
    """ "25.1 to 25.9"; "" where no cell has the interval."""
    return joined(here, "conf_low", "{} to {}", ("conf_low", "conf_high"), digits)


def mean_sd(here: Sequence[Cell], digits: int) -> str:
    """ "25.5 (4.8)"; "" where no cell has a mean."""
    full = joined(here, "sd", "{} ({})", ("mean", "sd"), digits)
    return full or joined(here, "mean", "{}", ("mean",), digits)


def median_iqr(here: Sequence[Cell], digits: int) -> str:
    """ "25.3 [22.1, 28.6]", or the median alone."""
    digits = max(0, digits - 1)
    full = joined(here, "q25", "{} [{}, {}]", ("median", "q25", "q75"), digits)
    return full or joined(here, "median", "{}", ("median",), digits)


def missing(here: Sequence[Cell]) -> str:
    """Persons without a value: "12 (3.4)"."""
    for cell in here:
        if cell.text("count_missing"):
            return _with_percent(cell.text("count_missing"), cell.text("percentage_missing"))
    return ""


def joined(here: Sequence[Cell], needed: str, form: str, names: Sequence[str], digits: int) -> str:
    """The first cell with the needed estimate, its estimates put into `form`."""
    for cell in here:
        if cell.text(needed):
            texts = [numerals.decimal(cell.text(name), digits) for name in names]
            return texts[0] if cell.number(names[0]) is None else form.format(*texts)
    return ""


def n_percent(cell: Cell | None) -> str:
    """Persons with their percentage: "12 (3.4)"."""
    return _with_percent(cell.text("count"), cell.text("percentage")) if cell else ""


def _with_percent(n: str, share: str) -> str:
    shown = numerals.count(n)
    if shown == "0" or any(numerals.placeholder(text) is not None for text in (n, share)):
        return shown
    return f"{shown} ({numerals.percent(share)})"


def digits_for(view: View, name: str) -> int:
    """Decimals for the means of a feature, the same wherever it is shown."""
    step = view.label(name).step
    if step is not None:
        return numerals.digits_of(step)
    found = (c for c in view.of(*NUMERIC) if c.variable == name)
    return numerals.digits_of(None, *(c.number(e) for c in found for e in ("mean", "median")))


def _at(view: View, result_types: Sequence[str], place: Place, name: str) -> list[Cell]:
    return view.at(
        *result_types,
        site=place.site,
        population=place.population,
        strata=place.strata,
        variable=name,
    )


def _column(view: View, strata: Strata) -> Column:
    if not strata:
        return Column("Overall")
    if len(strata) == 1:
        return Column(strata[0][1], view.label(strata[0][0]).label)
    return Column(", ".join(level for _, level in strata[1:]), strata[0][1])


def site_name(name: str) -> str:
    """How a `cdm_name` is shown."""
    return "Pooled" if name == POOLED else name


def sites_text(view: View, cell: Cell) -> str:
    """ "2 of 3" sites where not all that answered stand behind a pooled number; else ""."""
    behind, answered = cell.number("sites"), number(view.result.setting("sites_answered"))
    if cell.site != POOLED or behind is None or answered is None or behind >= answered:
        return ""
    return f"{behind:.0f} of {answered:.0f}"


def lowered(label: str) -> str:
    """A label inside a sentence: "Age group" → "age group", "HbA1c" and "LDL" stay."""
    first = label.split(" ")[0]
    return label if any(c.isupper() for c in first[1:]) else label[:1].lower() + label[1:]
