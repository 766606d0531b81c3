"""Persons come from the database as they are, many in a row."""

from __future__ import annotations

import numpy as np
import pytest
import sqlalchemy as sa

from federated_analytics.omop.database import database_url
from federated_analytics.omop.person_ids import numbers

ENDS = [-(2**63), -1, 0, 1, 2**63 - 1]


@pytest.mark.parametrize("rows", [0, 1, 8_191, 8_192, 8_193, 20_000])
def test_every_number_comes_once(database: str, rows: int) -> None:
    values: sa.ColumnElement[int] = sa.func.generate_series(1, rows, type_=sa.BigInteger())
    some = sa.select((values * 7 - 30).label("n"))
    ends = [sa.select(sa.literal(end, sa.BigInteger())) for end in ENDS]
    engine = sa.create_engine(database_url(database))
    with engine.connect() as connection:
        found = numbers(connection, some)
        all_found = numbers(connection, sa.select(sa.union_all(some, *ends).subquery()))
    engine.dispose()
    assert found.dtype == np.int64
    assert sorted(found) == [7 * i - 30 for i in range(1, rows + 1)]
    assert sorted(all_found) == sorted([*found, *ENDS])
