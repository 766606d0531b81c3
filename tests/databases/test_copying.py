"""What is encoded is what PostgreSQL reads."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import psycopg
import pytest

from federated_analytics.databases.copying import Block, Decimals, copy_block, split_by_null


@pytest.fixture
def cursor(database: str) -> Iterator[psycopg.Cursor[Any]]:
    with psycopg.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMP TABLE t (i int, d date, x numeric, f float8, b bool, s text, c text)"
        )
        yield cursor


def written(cursor: psycopg.Cursor[Any], blocks: list[Block]) -> list[tuple[Any, ...]]:
    (schema,) = cursor.execute("SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()")
    for block in blocks:
        copy_block(cursor, block, schema[0])
    return cursor.execute("SELECT * FROM t ORDER BY i").fetchall()


def test_every_kind_of_column(cursor: psycopg.Cursor[Any]) -> None:
    block = Block(
        "t",
        {
            "i": np.array([-5, 2**31 - 1]),
            "d": np.array(["1899-12-31", "2024-02-29"], dtype="datetime64[D]"),
            "x": Decimals(np.array([0.0, 9999.99]), 2),
            "f": np.array([1.5, -2e300]),
            "b": np.array([True, False]),
            "s": np.array([b"F", b"M"]),
            "c": "Köln",
        },
    )
    assert written(cursor, [block]) == [
        (-5, datetime.date(1899, 12, 31), Decimal("0.00"), 1.5, True, "F", "Köln"),
        (2**31 - 1, datetime.date(2024, 2, 29), Decimal("9999.99"), -2e300, False, "M", "Köln"),
    ]


@pytest.mark.parametrize("places", [0, 1, 2, 3, 4])
def test_decimals_are_rounded_to_their_places(cursor: psycopg.Cursor[Any], places: int) -> None:
    values = np.random.default_rng(places).uniform(0, 9_999, 500)
    block = Block("t", {"i": np.arange(500), "x": Decimals(values, places)})
    read = [row[2] for row in written(cursor, [block])]
    assert [str(x) for x in read] == [f"{v:.{places}f}" for v in values]


def test_missing_values_are_null(cursor: psycopg.Cursor[Any]) -> None:
    columns = {
        "i": np.arange(4),
        "x": Decimals(np.array([1.0, 2.0, 3.0, 4.0]), 0),
        "f": np.array([1.0, 2.0, 3.0, 4.0]),
    }
    missing = {
        "x": np.array([True, False, True, False]),
        "f": np.array([True, True, False, False]),
    }
    rows = written(cursor, list(split_by_null("t", columns, missing)))
    assert [(row[2], row[3]) for row in rows] == [(None, None), (2, None), (None, 3), (4, 4)]


def test_no_rows_no_copy(cursor: psycopg.Cursor[Any]) -> None:
    assert written(cursor, [Block("t", {"i": np.array([], dtype=np.int64), "c": "x"})]) == []
