"""Reductions for each level of one or more columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from federated_analytics.fedmed import finalize, rows_of
from federated_analytics.fedmed.errors import WrongKind
from federated_analytics.fedmed.expression import Column
from federated_analytics.fedmed.finalize import Finish
from federated_analytics.fedmed.lazy import Outcome, joined
from federated_analytics.fedmed.reductions import ANY, Kinds, Params, Reductions
from federated_analytics.fedmed.schema import check_kind
from federated_analytics.fedmed.tables import Rows, Table

if TYPE_CHECKING:
    from federated_analytics.fedmed.data import FedData


class Grouped(Reductions[Table]):
    """A data set by group; each reduction gives a table of one number a group.

    >>> from federated_analytics import fedmed as fm
    >>> data = fm.FedData([fm.Local({"sex": ["f", "m", "f"], "age": [30, 50, 40]})])
    >>> data.groupby("sex").mean()
    sex  age
    f     35
    m     50
    """

    def __init__(self, data: FedData, keys: tuple[FedData, ...], names: tuple[str, ...]) -> None:
        self._data, self._keys, self._names = data, keys, names

    @classmethod
    def of(cls, data: FedData, keys: Sequence[Any]) -> Grouped:
        """`data` by columns that are named, or given as data sets over the same rows."""
        flat = [k for key in keys for k in (key if isinstance(key, list) else [key])]
        if not flat:
            raise TypeError("groupby takes at least one column")
        found = [data[key] if isinstance(key, str) else key for key in flat]
        aligned = rows_of.aligned(data, found)
        if aligned is None:
            raise TypeError("groupby takes names of columns, or expressions over the same rows")
        roots, columns = aligned
        keyed = tuple(data._with(tuple(c), data._masks, roots) for c in columns)
        names = tuple(_name(key) for key in found)
        return cls(data._with(data._rows, data._masks, roots), keyed, names)

    def __getitem__(self, column: str) -> Grouped:
        return type(self)(self._data[column], self._keys, self._names)

    def _reduce(
        self, name: str, op: str, finish: Finish, wants: Kinds, params: Params | None = None
    ) -> Table:
        if wants != ANY and self._is_table():
            each = self._columns(wants)
            return _side_by_side([self._one(c, name, op, finish, wants, params) for c in each])
        return self._one(self._data, name, op, finish, wants, params)

    def _one(
        self, data: FedData, name: str, op: str, finish: Finish, wants: Kinds, params: Params | None
    ) -> Table:
        def check(kind: str | None) -> None:
            check_kind(f"{name}()", wants, kind, str(data._rows[0]))

        check(data._kind())
        query = data._query(name, op, params, by=self._keys, wants=wants)
        decoders = [key._decoder() for key in self._keys]
        column = _name(data) or name

        def decode(levels: tuple[str, ...]) -> tuple[Any, ...]:
            return tuple(d(level) for d, level in zip(decoders, levels, strict=True))

        def compute() -> Outcome[Rows]:
            return finalize.groups(query, finish, self._names, column, decode, check)

        return Table([query, *(q for d in decoders for q in d.queries)], compute)

    def _is_table(self) -> bool:
        row = self._data._rows[0]
        if not isinstance(row, Column) or row.path:
            return False
        return () not in self._data._roots[0].columns

    def _columns(self, wants: Kinds) -> list[FedData]:
        """The columns of such kinds that are no keys; mixed kinds are left out as pandas does."""
        taken = {key._rows[0] for key in self._keys}
        found = [
            self._data[path] for path, column in self._data.schema.items() if column.kind in wants
        ]
        columns = [column for column in found if column._rows[0] not in taken]
        if not columns:
            raise WrongKind("There is no column to reduce.")
        return columns


def _name(data: FedData) -> str:
    row = data._rows[0]
    if isinstance(row, Column):
        return row.path[-1] if row.path else ""
    return str(row)


def _side_by_side(tables: list[Table]) -> Table:
    def compute() -> Outcome[Rows]:
        outcomes = [table.outcome for table in tables]
        each = [outcome.value for outcome in outcomes]
        keys = dict.fromkeys(key for rows in each for key in rows.rows)
        merged = {key: tuple(rows.rows.get(key, (None,))[0] for rows in each) for key in keys}
        columns = tuple(rows.columns[0] for rows in each)
        found = joined(Rows(each[0].keys, columns, merged), outcomes)
        return replace(found, marks=tuple(dict.fromkeys(found.marks)))

    return Table([query for table in tables for query in table.queries], compute, tables)
