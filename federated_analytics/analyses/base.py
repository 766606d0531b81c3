"""What every analysis is: a question, its SQL, its aggregates and its result rows."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.person_set import PersonSet
from federated_analytics.aggregates.table import Key, Strata, Table
from federated_analytics.analyses.confidence import count_interval
from federated_analytics.omop.frame import Frame
from federated_analytics.omop.strata import groupings
from federated_analytics.omop.tables import Statement

if TYPE_CHECKING:
    from federated_analytics.omop.features import Feature

ColumnName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[^\x00-\x1f]+$")]
Row = Mapping[str, Any]


class Query(BaseModel):
    """One `[[analysis]]` of a study: what is asked.

    Args:
        kind: the analysis's name.
        title: heading in the report; made from the kind where left out.
        populations: names of the study's populations; all of them where left out.
        features: what is asked of each person.
        by: strata: overall, each alone, and all crossed are answered.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    title: str = Field(default="", max_length=200)
    populations: tuple[ColumnName, ...] = ()
    features: tuple[ColumnName, ...] = Field(default=(), max_length=200)
    by: tuple[ColumnName, ...] = Field(default=(), max_length=4)


class FeatureQuery(Query):
    """A question about features, at least one."""

    features: tuple[ColumnName, ...] = Field(min_length=1, max_length=200)


@dataclass(frozen=True)
class Merged:
    """A cell as it is reported.

    Fields:
        value: the merged aggregate; None where it is withheld
        sites: sites behind it
        bound: where it is withheld, its count is below this; 0 where nothing is known
        noise: variance of the sites' noise by statistic; empty where the numbers are exact
    """

    value: Aggregate | None
    sites: int
    bound: int = 0
    noise: Mapping[str, float] = field(default_factory=dict)

    @property
    def shown_as(self) -> str:
        """What stands for a withheld count."""
        return f"<{self.bound}" if self.bound else "-"


@dataclass(frozen=True)
class Estimate:
    """One number of the result, before it becomes a row of the summarised result."""

    strata: Strata
    variable: str
    name: str
    type: str
    value: str
    level: str | None = None
    additional: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Context:
    """What `finalize` may know besides the cells: all of it public.

    Fields:
        features: the study's features by name
        labels: names that the sites' vocabularies give to concepts
        pooled: the cells are merged over sites
    """

    features: Mapping[str, Feature]
    labels: Mapping[str, str]
    pooled: bool


class Analysis(ABC):
    """One analysis. A file in `analyses/` with a subclass is all that a new one needs."""

    kind: ClassVar[str]
    query_type: ClassVar[type[Query]]
    leaves: ClassVar[str]
    """What a site sends for it, in words: a site operator reads this in a preview."""
    feature_types: ClassVar[frozenset[str]] = frozenset({"numeric", "boolean", "categorical"})
    needs_cdm: ClassVar[bool] = False
    """Reads the CDM's event tables, so a flat table cannot answer it."""
    needs_index_date: ClassVar[bool] = False
    """Counts time from the index date, so a population without one cannot answer it."""

    def check(self, query: Any, feature: Feature, where: str) -> None:
        """StudyError where the query cannot be asked of this feature; before anything is sent."""
        return

    @abstractmethod
    def select(self, query: Any, frame: Frame) -> list[Statement]:
        """The statements that aggregate the frame in the database."""

    @abstractmethod
    def collect(self, query: Any, frame: Frame, results: Sequence[Sequence[Row]]) -> Table:
        """The cells in the statements' rows, which are read by column name."""

    @abstractmethod
    def finalize(
        self, query: Any, cells: Mapping[Key, Merged], context: Context
    ) -> Iterable[Estimate]:
        """The numbers of the result. A cell that is not in `cells` is zero."""

    @abstractmethod
    def counted_sets(
        self, query: Any, frame: Frame, key: Key, aggregate: Aggregate
    ) -> Iterable[tuple[int, PersonSet]]:
        """The counts of a cell, each with the persons of its stratum that it is of.

        Dimensions are names of features, or names of the analysis' own with a colon in them;
        the site's policy finds by these which counts follow from others.
        """

    def partial_dimensions(self, query: Any, table: Table) -> frozenset[str]:
        """Dimensions of which not every level is counted."""
        return frozenset()

    @property
    def answers_with_noise(self) -> bool:
        """Whether any question of this kind has an answer with noise."""
        return type(self).public_cells is not Analysis.public_cells

    def public_cells(self, query: Any, frame: Frame) -> Mapping[Key, type[Aggregate]] | None:
        """The cells of one stratum, strata left empty: those of an answer with noise.

        A cell that is not among them is left out of such an answer, an empty one that is gets
        noise like any other. None where they are not known without the data.
        """
        return None

    def labels(self, results: Sequence[Sequence[Row]]) -> dict[str, str]:
        """Names for the variables of `collect`, where the site's vocabulary knows them."""
        return {}

    def public_levels(self, query: Any, frame: Frame) -> frozenset[str]:
        """Levels that are known without looking at the data."""
        return frozenset()


