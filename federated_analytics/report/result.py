"""A study's result: the rows of a summarised result, its settings and what is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from federated_analytics.errors import FormatError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from federated_analytics.report.figures import Figure

SEPARATOR = " &&& "
OVERALL = "overall"
POOLED = "pooled"


@dataclass(frozen=True)
class Row:
    """One estimate: a line of omopgenerics' summarised result, its column names verbatim.

    `variable_level` alone may be None. `estimate_value` is text: a number, "<5" for a withheld
    count, "-" for what is withheld with it, "NA" for what is not defined.
    """

    result_id: int
    cdm_name: str
    group_name: str
    group_level: str
    strata_name: str
    strata_level: str
    variable_name: str
    variable_level: str | None
    estimate_name: str
    estimate_type: str
    estimate_value: str
    additional_name: str
    additional_level: str

    @property
    def strata(self) -> tuple[tuple[str, str], ...]:
        """Names and levels of the strata; empty where overall."""
        return unpair(self.strata_name, self.strata_level)

    @property
    def additional(self) -> dict[str, str]:
        """What else places the estimate, by name."""
        return dict(unpair(self.additional_name, self.additional_level))


COLUMNS = tuple(f.name for f in fields(Row))
_values = attrgetter(*COLUMNS)


def pair(names: Sequence[str], levels: Sequence[str]) -> tuple[str, str]:
    """A name-level pair as the summarised result writes it; ("overall", "overall") of nothing."""
    if len(names) != len(levels):
        raise ValueError(f"{len(names)} names but {len(levels)} levels")
    if not names:
        return OVERALL, OVERALL
    return SEPARATOR.join(names), SEPARATOR.join(levels)


def unpair(name: str, level: str) -> tuple[tuple[str, str], ...]:
    """The parts of a name-level pair; empty where overall."""
    if name == OVERALL:
        return ()
    names, levels = name.split(SEPARATOR), level.split(SEPARATOR)
    if len(names) == 1:
        return ((name, level),)
    return tuple(zip(names, levels, strict=False))


@dataclass(frozen=True)
class Result:
    """What a study found.

    Args:
        rows: estimates, without the rows in which settings travel.
        settings: for each result_id what produced it: result_type, package_name,
            package_version, group, strata, additional, min_cell_count, title, …
        study_toml: text of the study file.
    """

    rows: tuple[Row, ...]
    settings: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    study_toml: str = ""

    def result_type(self, result_id: int) -> str:
        """The kind of analysis behind a result_id; "" where its settings do not say."""
        return self.settings.get(result_id, {}).get("result_type", "")

    def setting(self, name: str, default: str = "") -> str:
        """The first value that any result_id's settings give to `name`."""
        found = (values[name] for values in self.settings.values() if values.get(name))
        return next(found, default)

    def ids(self, result_type: str) -> list[int]:
        """The result_ids of a result type, in order."""
        return sorted(i for i in self.settings if self.result_type(i) == result_type)

    def select(
        self,
        *,
        result_type: str | None = None,
        cdm_name: str | None = None,
        group_level: str | None = None,
        variable_name: str | None = None,
        strata_name: str | None = None,
        strata_level: str | None = None,
        estimate_name: str | None = None,
    ) -> Result:
        """The rows for which every given column holds the given text, with their settings."""
        asked = {
            "cdm_name": cdm_name,
            "group_level": group_level,
            "variable_name": variable_name,
            "strata_name": strata_name,
            "strata_level": strata_level,
            "estimate_name": estimate_name,
        }
        wanted = [(name, text) for name, text in asked.items() if text is not None]
        ids = set(self.settings) if result_type is None else set(self.ids(result_type))
        rows = tuple(
            row
            for row in self.rows
            if (result_type is None or row.result_id in ids)
            and all(getattr(row, name) == text for name, text in wanted)
        )
        return Result(rows, {i: self.settings[i] for i in sorted(ids)}, self.study_toml)

    def to_pandas(self, *, settings: bool = False) -> pd.DataFrame:
        """A data frame of the 13 columns, text but for result_id.

        Args:
            settings: also the rows in which settings travel, as in the CSV file.
        """
        import pandas as pd

        if settings:
            from federated_analytics.report.formats import records

            return pd.DataFrame(records(self), columns=list(COLUMNS))
        return pd.DataFrame([_values(row) for row in self.rows], columns=list(COLUMNS))

    def plot(
        self, variable: str = "", kind: str = "", by: str | Iterable[str] = (), **options: Any
    ) -> Figure:
        """A figure of one variable; the first kind that its rows can answer where left out.

        Args:
            variable: a feature, an event, or a regression's outcome; not needed for coverage and
                attrition.
            kind: histogram | box | forest | survival | coefficients | bars | prevalence |
                coverage | attrition.
            by: strata whose levels are set beside each other.
            options: population, site, result_id.

        Raises:
            FormatError: the result has no rows for such a figure.
        """
        from federated_analytics.report.figures import plot

        strata = (by,) if isinstance(by, str) else tuple(by)
        return plot(self, variable, kind, tuple(name for name in strata if name), **options)

    def report(self, path: str | Path) -> Path:
        """Write the report as one self-contained HTML file; returns its path."""
        from federated_analytics.report.formats import write_text
        from federated_analytics.report.html import render

        return write_text(Path(path), render(self))

    def save(self, directory: str | Path, formats: Sequence[str] | None = None) -> list[Path]:
        """Write result.csv, result.json, result.parquet and report.html into a folder.

        Args:
            formats: of csv, json, parquet, html; all whose packages are installed where left out.

        Returns: the files' paths.

        Raises:
            FormatError: an unknown format.
            MissingExtra: "parquet" is asked for and pyarrow is not installed.
        """
        from federated_analytics.report.formats import FORMATS, installed

        known = (*(suffix.removeprefix(".") for suffix in FORMATS), "html")
        for name in formats or ():
            if name not in known:
                remedy = did_you_mean(name, known) or f"There are: {', '.join(known)}."
                raise FormatError(f"There is no format {name!r}.", where="formats", remedy=remedy)
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        chosen = known if formats is None else tuple(dict.fromkeys(formats))
        return [
            self.report(folder / "report.html")
            if name == "html"
            else FORMATS[f".{name}"][0](self, folder / f"result.{name}")
            for name in chosen
            if formats is not None or name == "html" or installed(f".{name}")
        ]

    @classmethod
    def load(cls, path: str | Path) -> Result:
        """The result in a CSV, JSON or Parquet file that `save` or omopgenerics wrote.

        Raises:
            FormatError: the file cannot be read as a summarised result.
        """
        from federated_analytics.report.formats import FORMATS

        path = Path(path)
        if path.suffix.lower() not in FORMATS:
            raise FormatError(
                f"A file that ends in {path.suffix!r} is not read.",
                where=str(path),
                remedy=f"Give one that ends in {', '.join(FORMATS)}.",
            )
        return FORMATS[path.suffix.lower()][1](path)

    def _repr_html_(self) -> str:
        from federated_analytics.report.notebook import to_html

        return to_html(self)
