"""What a table's guard looks at: who has a value, for whom a mask is true, how values spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from federated_analytics.fedmed.sql.rows import Relation, Sql, SqlRows, ordered
from federated_analytics.fedmed.sql.table import Snapshot
from federated_analytics.privacy.person_bitmap import PersonBitmap


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

    def lacks_values(self, rows: SqlRows) -> bool:
        counts: list[Sql] = [sa.func.count(), sa.func.count(rows.value)]
        found = tuple[int, ...](self.snapshot.fetched(self._over(sa.select(*counts), rows))[0])
        return bool(found[0] != found[1])

    def with_value(self, rows: SqlRows) -> tuple[PersonBitmap, PersonBitmap]:
        return self._divided(rows, rows.value.is_not(None))

    def with_truth(self, rows: SqlRows) -> tuple[PersonBitmap, PersonBitmap]:
        return self._divided(rows, sa.func.coalesce(rows.value, sa.false()))

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
