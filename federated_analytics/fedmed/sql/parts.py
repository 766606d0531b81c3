"""What a table's guard looks at: who has a value, for whom a mask is true, how values spread."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from federated_analytics.fedmed.guards import LEVEL_BINS, MOST_LEVELS, level_runs
from federated_analytics.fedmed.reduce import text_of
from federated_analytics.fedmed.sql.rows import Relation, Sql, SqlRows, ordered
from federated_analytics.fedmed.sql.table import Snapshot
from federated_analytics.omop.person_ids import apart, together
from federated_analytics.privacy.person_bitmap import PersonBitmap

_WHOLE: postgresql.ARRAY[int] = postgresql.ARRAY(sa.BigInteger())


@dataclass(frozen=True)
class TableParts:
    """As `persons.Persons` is for rows in memory; see `guards.Parts`.

    Args:
        relation: of the evaluation whose expressions are looked at.
    """

    snapshot: Snapshot
    relation: Relation

    @property
    def everybody(self) -> PersonBitmap:
        return self.snapshot.table.everybody(self.snapshot)

    def lacks_values(self, *operands: SqlRows) -> bool:
        counts: list[Sql] = [sa.func.count(), *(sa.func.count(rows.value) for rows in operands)]
        query = self._over(sa.select(*counts), operands[0])
        every, *there = tuple[int, ...](self.snapshot.fetched(query)[0])
        return any(n != every for n in there)

    def with_value(self, *operands: SqlRows) -> tuple[PersonBitmap, PersonBitmap]:
        return self._divided(operands[0], sa.and_(*(o.value.is_not(None) for o in operands)))

    def with_truth(self, rows: SqlRows) -> tuple[PersonBitmap, PersonBitmap]:
        return self._divided(rows, sa.func.coalesce(rows.value, sa.false()))

    def strata(self, by: tuple[SqlRows, ...]) -> Mapping[tuple[str, ...], PersonBitmap]:
        keys = [rows.value for rows in by]
        person: sa.ColumnElement[int] = sa.column("person", sa.BigInteger())
        query = self._over(sa.select(*keys, together(person)), by[0])
        query = query.where(*(key.is_not(None) for key in keys)).group_by(*keys)
        return {
            tuple(text_of(v, one.kind) for v, one in zip(row, by, strict=False)): (
                PersonBitmap.from_ids(apart(bytes(row[-1])))
            )
            for row in self.snapshot.fetched(query)
        }

    def levels(self, rows: SqlRows) -> Sequence[PersonBitmap] | None:
        value = rows.value
        ends: list[Sql] = [sa.func.min(value), sa.func.max(value)]
        low, high = list[Any](self.snapshot.fetched(self._over(sa.select(*ends), rows))[0])
        if low is None or not math.isfinite(high - low) or not high > low:
            return None
        between: list[Sql] = [sa.literal(float(end), sa.Double()) for end in (low, high)]
        bucket: Sql = sa.func.width_bucket(value, *between, LEVEL_BINS, type_=sa.Integer())
        place: Sql = sa.func.least(bucket, LEVEL_BINS, type_=sa.Integer()) - 1
        some = self._over(sa.select(place.label("place")).where(value.is_not(None)), rows)
        some_places = some.distinct().limit(MOST_LEVELS + 1).subquery("places")
        listed: Sql = sa.func.array_agg(some_places.c.place, type_=_WHOLE)
        runs = level_runs(list(map(int, self.snapshot.fetched(sa.select(listed))[0][0])))
        if runs is None:
            return None
        return [self._persons(rows, place.between(run.start, run.stop - 1)) for run in runs]

    def around_mean(self, rows: SqlRows) -> tuple[int, float, float]:
        value = rows.value
        first: list[Sql] = [sa.func.count(value), sa.func.avg(value)]
        n, mean = list[Any](self.snapshot.fetched(self._over(sa.select(*first), rows))[0])
        if not n:
            return 0, 0.0, 0.0
        away: Sql = sa.func.abs(value - sa.literal(float(mean), sa.Double()), type_=sa.Double())
        sums: list[Sql] = [sa.func.max(away), sa.func.sum(away)]
        largest, total = list[Any](self.snapshot.fetched(self._over(sa.select(*sums), rows))[0])
        return n, largest, total

    def spread(self, rows: SqlRows, top: int) -> tuple[int, float, float]:
        value = ordered(self.relation, rows).value
        middle = self.snapshot.fetched(
            self._over(sa.select(sa.func.percentile_cont(0.5).within_group(value)), rows)
        )[0][0]
        if middle is None:
            return 0, 0.0, 0.0
        away: Sql = sa.func.abs(value - sa.literal(float(middle), sa.Double()), type_=sa.Double())
        sums: list[Sql] = [sa.func.count().filter(away > 0), sa.func.sum(away)]
        some, total = list[Any](self.snapshot.fetched(self._over(sa.select(*sums), rows))[0])
        largest = self._over(sa.select(away.label("away")).where(value.is_not(None)), rows)
        largest = largest.order_by(sa.desc("away")).limit(top)
        return int(some), float(sum(away for (away,) in self.snapshot.fetched(largest))), total

    def _divided(self, rows: SqlRows, flag: Sql) -> tuple[PersonBitmap, PersonBitmap]:
        there = self._persons(rows, flag)
        if self.snapshot.table.is_unique and not rows.where:
            return there, self.everybody.without(there)
        return there, self._persons(rows, sa.not_(flag))

    def _persons(self, rows: SqlRows, flag: Sql) -> PersonBitmap:
        query: sa.Select[Any] = sa.select(sa.column("person")).where(
            flag, *(mask for _, mask in rows.where)
        )
        return self.snapshot.persons(query, self.relation)

    def _over(self, query: sa.Select[Any], rows: SqlRows) -> sa.Select[Any]:
        masks = (mask for _, mask in rows.where)
        return query.select_from(self.relation.rows()).where(*masks)
