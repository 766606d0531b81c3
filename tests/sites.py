"""Data frames as sites: each a schema of one database, with a policy that hides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import psycopg
from psycopg import sql

from federated_analytics.couriers import InProcessCourier
from federated_analytics.federation import Terms, run_study
from federated_analytics.omop.database import database_url
from federated_analytics.omop.tables import Cdm
from federated_analytics.privacy.policy import Policy
from federated_analytics.report.result import Result
from federated_analytics.site import Site
from federated_analytics.study import Study

OPEN = Policy(min_count=1, min_sites=1, per_site=True, complementary=False, dominance=1.0)

_TYPES = {"i": "bigint", "u": "bigint", "f": "double precision", "b": "boolean", "M": "date"}


def column_type(name: str, column: pd.Series) -> str:
    """SQL type of a column; id columns with gaps are whole numbers all the same."""
    if name.endswith("_id") or name in ("month_of_birth", "day_of_birth", "year_of_birth"):
        return "bigint"
    return _TYPES.get(column.dtype.kind, "text")


def load(url: str, schema: str, tables: Mapping[str, pd.DataFrame]) -> None:
    """Create `schema` with `tables` in the database at `url`."""
    with psycopg.connect(url) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        for name, table in tables.items():
            place = sql.Identifier(schema, name)
            columns = [
                sql.SQL("{} {}").format(sql.Identifier(c), sql.SQL(column_type(c, table[c])))
                for c in table.columns
            ]
            connection.execute(
                sql.SQL("CREATE TABLE {} ({})").format(place, sql.SQL(", ").join(columns))
            )
            with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(place)) as copy:
                whole = [column_type(c, table[c]) == "bigint" for c in table.columns]
                for row in table.itertuples(index=False):
                    copy.write_row(
                        [
                            None if pd.isna(v) else int(v) if w else v
                            for v, w in zip(row, whole, strict=True)
                        ]
                    )


def sites(
    url: str, schemas: Sequence[str], policy: Policy = OPEN, vocabulary: str | None = None
) -> list[Site]:
    """One site a schema."""
    return [
        Site(database_url(url), policy, Cdm(schema, vocabulary), name=schema) for schema in schemas
    ]


def ask(study: Study | str, asked: Sequence[Site], min_sites: int = 1) -> Result:
    """Run a study over sites in this process."""
    if isinstance(study, str):
        study = Study.parse(study)
    courier = InProcessCourier({site.name: site.answer for site in asked})
    return run_study(study, courier, Terms(min_sites, 60))


def values(result: Result, cdm_name: str = "pooled") -> dict[tuple[str, ...], str]:
    """Estimates by (result type, population, "sex=Female …", variable, level, estimate)."""
    return {
        (
            result.result_type(row.result_id),
            row.group_level,
            " ".join(f"{name}={level}" for name, level in row.strata),
            row.variable_name,
            row.variable_level or "",
            row.estimate_name,
        ): row.estimate_value
        for row in result.rows
        if row.cdm_name == cdm_name
    }
