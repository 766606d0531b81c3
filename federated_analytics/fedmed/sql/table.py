"""A table of a PostgreSQL database, and what a request sees of it: one snapshot."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from federated_analytics.errors import ConfigError, did_you_mean
from federated_analytics.fedmed.fragments import DATE, NUMBER, TEXT, TRUTH, Keys, UnsupportedData
from federated_analytics.fedmed.sql.rows import (
    Relation,
    Sql,
    SqlRows,
    datable,
    within_bounds,
)
from federated_analytics.omop.database import connect_options, database_url, explained, transaction
from federated_analytics.privacy.person_bitmap import PersonBitmap

SECONDS = 60.0


@dataclass(frozen=True)
class SQLTable:
    """A table, a view or a query of a PostgreSQL database as a fragment.

    Every expression becomes SQL: rows stay in the database, and an answer is of what they are at
    that moment. The role needs no more than SELECT.

    Args:
        database: a SQLAlchemy URL or engine.
        table: a name, with its schema where need be ("clinic.visits"); or a SQLAlchemy Table or
            Select.
        key: the column that tells persons apart, of whole numbers, text or UUIDs; the primary key
            where left out.
        seconds: limit of each statement.

    >>> from federated_analytics import fedmed as fm
    >>> table = fm.SQLTable("postgresql://reader@localhost/clinic", "visits", key="patient_id")
    """

    database: str | sa.Engine
    table: str | sa.Table | sa.Select[Any]
    key: str = ""
    seconds: float = SECONDS

    def open(self, *, keyed: bool) -> TableFragment:
        """The table, looked at once.

        Args:
            keyed: persons are compared, so that a key is needed.
        Raises:
            ConfigError: no such table or column, no key, another database than PostgreSQL.
            DatabaseError: the database cannot be asked.
        """
        engine = _engine(self.database, self.seconds)
        try:
            source = _source(self.table, engine)
        except exc.SQLAlchemyError as error:
            raise explained(error) from error
        primary = [c.name for c in source.primary_key] if isinstance(source, sa.Table) else []
        name = self.key or (primary[0] if len(primary) == 1 else "")
        if name and name not in source.c:
            raise ConfigError(
                f"The table has no column {name[:60]!r}.",
                where="key",
                remedy=did_you_mean(name, list(source.c.keys())),
            )
        if keyed and not name:
            raise ConfigError(
                "Nothing tells whose a row of the table is.",
                where="key",
                remedy="Name the column of the persons: fm.SQLTable(…, key='patient_id').",
            )
        columns: dict[Keys, SqlRows] = {
            (c.name,): held for c in source.c if (held := _held(c)) is not None
        }
        if not columns:
            raise UnsupportedData(
                "The table has no column of numbers, truth values, text or dates."
            )
        person = _person(source.c[name]) if name else None
        return TableFragment(engine, source, columns, person, primary == [name], self.seconds)


@dataclass
class TableFragment:
    """An open table.

    Fields:
        columns: by path, SQL of the value and its kind; columns of other types are left out
        person: whose a row is, as a bigint
        is_unique: every row is another person's
    """

    engine: sa.Engine
    source: sa.FromClause
    columns: dict[Keys, SqlRows]
    person: Sql | None
    is_unique: bool
    seconds: float

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._everybody: tuple[str, PersonBitmap] | None = None

    @property
    def kinds(self) -> Mapping[Keys, str]:
        return {path: held.kind for path, held in self.columns.items()}

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """The table in one transaction. DatabaseError where it cannot be asked."""
        with transaction(self.engine, self.seconds) as connection:
            yield Snapshot(self, connection, _version(connection, self))

    def everybody(self, snapshot: Snapshot) -> PersonBitmap:
        """Everyone who has a row; kept for as long as the version lasts."""
        with self._lock:
            held = self._everybody
        if held is None or held[0] != snapshot.version:
            relation = snapshot.relation()
            found = snapshot.range(relation) if self.is_unique else None
            if found is None:
                found = snapshot.persons(sa.select(sa.column("person")), relation)
            held = snapshot.version, found
            with self._lock:
                self._everybody = held
        return held[1]


@dataclass(frozen=True)
class Snapshot:
    """A table as one transaction sees it.

    Fields:
        version: another wherever rows were added or taken away
    """

    table: TableFragment
    connection: sa.Connection
    version: str

    @property
    def kinds(self) -> Mapping[Keys, str]:
        return self.table.kinds

    @property
    def parses_dates(self) -> bool:
        return (self.connection.dialect.server_version_info or (0,)) >= (16,)

    def relation(self) -> Relation:
        return Relation(self.table.source, self.table.columns, self.table.person)

    def rows(self) -> int:
        counted: Sql = sa.func.count()
        query = sa.select(counted).select_from(self.table.source)
        return int(self.connection.execute(query).scalar_one())

    def fetched(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        """The rows of a query of aggregates."""
        return self.connection.execute(query).all()

    def range(self, relation: Relation) -> PersonBitmap | None:
        """Everyone, where each row is another one's and their keys follow on each other."""
        person: Sql = sa.column("person")
        ends: list[Sql] = [sa.func.min(person), sa.func.max(person), sa.func.count(person)]
        query = sa.select(*ends).select_from(relation.rows())
        low, high, persons = list[Any](self.fetched(query)[0])
        if not persons or high - low + 1 != persons:
            return None
        return PersonBitmap.from_range(low, high)

    def persons(self, query: sa.Select[Any], relation: Relation) -> PersonBitmap:
        """The persons that a query of one column, a bigint, gives; 8 bytes each on the way."""
        from federated_analytics.omop.person_ids import numbers

        return PersonBitmap.from_ids(numbers(self.connection, query.select_from(relation.rows())))


