"""Numbers near a column's values, from which its moments are taken without losing digits.

PostgreSQL sums the values as they are: of 10,000,000.1, 10,000,000.3 … with a standard deviation
of 0.1 it gives two digits less than doubles allow. Taken from a number nearby, it gives them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from federated_analytics.omop.frame import Frame

SAMPLE_ROWS = 1_000
_SHARES = (0.05, 0.5, 0.95)


def with_origins(connection: sa.Connection, frame: Frame) -> Frame:
    """The frame with an origin for each numeric column whose values lie close together.

    It is the middle of the feature's plausible range where that is narrow, and else comes from
    the first rows: reading all of them would cost as much as the analysis itself.
    """
    flat = frame.attrition is None  # its values are not held to the plausible range
    unknown = []
    origins: dict[str, float] = {}
    for name, column in frame.columns.items():
        feature = column.feature
        if feature.type != "numeric" or feature.aggregation == "count":
            continue
        if feature.range is not None and not flat:
            low, high = feature.range
            origins[name] = origin(low, (low + high) / 2, high)
        else:
            unknown.append(name)
    origins |= _sampled(connection, frame, unknown)
    columns = {n: replace(c, origin=origins.get(n, 0.0)) for n, c in frame.columns.items()}
    return replace(frame, columns=columns)


def origin(low: float, middle: float, high: float) -> float:
    """`middle` where low and high lie within a factor of two of it, and else 0.

    Then the differences from it are exact (Sterbenz), and no stratum's values can be so much
    smaller than the origin that digits are lost instead of won.
    """
    near = middle != 0 and 0.5 <= low / middle <= 2 and 0.5 <= high / middle <= 2
    return float(middle) if near else 0.0


def _sampled(connection: sa.Connection, frame: Frame, names: list[str]) -> Mapping[str, float]:
    if not names:
        return {}
    values: list[sa.ColumnElement[Any]] = [
        sa.cast(frame.columns[name].value, sa.Double).label(f"v{i}") for i, name in enumerate(names)
    ]
    rows = sa.select(*values).select_from(frame.relation).limit(SAMPLE_ROWS).subquery("sample")
    shares = sa.cast(sa.literal(list(_SHARES), ARRAY(sa.Double)), ARRAY(sa.Double))
    found = connection.execute(
        sa.select(
            *(
                sa.func.percentile_disc(shares).within_group(rows.c[f"v{i}"]).label(f"q{i}")
                for i in range(len(names))
            )
        )
    ).one()
    quantiles = found._mapping
    return {
        name: origin(*quantiles[f"q{i}"])
        for i, name in enumerate(names)
        if quantiles[f"q{i}"] is not None
    }
