"""The persons of a frame, as numbers: for the comparison with other populations at the site."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from federated_analytics.omop.frame import Frame

_HEADER = 19
"""Bytes before the rows in PostgreSQL's binary COPY: signature, flags, length of an extension."""
_END = 2


def person_ids(connection: sa.Connection, frame: Frame) -> NDArray[np.int64] | None:
    """Every person of a frame, 8 bytes each; None for a flat table that names no persons."""
    if "person_id" not in frame.relation.c:
        return None
    person = sa.cast(frame.person_id, sa.BigInteger)
    return copied_numbers(connection, sa.select(person).where(frame.person_id.is_not(None)))


def copied_numbers(connection: sa.Connection, query: sa.Select[Any]) -> NDArray[np.int64]:
    """What a query of one bigint column gives, by COPY. DatabaseError where it gives none.

    References: PostgreSQL 18 documentation, COPY, Binary Format
    """
    import numpy as np

    compiled = query.compile(
        dialect=connection.dialect, compile_kwargs={"render_postcompile": True}
    )
    copying = f"COPY ({compiled}) TO STDOUT (FORMAT BINARY)"
    driver = connection.connection.driver_connection
    assert driver is not None
    with driver.cursor().copy(copying, compiled.params) as copy:
        body = b"".join(bytes(part) for part in copy)
    row = np.dtype([("fields", ">i2"), ("length", ">i4"), ("person", ">i8")])
    rows = np.frombuffer(body[_HEADER:-_END], dtype=row)
    return rows["person"].astype(np.int64)
