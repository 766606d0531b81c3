"""The persons of a frame, as numbers: for the comparison with other populations at the site."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from federated_analytics.omop.frame import Frame

_TOGETHER = 8_192
"""Numbers in a row: 64 KiB."""


def person_ids(connection: sa.Connection, frame: Frame) -> NDArray[np.int64] | None:
    """Every person of a frame, 8 bytes each; None for a flat table that names no persons."""
    if "person_id" not in frame.relation.c:
        return None
    person = sa.cast(frame.person_id, sa.BigInteger)
    return numbers(connection, sa.select(person).where(frame.person_id.is_not(None)))


def numbers(connection: sa.Connection, query: sa.Select[Any]) -> NDArray[np.int64]:
    """What a query of one bigint column gives, in any order. DatabaseError where it gives none.

    Thousands come in one row: a row each costs more to read than to find.
    """
    given = query.subquery("given")
    number = given.c[0].label("number")
    # The place among all rows: groups of few are spilled to disk beyond PostgreSQL's work_mem.
    place: sa.ColumnElement[int] = sa.func.row_number().over()
    piece = place.op("/")(sa.literal_column(str(_TOGETHER)))  # of whole numbers, without the rest
    placed = sa.select(number, piece.label("piece"))
    pieces = placed.subquery("pieces")
    query = sa.select(together(pieces.c.number)).group_by(pieces.c.piece)
    return apart(b"".join(map(bytes, connection.execute(query).scalars())))


def together(number: sa.ColumnElement[int]) -> sa.ColumnElement[bytes]:
    """An aggregate: bigints as one value, 8 bytes each, in any order."""
    packed: sa.ColumnElement[bytes] = sa.func.string_agg(
        sa.func.int8send(number), sa.literal_column("''::bytea"), type_=sa.LargeBinary()
    )
    return packed


def apart(packed: bytes) -> NDArray[np.int64]:
    """The numbers that `together` made one value of."""
    import numpy as np

    return np.frombuffer(packed, dtype=">i8").astype(np.int64)
