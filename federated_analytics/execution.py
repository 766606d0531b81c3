"""A study at a site: populations, frames and analyses inside one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from federated_analytics.aggregates.table import Table
from federated_analytics.analyses.base import Analysis, Query, Row, analyses
from federated_analytics.errors import FederatedAnalyticsError, NotNumeric, SeveralRowsAPerson
from federated_analytics.messages import Refusal
from federated_analytics.omop.cohort import FlatTable
from federated_analytics.omop.database import explained, may_create_temporary
from federated_analytics.omop.features import Feature
from federated_analytics.omop.flat import column_types
from federated_analytics.omop.frame import Frame, NotFinite
from federated_analytics.omop.strata import UNKNOWN, Stratum
from federated_analytics.omop.tables import Cdm
from federated_analytics.omop.workspace import Workspace
from federated_analytics.person_sets import counted_with, partial_dimensions
from federated_analytics.privacy.draft import Evidence
from federated_analytics.public_domain import public_domain

if TYPE_CHECKING:
    from federated_analytics.study import Study

OUT_OF_RANGE = "22003"
"""PostgreSQL's code for an overflow."""

YEARS = frozenset(map(str, range(1800, 2200)))


OnPopulation = Callable[[sa.Connection, Any, Frame, Sequence[tuple[int, Query]]], None]
"""Told of each population's frame with the analyses over it; what it raises refuses them."""


def evidence(
    connection: sa.Connection,
    cdm: Cdm,
    study: Study,
    on_population: OnPopulation | None = None,
    *,
    bounded: bool = False,
) -> list[Evidence]:
    """Everything that a study asks of one database, before the site's policy.

    An analysis that this database cannot answer is refused by itself; the others go on.

    Args:
        bounded: every number lies within its feature's range, as noise needs it.
    """
    workspace = Workspace(connection, cdm, may_create_temporary(connection), bounded)
    found: list[Evidence] = []
    for population in study.population:
        asked = [
            (i, query)
            for i, query in enumerate(study.analysis)
            if population in study.populations_of(query)
        ]
        if asked:
            found += _population(workspace, study, population, asked, on_population)
    return found


def _population(
    workspace: Workspace,
    study: Study,
    population: Any,
    asked: list[tuple[int, Query]],
    on_population: OnPopulation | None,
) -> Iterator[Evidence]:
    features, strata = needs(study, population, [query for _, query in asked])
    try:
        with workspace.connection.begin_nested():
            if isinstance(population, FlatTable):
                _one_row_a_person(workspace, population)
            frame = workspace.frame(population, features, strata)
            if on_population is not None:
                on_population(workspace.connection, population, frame, asked)
    except (FederatedAnalyticsError, sa.exc.SQLAlchemyError) as error:
        for i, _ in asked:
            yield _refused(i, population, error)
        return
    for i, query in asked:
        yield _analysis(workspace, i, query, population, frame, strata)


def needs(
    study: Study, population: Any, queries: Sequence[Query]
) -> tuple[list[Feature], list[Stratum]]:
    """The features and strata that all `queries` together need of a population."""
    features: dict[str, Feature] = {}
    strata: dict[str, Stratum] = {}
    for query in queries:
        features |= study.features_of(query, population)
        strata |= {s.name: s for s in study.strata_of(query, population)}
    return list(features.values()), list(strata.values())


def _analysis(
    workspace: Workspace,
    position: int,
    query: Query,
    population: Any,
    frame: Frame,
    strata: Sequence[Stratum],
) -> Evidence:
    analysis = analyses()[query.kind]
    at_site = query.model_copy(update={"by": tuple(s for s in query.by if s != "site")})
    try:
        _check_types(analysis, query, frame)
        try:
            table, results = _ask(workspace, analysis, at_site, frame)
        except NotFinite:
            table, results = _ask(workspace, analysis, at_site, frame.guarded())
    except (FederatedAnalyticsError, sa.exc.SQLAlchemyError) as error:
        return _refused(position, population, error)
    public = analysis.public_levels(at_site, frame) | _public(query, frame, strata)
    return Evidence(
        position,
        population.name,
        table,
        analysis.labels(results),
        public,
        counted=counted_with(analysis, at_site, frame, strata),
        domain=lambda: public_domain(analysis, at_site, frame, strata),
        partial=partial_dimensions(analysis, at_site, table),
    )


