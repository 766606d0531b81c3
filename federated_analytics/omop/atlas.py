"""ATLAS (Circe) cohort definitions as SQL that a read-only role can run inside one transaction."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from federated_analytics.errors import CohortError, ConfigError, MissingExtra
from federated_analytics.omop.atlas_definition import read_definition

MAX_SQL = 500_000
"""Characters of SQL that a definition may become; the translation takes about 10 s for them."""

_CDM, _VOCABULARY = "cdm_schema_placeholder", "vocabulary_schema_placeholder"
_TABLE = "target_table_placeholder"
_SCRATCH = (
    r"(?:Codesets|qualified_events|inclusion_events|Inclusion_\d+|included_events|strategy_ends"
    r"|drugTarget|cohort_rows|final_cohort)"
)
_ALLOWED = re.compile(
    rf"(?:CREATE TEMP TABLE {_SCRATCH}\s|INSERT INTO (?:Codesets|{_TABLE}) \("
    rf"|(?:ANALYZE|TRUNCATE TABLE|DROP TABLE) {_SCRATCH}$|DELETE FROM {_TABLE} where )"
)
_WRONG_SHAPE = (AttributeError, LookupError, TypeError, ValueError)
_LIKE = re.compile(r"\blike '(%?)([^'%]*)(%?)'")
_COMMENT_LINE = re.compile(r"^\s*--.*$", re.MULTILINE)


@dataclass(frozen=True)
class CompiledCohort:
    """SQL that fills a temporary table with a cohort.

    Fields:
        table: temporary table: cohort_definition_id (always 1), subject_id, cohort_start_date,
            cohort_end_date; its name follows from the definition
        attrition: temporary table: subject_id, passed; one row a person with an entry event,
            `passed` the inclusion rules that the person's best event passed in their order
        rules: the inclusion rules' names, in that order
        statements: to run one by one in one transaction, without parameters; they need SELECT
            on the CDM and TEMPORARY on the database, and hold no "%" for a driver to misread
    """

    table: str
    attrition: str
    rules: tuple[str, ...]
    statements: tuple[str, ...]


def compile_cohort(
    definition_json: str, *, cdm_schema: str, vocabulary_schema: str
) -> CompiledCohort:
    """PostgreSQL for an ATLAS cohort definition.

    Args:
        definition_json: the JSON that ATLAS exports. It is not trusted.
        cdm_schema, vocabulary_schema: schemas of the site's tables, as they are spelled there.

    Raises:
        CohortError: the definition is unsafe, incomplete or too large.
        MissingExtra: the package duckcdm is not installed.
    """
    definition = read_definition(definition_json)
    name = hashlib.sha256(repr(definition.expression).encode()).hexdigest()[:16]
    table, attrition = f"atlas_{name}", f"atlas_{name}_attrition"
    names = {
        _CDM: _quoted(cdm_schema, "cdm-schema"),
        _VOCABULARY: _quoted(vocabulary_schema, "vocabulary-schema"),
        _TABLE: table,
    }
    statements = [
        f"CREATE TEMP TABLE IF NOT EXISTS {table} (cohort_definition_id integer, "
        "subject_id bigint, cohort_start_date date, cohort_end_date date) ON COMMIT DROP",
        f"DROP TABLE IF EXISTS pg_temp.{attrition}",
    ]
    for statement in _circe_statements(definition.expression):
        if statement == "TRUNCATE TABLE inclusion_events":
            statements.append(_attrition(attrition, len(definition.rules)))
        for placeholder, real in names.items():
            statement = statement.replace(placeholder, real)
        statements.append(statement)
    statements.append(f"ANALYZE {table}")
    return CompiledCohort(table, attrition, definition.rules, tuple(statements))


def _circe_statements(expression: dict[str, Any]) -> Iterator[str]:
    """What Circe makes of a definition, in PostgreSQL; checked to touch nothing but scratch."""
    try:
        from duckcdm import circe, sqlrender
    except ImportError as error:
        raise MissingExtra("duckcdm", "atlas", "An ATLAS cohort definition") from error
    try:
        sql = circe.build_cohort_query(
            expression,
            cdm_schema=_CDM,
            vocabulary_schema=_VOCABULARY,
            target_table=_TABLE,
            cohort_id=1,
            generate_stats=False,
        )
        if len(sql) > MAX_SQL:
            raise CohortError(
                f"The cohort definition becomes more than {MAX_SQL:,} characters of SQL.",
                remedy="Split it, or use concepts with descendants in place of long lists.",
            )
        translated = sqlrender.translate(sqlrender.render(sql), "postgresql")
    except (circe.CirceError, sqlrender.JavaError, ArithmeticError, *_WRONG_SHAPE) as error:
        raise CohortError(
            f"The cohort definition is incomplete ({str(error)[:100]}).",
            remedy="Complete it in ATLAS, where it must generate, and export it again.",
        ) from error
    for raw in sqlrender.split_sql(translated):
        statement = _COMMENT_LINE.sub("", _LIKE.sub(_without_percent, raw)).strip()
        if not _ALLOWED.match(statement) or any(sign in statement for sign in "%@{}\\;"):
            raise CohortError("The cohort definition does not become a plain query.")
        yield statement


def _without_percent(like: re.Match[str]) -> str:
    before, text, after = like.groups()
    parts = ["chr(37)"] * bool(before) + [f"'{text}'"] + ["chr(37)"] * bool(after)
    return f"like {' || '.join(parts)}"


def _attrition(table: str, rules: int) -> str:
    """Persons with an entry event, and how many rules in a row their best event passed."""
    cases = "".join(f" WHEN mask & {1 << i} = 0 THEN {i}" for i in range(rules))
    passed = f"max(CASE{cases} ELSE {rules} END)" if rules else "0"
    return (
        f"CREATE TEMP TABLE {table} ON COMMIT DROP AS "
        f"SELECT person_id AS subject_id, {passed} AS passed FROM ("
        "SELECT q.person_id, q.event_id, "
        "coalesce(bit_or(CAST(1 AS bigint) << CAST(i.inclusion_rule_id AS integer)), 0) AS mask "
        "FROM qualified_events q LEFT JOIN inclusion_events i "
        "ON i.person_id = q.person_id AND i.event_id = q.event_id "
        "GROUP BY q.person_id, q.event_id) AS entry GROUP BY person_id"
    )


def _quoted(schema: str, option: str) -> str:
    if not schema or len(schema) > 63 or not schema.isprintable() or "%" in schema:
        raise ConfigError(
            f"{schema[:80]!r} cannot be a schema's name.",
            where=option,
            remedy="Write the schema's name as PostgreSQL lists it, such as cdm.",
        )
    escaped = schema.replace('"', '""')
    return f'"{escaped}"'
