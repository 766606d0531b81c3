"""Is a database ready to be asked? For the site operator: it shows the site's own counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from federated_analytics.errors import FederatedAnalyticsError, UnsupportedCdm
from federated_analytics.omop.database import (
    cdm_source,
    database_url,
    has_table,
    may_create_temporary,
    snapshot,
)
from federated_analytics.omop.features import Feature, catalogue
from federated_analytics.omop.tables import EVENT_TABLES, Cdm

Status = Literal["ok", "warning", "error"]
SECONDS = 600


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    status: Status
    what: str
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Readiness:
    """All findings; `ready` when none is an error."""

    findings: tuple[Finding, ...]

    @property
    def ready(self) -> bool:
        return all(f.status != "error" for f in self.findings)

    def to_text(self) -> str:
        """The findings as a plain table, one line each."""
        width = max((len(f.what) for f in self.findings), default=0)
        lines = [
            f"{f.status:8}{f.what:{width}}  {f.found}{f'  -> {f.remedy}' if f.remedy else ''}"
            for f in self.findings
        ]
        verdict = "ready" if self.ready else "not ready: mend the errors above"
        return "\n".join([*lines, f"This database is {verdict}.", ""])


def check(url: str, cdm: Cdm | None = None) -> Readiness:
    """CDM version, tables and grants, vocabulary, index, coverage and units of the features."""
    found: list[Finding] = []
    try:
        with snapshot(database_url(url), SECONDS) as connection:
            for step in _STEPS:
                found += step(connection, cdm or Cdm())
    except UnsupportedCdm as error:
        found.append(Finding("error", "CDM version", error.message, error.remedy))
    except FederatedAnalyticsError as error:
        found.append(Finding("error", "database", error.message, error.remedy))
    return Readiness(tuple(found))


def _version(connection: sa.Connection, cdm: Cdm) -> Iterator[Finding]:
    server = connection.execute(sa.text("SHOW server_version")).scalar()
    yield Finding("ok", "PostgreSQL", str(server))
    source = cdm_source(connection, cdm)
    if source:
        name = source.get("cdm_source_name") or "unnamed"
        yield Finding("ok", "CDM version", f"{source.get('cdm_version') or 'not stated'} ({name})")
    else:
        yield Finding("warning", "CDM version", "cdm_source is missing or empty; read as 5.4")


def _tables(connection: sa.Connection, cdm: Cdm) -> Iterator[Finding]:
    names = ["person", "observation_period", "death", "concept", "concept_ancestor"]
    names += [event.table for event in EVENT_TABLES.values()]
    missing = [n for n in names if not has_table(connection, n, cdm.schema_of(n))]
    for name in missing:
        yield Finding(
            "error" if name == "person" else "warning",
            f"table {name}",
            "missing, or SELECT is not granted",
            "set cdm-schema or vocabulary-schema, or GRANT SELECT to the site's role",
        )
    if not missing:
        yield Finding("ok", "tables", f"all {len(names)} can be read")
    if not may_create_temporary(connection):
        yield Finding(
            "warning",
            "temporary tables",
            "the role may not create any: studies run more slowly, and ATLAS cohorts not at all",
            "GRANT TEMPORARY ON DATABASE … TO the site's role",
        )


def _vocabulary(connection: sa.Connection, cdm: Cdm) -> Iterator[Finding]:
    for name, without in (
        ("concept", "concepts stay without a name"),
        ("concept_ancestor", "descendants are not found: only the listed concepts count"),
    ):
        if not has_table(connection, name, cdm.schema_of(name)):
            continue
        some = sa.select(sa.literal(1)).select_from(cdm.table(name)).limit(1)
        if connection.execute(some).first() is None:
            yield Finding(
                "warning", f"vocabulary {name}", f"empty: {without}", "load Athena's files"
            )
        else:
            yield Finding("ok", f"vocabulary {name}", "filled")


INDEX = "(measurement_concept_id, person_id, measurement_date) INCLUDE (value_as_number)"


def _indexes(connection: sa.Connection, cdm: Cdm) -> Iterator[Finding]:
    query = sa.text(
        "SELECT count(*) FROM pg_indexes WHERE tablename = 'measurement' "
        "AND (indexdef LIKE '%(person_id%' OR indexdef LIKE '%(measurement_concept_id%')"
    )
    if connection.execute(query).scalar():
        yield Finding("ok", "index on measurement", "present")
    else:
        remedy = f"CREATE INDEX ON measurement {INDEX}"
        yield Finding("warning", "index on measurement", "none on person or concept", remedy)


def _coverage(connection: sa.Connection, cdm: Cdm) -> Iterator[Finding]:
    if not all(has_table(connection, n, cdm.schema_of(n)) for n in ("person", "measurement")):
        return
    persons = connection.execute(
        sa.select(sa.func.count()).select_from(cdm.table("person"))
    ).scalar_one()
    yield Finding("ok" if persons else "error", "persons", f"{persons:,}")
    event = cdm.events("measurement")
    unit = sa.func.coalesce(event.c.unit_concept_id, 0).label("unit")
    query = (
        sa.select(
            event.c.concept_id,
            unit,
            sa.func.count().label("records"),
            sa.func.count(sa.distinct(event.c.person_id)).label("persons"),
        )
        .where(event.c.value_as_number.is_not(None))
        .group_by(event.c.concept_id, unit)
    )
    rows = connection.execute(query).all()
    measured = [f for f in catalogue().values() if f.domain == "measurement"]
    absent = []
    for feature in measured:
        ids = {concept.id for concept in feature.concepts}
        mine = [row for row in rows if row.concept_id in ids]
        if mine:
            yield _feature(feature, mine, persons)
        else:
            absent.append(feature.name)
    if absent:
        yield Finding("ok", "features without a record", ", ".join(absent))


def _feature(
    feature: Feature, rows: list[sa.Row[tuple[int, int, int, int]]], persons: int
) -> Finding:
    known = {0, feature.unit_concept_id, *(u.unit_concept_id for u in feature.units)}
    strange = sorted({r.unit for r in rows if feature.unit_concept_id and r.unit not in known})
    share = 100 * max(r.persons for r in rows) / persons if persons else 0.0
    records = sum(r.records for r in rows)
    unitless = sum(r.records for r in rows if r.unit == 0)
    text = f"{records:,} records, {share:.0f} % of persons or more"
    if unitless and feature.unit_concept_id:
        text += f", {100 * unitless / records:.0f} % without a unit (read as {feature.unit})"
    if strange:
        units = ", ".join(map(str, strange))
        return Finding(
            "warning",
            feature.name,
            f"{text}; unit concepts that are not converted: {units}",
            f"define [feature.{feature.name}] with units in the study",
        )
    return Finding("ok", feature.name, text)


_STEPS: tuple[Callable[[sa.Connection, Cdm], Iterator[Finding]], ...] = (
    _version,
    _tables,
    _vocabulary,
    _indexes,
    _coverage,
)
