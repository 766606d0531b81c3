"""Rows of a hospital's schema, for the tests of the synthetic data."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql


def one(connection: psycopg.Connection[Any], schema: str, query: str) -> tuple[Any, ...]:
    connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(schema)))
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return tuple(row)
