"""One data set over fragments at several servers: lazy expressions on rows that stay there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from federated_analytics.fedmed import finalize, rows_of
from federated_analytics.fedmed.batch import Query, Source
from federated_analytics.fedmed.errors import AskFailed, WrongKind
from federated_analytics.fedmed.expression import Apply, Column, Expression, Filter
from federated_analytics.fedmed.finalize import Finish
from federated_analytics.fedmed.operators import RowOperators
from federated_analytics.fedmed.protocol import Ask
from federated_analytics.fedmed.reductions import ANY, Kinds, Params, Reductions
from federated_analytics.fedmed.schema import (
    TRUTH,
    ColumnSchema,
    Root,
    check_kind,
    kind_of,
    one_kind,
)
from federated_analytics.fedmed.values import Answered, Number, Values

if TYPE_CHECKING:
    from federated_analytics.fedmed.client_config import Methods
    from federated_analytics.fedmed.groups import Grouped
    from federated_analytics.fedmed.tables import Histogram, Table


@dataclass(frozen=True)
class _Options:
    """What every expression on a data set shares."""

    methods: Methods | None = None
    partial: bool = False


class FedData(RowOperators, Reductions[Number]):
    """One data set over all fragments; expressions on it are immutable and lazy.

    >>> from federated_analytics import fedmed as fm
    >>> data = fm.FedData([fm.Local({"x": [1, 2, 3]}), fm.Local({"x": [4]})])
    >>> mean = data["x"].sum() / data["x"].len()
    >>> print("Mean", mean)
    Mean 2.5
    >>> (data["x"] ** 2 > 3).sum()
    3

    Args:
        sources: `Remote` and `Local` fragments, mixed freely.
        config: a configuration in the original's form, as a path or a table: its methods are
            the names that may be asked. Without, all of FedMed's may.
        partial: answer from the servers that do, and mark it, where others do not.
    Raises:
        ConfigError: the configuration cannot be used; the message names the line.
    """

    __iter__ = None  # rows stay at the servers

    def __init__(
        self,
        sources: Iterable[Source] = (),
        config: str | Path | Mapping[str, Any] | None = None,
        *,
        partial: bool = False,
    ) -> None:
        methods = None
        if config is not None:
            from federated_analytics.fedmed.client_config import Methods

            methods = Methods.load(config)
        self._options = _Options(methods, partial)
        self._roots: tuple[Root, ...] = (Root(tuple(sources), partial),)
        self._rows: tuple[Expression, ...] = tuple(Column() for _ in self._sources)
        self._masks: tuple[Expression, ...] | None = None

    @property
    def _sources(self) -> tuple[Source, ...]:
        return self._roots[0].sources

    def register(self, sources: Iterable[Source]) -> FedData:
        """Add fragments to the data set itself, as the original has it; gives it back."""
        held = (*self._sources, *sources)
        self._roots = (Root(held, self._options.partial),)
        self._rows = tuple(Column() for _ in held)
        return self

    def _with(
        self,
        rows: Sequence[Expression],
        masks: tuple[Expression, ...] | None = None,
        roots: tuple[Root, ...] | None = None,
    ) -> FedData:
        made = object.__new__(FedData)
        made._options, made._roots = self._options, roots or self._roots
        made._rows, made._masks = tuple(rows), masks
        made._final()  # says now where it is too deep
        return made

    # Columns, filters and groups

    def __getitem__(self, key: Any) -> FedData:
        """A column by its name, or the rows for which a mask is true.

        Raises:
            UnknownColumn: no fragment has it; known once the columns have been asked for.
        """
        if isinstance(key, FedData):
            return rows_of.filtered(self, key)
        if isinstance(key, tuple):
            return self[key[0]] if len(key) == 1 else self[key[0]][key[1:]]
        rows = []
        for row in self._rows:
            if not isinstance(row, Column):
                raise WrongKind(f"An expression has no column {key!r}.", where=str(row)[:300])
            rows.append(replace(row, path=(*row.path, str(key))))
        found = self._with(rows, self._masks)
        rows_of.check_column(found)
        return found

    def groupby(self, *keys: str | FedData) -> Grouped:
        """Reductions for each level of one or more columns.

        >>> from federated_analytics import fedmed as fm
        >>> data = fm.FedData([fm.Local({"sex": ["f", "m", "f"], "age": [30, 50, 40]})])
        >>> dict(data["age"].groupby(data["sex"]).len())
        {'f': 2, 'm': 1}
        """
        from federated_analytics.fedmed.groups import Grouped

        return Grouped.of(self, keys)

    def __len__(self) -> int:
        return int(self.len())

    def _apply(self, name: str, *others: Any, reflected: bool = False) -> FedData:
        aligned = rows_of.aligned(self, others)
        if aligned is None:
            return cast(FedData, NotImplemented)
        roots, columns = aligned
        order = reversed if reflected else iter
        rows = [
            Apply(name, tuple(order((row, *rest))))
            for row, *rest in zip(self._rows, *columns, strict=True)
        ]
        made = self._with(rows, self._masks, roots)
        made._kind()
        return made

    # Reductions

    def set(self) -> Values:
        """The different values, as far as each stands on enough rows."""
        query, decode = self._query("set", "set"), self._decoder()
        return Values([query, *decode.queries], lambda: finalize.distinct(query, decode))

    def counts(self) -> Table:
        """Rows of each value, most frequent first."""
        from federated_analytics.fedmed.tables import Table

        query, decode = self._query("counts", "counts"), self._decoder()
        return Table([query, *decode.queries], lambda: finalize.levels(query, decode))

    def hist(self, bins: int | Sequence[float | date | str] = 10) -> Histogram:
        """Rows in bins.

        Args:
            bins: edges of the bins, for dates dates (or their ISO 8601 text); or their number,
                between min() and max(): then the servers are asked twice.
        """
        from federated_analytics.fedmed import histograms

        return histograms.histogram(self, bins)

    def cov(self, *columns: str) -> Table:
        """Covariance matrix (denominator n - 1) over the rows that have all columns."""
        from federated_analytics.fedmed import comoments

        return comoments.matrix(self, columns, comoments.covariances)

    def corr(self, *columns: str) -> Table:
        """Pearson's correlations over the rows that have all columns."""
        from federated_analytics.fedmed import comoments

        return comoments.matrix(self, columns, comoments.correlations)

    def __getattr__(self, name: str) -> Callable[..., Answered]:
        if name.startswith("_"):
            raise AttributeError(name)
        from federated_analytics.fedmed.client_config import own_method

        return own_method(self, self._options.methods, name)

    def _reduce(
        self, name: str, op: str, finish: Finish, wants: Kinds, params: Params | None = None
    ) -> Number:
        kind = self._kind()

        def check(found: str | None) -> None:
            check_kind(f"{name}()", wants, found, str(self._rows[0]))

        rows_of.check_some(self._sources)
        check(kind)
        query = self._query(name, op, params, wants=wants)
        total = name == "sum"
        known = total and kind == TRUTH
        return Number(
            [query], lambda: finalize.number(query, finish, check, is_total=total, is_count=known)
        )

    def _query(
        self,
        name: str,
        op: str,
        params: Params | None = None,
        by: Sequence[FedData] = (),
        more: Sequence[FedData] = (),
        wants: Kinds = ANY,
    ) -> Query:
        """Asks one reduction of every fragment; nothing is sent yet."""
        rows_of.check_some(self._sources)
        if self._options.methods is not None:
            self._options.methods.check(name)
        keys = [key._final() for key in by]
        counted = rows_of.countable(self, by) if op == "len" else self
        each = [counted._final(), *(other._final() for other in more)]
        asks = tuple(
            Ask(
                source.fragment,
                op,
                tuple(rows[i] for rows in each),
                tuple(key[i] for key in keys),
                dict(params or {}),
            )
            for i, source in enumerate(self._sources)
        )
        explain = self._explainer(name, (*by, *more), wants)
        return Query(self._sources, asks, self._options.partial, explain)

    def _explainer(self, name: str, others: Sequence[FedData], wants: Kinds) -> Callable[[], None]:
        """Asks for the columns, and raises what would have been raised had they been known."""

        def explain() -> None:
            for data in (self, *others):
                try:
                    for root in data._roots:
                        _ = root.columns
                except AskFailed:
                    return  # the query's own failures are told
                kind = data._kind()
                if data is self:
                    check_kind(f"{name}()", wants, kind, str(self._rows[0]))

        return explain

    def _final(self) -> list[Expression]:
        if self._masks is None:
            return list(self._rows)
        return [Filter(row, mask) for row, mask in zip(self._rows, self._masks, strict=True)]

    # What is known of the columns

    def _kind(self) -> str | None:
        """Kind of the rows as far as the columns are known.

        Raises:
            WrongKind: an operation does not fit its operands, or fragments do not fit each other.
        """
        self._check_columns()
        found = [
            kind_of(row, lambda column, i=i: self._lookup(column, i))  # type: ignore[misc]
            for i, row in enumerate(self._rows)
        ]
        return one_kind(found, [s.server for s in self._sources], str(self._rows[0]))

    def _check_columns(self) -> None:
        """WrongKind where fragments that have said what they have differ in a column's kind."""
        if not any(root.is_known for root in self._roots):
            return
        servers = [source.server for source in self._sources]
        each = [Ask("", "", (row,)).columns for row in self._final()]
        for columns in zip(*each, strict=False):
            kinds = [self._lookup(column, i) for i, column in enumerate(columns)]
            one_kind(kinds, servers, str(columns[0]))

    def _lookup(self, column: Column, position: int) -> str | None:
        for root in self._roots:
            source = root.sources[position]
            is_own = root is self._roots[0] and not column.fragment
            if root.is_known and (is_own or source.fragment == column.fragment):
                known = root.columns.get(column.path)
                return known.kind_at(position) if known else None
        return None

    def _decoder(self) -> rows_of.Decoder:
        """Texts of levels back to values; asks for the columns along with the rest."""
        kind = self._kind()
        if kind is not None:
            return rows_of.Decoder((), lambda: kind)
        return rows_of.Decoder((self._roots[0].query(),), self._kind)

    @property
    def schema(self) -> dict[tuple[str, ...], ColumnSchema]:
        """Columns by path below this one: their kinds, and rows as far as policies say."""
        rows_of.check_some(self._sources)
        if not isinstance(self._rows[0], Column):
            raise WrongKind("An expression has no columns.", where=str(self._rows[0])[:300])
        start = self._rows[0].path
        known = self._roots[0].columns
        return {p[len(start) :]: c for p, c in known.items() if p[: len(start)] == start}

    @property
    def columns(self) -> list[str]:
        """Names of the columns; nested ones with "/" between their keys."""
        return ["/".join(path) for path in self.schema if path]

    def __dir__(self) -> Iterable[str]:
        methods = self._options.methods
        return sorted({*super().__dir__(), *(methods.names if methods else ())})

    def __repr__(self) -> str:
        from federated_analytics.fedmed import reprs

        return reprs.text(self)

    def _repr_html_(self) -> str:
        from federated_analytics.fedmed import reprs

        return reprs.as_html(self)