def _ask(
    workspace: Workspace, analysis: Analysis, query: Query, frame: Frame
) -> tuple[Table, list[Sequence[Row]]]:
    try:
        with workspace.connection.begin_nested():
            results: list[Sequence[Row]] = [
                [dict(row) for row in workspace.connection.execute(statement).mappings()]
                for statement in analysis.select(query, frame)
            ]
    except sa.exc.DataError as error:
        if getattr(error.orig, "sqlstate", None) == OUT_OF_RANGE and not frame.is_guarded:
            raise NotFinite from error
        raise
    return analysis.collect(query, frame, results), results


def _check_types(analysis: Analysis, query: Query, frame: Frame) -> None:
    for i, name in enumerate(query.features):
        kind = frame.columns[name].feature.type
        if kind not in analysis.feature_types:
            raise NotNumeric(
                f"The column {name!r} is {kind}, which {query.kind} does not take.",
                where=f"features[{i}]",
            )


def _public(query: Query, frame: Frame, strata: Sequence[Stratum]) -> frozenset[str]:
    """Texts that are known without the data: names asked for, and levels that are made."""
    texts = {"", "persons", "attrition", UNKNOWN, *query.features}
    texts.add(str(getattr(query, "domain", "")))
    types = {name: column.feature.type for name, column in frame.columns.items()}
    for stratum in strata:
        if stratum.breaks:
            texts |= set(stratum.levels())
        elif not stratum.feature:
            texts |= YEARS
        elif stratum.feature == "sex" and frame.attrition is not None:
            texts |= {"Female", "Male"}
        elif types.get(stratum.feature) == "boolean":
            texts |= {"Yes", "No"}
    if any(types[name] == "boolean" for name in query.features):
        texts |= {"Yes", "No"}
    if "sex" in query.features and frame.attrition is not None:
        texts |= {"Female", "Male"}
    return frozenset(texts)


def _refused(position: int, population: Any, error: Exception) -> Evidence:
    if isinstance(error, sa.exc.SQLAlchemyError):
        error = explained(error)
    assert isinstance(error, FederatedAnalyticsError)
    refusal = Refusal(error.code, error.where[:200], error.message[:300], error.remedy[:300])
    return Evidence(position, population.name, {}, {}, frozenset(), refusal)


def _one_row_a_person(workspace: Workspace, population: FlatTable) -> None:
    """A table with several rows a person would let a count of rows pass for one of persons."""
    columns = column_types(workspace.connection, population.table, workspace.cdm.cdm_schema)
    if "person_id" not in columns:
        return
    table = sa.table(population.table, sa.column("person_id"), schema=workspace.cdm.cdm_schema)
    if _is_unique(workspace, population.table):
        return
    persons = sa.func.count(sa.distinct(table.c.person_id))
    rows = sa.func.count()
    if workspace.connection.execute(sa.select(rows > persons)).scalar():
        raise SeveralRowsAPerson(
            f"The table {population.table!r} has several rows a person.", where="table-name"
        )


def _is_unique(workspace: Workspace, table: str) -> bool:
    """Whether a unique index on person_id alone says that no person has two rows."""
    query = sa.text(
        "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0] "
        "WHERE c.relname = :table AND n.nspname = coalesce(:schema, current_schema()) "
        "AND i.indisunique AND i.indpred IS NULL AND i.indnkeyatts = 1 "
        "AND a.attname = 'person_id')"
    )
    schema = workspace.cdm.cdm_schema
    return bool(workspace.connection.execute(query, {"table": table, "schema": schema}).scalar())