@cache
def analyses() -> Mapping[str, Analysis]:
    """Every analysis of this folder by its kind."""
    package = importlib.import_module(__package__ or "")
    found: dict[str, Analysis] = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Analysis) and hasattr(value, "kind"):
                found[value.kind] = value()
    return dict(sorted(found.items()))


def grouped(
    frame: Frame,
    by: Sequence[str],
    columns: Sequence[sa.ColumnElement[Any]],
    *,
    also_by: Sequence[sa.ColumnElement[Any]] = (),
    source: sa.FromClause | None = None,
) -> Statement:
    """SELECT of aggregate `columns`: overall, by each stratum alone, and by all crossed.

    Args:
        also_by: columns that each of these groups is split by as well.
        source: what is selected from; the frame where left out.
    """
    strata = [frame.strata[name] for name in by]
    query = sa.select(
        *(column.label(f"stratum_{i}") for i, column in enumerate(strata)),
        *also_by,
        *columns,
    ).select_from(frame.relation if source is None else source)
    if not strata:
        return query.group_by(*also_by) if also_by else query
    keys = [sa.tuple_(*(strata[i] for i in group), *also_by) for group in groupings(len(strata))]
    query = query.add_columns(sa.func.grouping(*strata).label("grouping"))
    return query.group_by(sa.func.grouping_sets(*keys))


def strata_of(row: Row, by: Sequence[str]) -> Strata:
    """The strata that a row of `grouped` stands for."""
    if not by:
        return ()
    rolled_up = row["grouping"]
    return tuple(
        (name, row[f"stratum_{i}"])
        for i, name in enumerate(by)
        if not rolled_up >> (len(by) - 1 - i) & 1
    )


def strata_in(cells: Iterable[Key], by: Sequence[str]) -> list[Strata]:
    """The strata of `cells`: overall, then each alone, then crossed; levels in order."""
    order = {name: position for position, name in enumerate(by)}

    def place(strata: Strata) -> tuple[int, list[int], list[tuple[bool, float, str]]]:
        names = [order.get(name, len(order)) for name, _ in strata]
        return len(strata), names, [_natural(level) for _, level in strata]

    return sorted(dict.fromkeys(key.strata for key in cells), key=place)


def _natural(level: str) -> tuple[bool, float, str]:
    """Sort key under which "5 to 9" comes before "10 to 14" and Unknown last."""
    head = level.strip("[(").split(" ")[0].rstrip(",")
    try:
        return level == "Unknown", float(head), level
    except ValueError:
        return level == "Unknown", float("inf"), level


def number(value: float) -> str:
    """A float as text that reads back exactly; "NA" where it is not defined."""
    return repr(float(value)) if value == value and abs(value) != float("inf") else "NA"


def counted(
    merged: Merged | None, strata: Strata, variable: str, **place: Any
) -> Iterable[Estimate]:
    """A count's estimate: its number, or what stands for a withheld one."""
    name = place.pop("name", "count")
    if merged is None:
        value = "0"
    elif merged.value is None:
        value = merged.shown_as
    else:
        value = str(merged.value.persons)  # type: ignore[attr-defined]
    yield Estimate(strata, variable, name, "integer", value, **place)
    if merged is not None and merged.value is not None and "persons" in merged.noise:
        interval = count_interval(int(value), merged.noise["persons"])
        for suffix, end in zip(("_lower", "_upper"), interval, strict=True):
            yield Estimate(strata, variable, name + suffix, "integer", str(end), **place)


def percentage(part: Merged | None, whole: Merged | None) -> str:
    """100 × part / whole as text; "-" where either is withheld, "NA" of nobody."""
    if whole is None or (part is not None and part.value is None) or whole.value is None:
        return "-" if whole is not None else "NA"
    persons = whole.value.persons  # type: ignore[attr-defined]
    counted_persons = part.value.persons if part is not None else 0  # type: ignore[union-attr]
    return number(100 * counted_persons / persons) if persons else "NA"


def sites_behind(
    merged: Merged, context: Context, strata: Strata, variable: str, **place: Any
) -> Iterable[Estimate]:
    """How many sites a pooled number rests on; nothing for a site's own rows."""
    if context.pooled:
        yield Estimate(strata, variable, "sites", "integer", str(merged.sites), **place)
