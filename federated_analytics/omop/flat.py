"""Features of a flat table: any table with one row a person, whose columns are the features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError

from federated_analytics.errors import MissingColumn, MissingTable, StudyError, did_you_mean
from federated_analytics.omop.features import Feature, catalogue

DEFINABLE = ("label", "unit", "range", "step", "type")

_KINDS = {
    "boolean": "boolean",
    "smallint": "numeric",
    "integer": "numeric",
    "bigint": "numeric",
    "numeric": "numeric",
    "real": "numeric",
    "double precision": "numeric",
}


def flat_features(
    names: Sequence[str], definitions: Mapping[str, Mapping[str, Any]]
) -> dict[str, Feature]:
    """Features for columns: what the study defines, else the catalogue, else a bare number.

    The column's own type is known at the site only, see `typed`.
    """
    features = {}
    for name in names:
        known = catalogue().get(name) or _bare(name)
        given = {k: v for k, v in definitions.get(name, {}).items() if k in DEFINABLE}
        data = known.model_dump() | given | {"domain": "person", "aggregation": "latest"}
        try:
            checked = Feature.model_validate(data | {"name": "checked"})
        except ValidationError as error:
            raise StudyError(f"{error.errors()[0]['msg']}.", where=f"feature.{name}") from error
        # A column may have any name, which the catalogue's own features may not.
        features[name] = checked.model_copy(update={"name": name})
    return features


def _bare(name: str) -> Feature:
    return Feature.model_construct(
        name=name, label=name, group="other", domain="person", type="numeric", concepts=()
    )


def typed(
    connection: sa.Connection, table: str, schema: str | None, features: Mapping[str, Feature]
) -> dict[str, Feature]:
    """The features with the types that their columns have in the database."""
    found = column_types(connection, table, schema)
    if not found:
        raise MissingTable(f"There is no table {table!r}.", where="table-name")
    result = {}
    for name, feature in features.items():
        if name not in found:
            raise MissingColumn(
                f"The table {table!r} has no column {name!r}.",
                where=name,
                remedy=did_you_mean(name, found),
            )
        result[name] = feature.model_copy(update={"type": _KINDS.get(found[name], "categorical")})
    return result


def column_types(connection: sa.Connection, table: str, schema: str | None) -> dict[str, str]:
    """Columns of a table with their SQL types; empty where there is no such table."""
    columns = sa.table(
        "columns",
        *(sa.column(c) for c in ("table_schema", "table_name", "column_name", "data_type")),
        schema="information_schema",
    )
    query = sa.select(columns.c.column_name, columns.c.data_type).where(
        columns.c.table_name == table,
        columns.c.table_schema == (schema or sa.func.current_schema()),
    )
    return {row.column_name: row.data_type for row in connection.execute(query)}