def _version(connection: sa.Connection, table: TableFragment) -> str:
    """Of the rows that there are: it changes with their persons, not with a value."""
    counted: list[Sql] = [sa.func.count()]
    if table.person is not None:
        hashed = sa.func.hashint8extended(table.person, sa.literal(0, sa.BigInteger()))
        counted.append(sa.func.sum(hashed))
    found = connection.execute(sa.select(*counted).select_from(table.source)).one()
    return hashlib.sha256(repr(tuple(map(str, found))).encode()).hexdigest()[:12]


def _engine(database: str | sa.Engine, seconds: float) -> sa.Engine:
    if isinstance(database, str):
        return sa.create_engine(
            database_url(database),
            connect_args=connect_options(seconds),
            isolation_level="REPEATABLE READ",
            hide_parameters=True,
            pool_pre_ping=True,
        )
    if database.dialect.name != "postgresql" or database.dialect.driver != "psycopg":
        raise ConfigError(
            f"A table of {database.dialect.name} ({database.dialect.driver}) is not asked.",
            where="database",
            remedy="Give an engine of postgresql+psycopg, or the path of a Parquet or CSV file.",
        )
    return database.execution_options(isolation_level="REPEATABLE READ")


def _source(table: str | sa.Table | sa.Select[Any], engine: sa.Engine) -> sa.FromClause:
    if isinstance(table, sa.Select):
        return table.subquery("fragment")
    if isinstance(table, sa.Table):
        return table
    schema, _, name = table.rpartition(".")
    try:
        return sa.Table(name, sa.MetaData(), schema=schema or None, autoload_with=engine)
    except exc.NoSuchTableError as error:
        names = sa.inspect(engine).get_table_names(schema or None)
        raise ConfigError(
            f"There is no table {table[:100]!r}.",
            where="table",
            remedy=did_you_mean(name, names) or "The role may lack USAGE of the schema.",
        ) from error


def _person(column: Sql) -> Sql:
    """Whose a row is; of who is not named, one person."""
    if isinstance(column.type, sa.Integer):
        number: Sql = sa.cast(column, sa.BigInteger())
    else:
        text, seed = sa.cast(column, sa.Text()), sa.literal(0, sa.BigInteger())
        number = sa.func.hashtextextended(text, seed, type_=sa.BigInteger())
    return sa.func.coalesce(number, sa.literal(-1, sa.BigInteger()), type_=sa.BigInteger())


def _held(column: Sql) -> SqlRows | None:
    """A column as a value that is NULL where it is missing; None of a type that is not read."""
    kind = column.type
    if isinstance(kind, sa.Boolean):
        return SqlRows(sa.type_coerce(column, sa.Boolean()), TRUTH)
    if isinstance(kind, sa.Integer):
        high = 2.0**63 if isinstance(kind, sa.BigInteger) else 2.0**31
        value: Sql = sa.cast(column, sa.Double())
        return SqlRows(value, NUMBER, low=1.0, high=high, whole=high < 2**53)
    if isinstance(
        kind, sa.Numeric | sa.Float
    ):  # doubles too; a numeric may be beyond what a double holds
        return SqlRows(within_bounds(column), NUMBER)
    if isinstance(kind, sa.DateTime) and kind.timezone:
        moment = sa.func.timezone("UTC", column, type_=sa.DateTime())
        return SqlRows(datable(moment), DATE)
    if isinstance(kind, sa.Date | sa.DateTime):
        return SqlRows(datable(sa.cast(column, sa.DateTime())), DATE)
    if isinstance(kind, sa.String | sa.Uuid):
        return SqlRows(sa.cast(column, sa.Text()), TEXT)
    return None
