"""OHDSI's sample databases, loaded into PostgreSQL as one site or split over several.

They are not part of the repository: FEDERATED_ANALYTICS_SAMPLES names their folder, which is
else looked for in ../shared/omop. Tests that need them are skipped where it is absent.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import zipfile
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

FOLDER = Path(
    os.environ.get("FEDERATED_ANALYTICS_SAMPLES")
    or Path(__file__).resolve().parents[2] / "shared" / "omop"
)
needs_samples = pytest.mark.skipif(
    not (FOLDER / "gibleed").is_dir(), reason=f"no OHDSI sample data in {FOLDER}"
)

_NUMBERS = {
    "value_as_number",
    "range_low",
    "range_high",
    "quantity",
    "days_supply",
    "refills",
    "dose_value",
    "gap_days",
    "drug_exposure_count",
    "condition_occurrence_count",
    "latitude",
    "longitude",
}
_WHOLE = {"year_of_birth", "month_of_birth", "day_of_birth", "min_levels_of_separation"}
_WHOLE |= {"max_levels_of_separation"}
_IDENTIFIER_TEXT = {"domain_id", "vocabulary_id", "concept_class_id", "relationship_id"}
_IDENTIFIER_TEXT |= {"reverse_relationship_id", "unique_device_id", "specimen_source_id"}
_IDENTIFIER = re.compile(r"_id(_[12])?$")
_CALL = re.compile(r"date\((\w+),'unixepoch'\)")

Part = tuple[int, int]
"""(index, count): the persons whose person_id modulo count is index."""


def load_gibleed(
    url: str,
    part: Part | None = None,
    *,
    schema: str = "public",
    tables: Collection[str] | None = None,
) -> dict[str, int]:
    """Eunomia GiBleed (CDM 5.3.1, 2,694 persons) into `schema`; rows loaded by table.

    Args:
        part: the persons to load; all of them by default. Other tables are always whole.
        tables: the tables to load; all 36 by default.
    """
    return _load(url, _gibleed_files(tables), part, schema)


def load_synthea(
    url: str,
    part: Part | None = None,
    *,
    schema: str = "public",
    tables: Collection[str] | None = None,
) -> dict[str, int]:
    """Synthea27Nj (CDM 5.4, 28 persons) into `schema`, as `load_gibleed` does."""
    return _load(url, _synthea_files(tables), part, schema)


def _gibleed_files(tables: Collection[str] | None) -> Iterator[tuple[str, Iterable[str]]]:
    for path in sorted((FOLDER / "gibleed").glob("*.csv.gz")):
        table = path.name.partition(".")[0]
        if tables is None or table in tables:
            with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
                yield table, lines


def _synthea_files(tables: Collection[str] | None) -> Iterator[tuple[str, Iterable[str]]]:
    with zipfile.ZipFile(FOLDER / "synthea27nj" / "Synthea27Nj_5.4.zip") as archive:
        for name in sorted(archive.namelist()):
            table = Path(name).stem.lower()
            if name.startswith("__") or (tables is not None and table not in tables):
                continue
            with archive.open(name) as raw:
                lines = io.TextIOWrapper(raw, encoding="utf-8", newline="")
                # 14 MB of relationships that no test reads: the table stays empty.
                yield table, islice(lines, 1 if table == "concept_relationship" else None)


def _load(
    url: str, files: Iterable[tuple[str, Iterable[str]]], part: Part | None, schema: str
) -> dict[str, int]:
    loaded = {}
    with psycopg.connect(url) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        for table, lines in files:
            loaded[table] = _load_table(connection, schema, table, lines, part)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ANALYZE")
    return loaded


def _load_table(
    connection: psycopg.Connection, schema: str, table: str, lines: Iterable[str], part: Part | None
) -> int:
    rows = csv.reader(lines)
    columns = [_CALL.sub(r"\1", name.strip()).lower() for name in next(rows)]
    place = sql.Identifier(schema, table)
    typed = [sql.SQL("{} {}").format(sql.Identifier(c), sql.SQL(_type(c))) for c in columns]
    connection.execute(sql.SQL("CREATE TABLE {} ({})").format(place, sql.SQL(", ").join(typed)))
    person = columns.index("person_id") if "person_id" in columns else None
    count = 0
    with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(place)) as copy:
        for row in rows:
            if part is not None and person is not None and int(row[person]) % part[1] != part[0]:
                continue
            copy.write_row([value or None for value in row])
            count += 1
    return count


def _type(column: str) -> str:
    """SQL type of a column of the CDM, by its name."""
    if column.endswith("_date"):
        return "date"
    if column.endswith("_datetime"):
        return "timestamp"
    if column in _NUMBERS:
        return "numeric"
    if column in _WHOLE or (_IDENTIFIER.search(column) and column not in _IDENTIFIER_TEXT):
        return "bigint"
    return "text"
