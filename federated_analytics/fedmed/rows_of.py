"""Which data sets may be combined row by row, checked before anything is asked of the rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from federated_analytics.fedmed.batch import Query, Source
from federated_analytics.fedmed.errors import Mismatch, UnknownColumn, WrongKind
from federated_analytics.fedmed.expression import Apply, Column, Expression, Filter, walk
from federated_analytics.fedmed.schema import TRUTH, Path, Root, constant, decoded
from federated_analytics.fedmed.values import Number

if TYPE_CHECKING:
    from federated_analytics.fedmed.data import FedData

Aligned = tuple[tuple[Root, ...], list[Sequence[Expression]]]


@dataclass(frozen=True)
class Decoder:
    """Values from the texts of levels, once the kind of the rows is known.

    Fields:
        queries: what must be answered first
    """

    queries: tuple[Query, ...]
    kind: Callable[[], str | None]

    def __call__(self, level: str) -> Any:
        return decoded(level, self.kind())


def check_some(sources: Sequence[Source]) -> None:
    """Mismatch where a data set has no fragments."""
    if not sources:
        raise Mismatch(
            "The data set has no fragments.", remedy="FedData([fm.Remote(…), …]) names them."
        )


def countable(data: FedData, by: Sequence[FedData]) -> FedData:
    """Rows to count in place of a whole table's: a key's or a mask's, which are as many."""
    if not all(isinstance(row, Column) and not row.path for row in data._rows):
        return data
    if by:
        return by[0]
    return data._with(data._masks, data._masks) if data._masks is not None else data


def filtered(data: FedData, mask: FedData) -> FedData:
    """The rows for which a mask over the same rows is true."""
    kind = mask._kind()
    if kind is not None and kind != TRUTH:
        raise WrongKind(
            f"A filter is a mask, not {kind}.",
            where=str(mask._rows[0])[:300],
            remedy="Compare it with something: data[data['age'] > 40].",
        )
    over = data if mask._masks is not None else data._with(data._rows, None)
    found = aligned(over, [mask])
    assert found is not None
    roots, (rows,) = found
    masks = tuple(rows)
    if data._masks is not None:
        pairs = zip(data._masks, masks, strict=True)
        masks = tuple(Apply("and", pair) for pair in pairs)
    return data._with(data._rows, masks, roots)


def aligned(data: FedData, others: Sequence[Any]) -> Aligned | None:
    """The operands' rows as the servers of `data` see them; None for what is no operand.

    Raises:
        Mismatch: other servers, another order, another number of fragments or rows, or rows
            under another mask.
    """
    roots, columns = data._roots, []
    for other in others:
        if hasattr(other, "_roots") and hasattr(other, "_masks"):
            roots, rows = _beside(data, other, roots)
            columns.append(rows)
            continue
        try:
            value = constant(other.value if isinstance(other, Number) else other)
        except TypeError:
            return None
        columns.append([value] * len(data._sources))
    return roots, columns


def _beside(
    data: FedData, other: FedData, roots: tuple[Root, ...]
) -> tuple[tuple[Root, ...], Sequence[Expression]]:
    first, second = data._roots[0], other._roots[0]
    rows, masks = other._rows, other._masks
    if first is not second and not first.has_same_fragments(second):
        _same_servers(first, second)
        rows = tuple(_named(r, a, b) for r, a, b in _with_sources(rows, first, second))
        if masks is not None:
            masks = tuple(_named(m, a, b) for m, a, b in _with_sources(masks, first, second))
        roots = (*roots, *(root for root in other._roots if root not in roots))
        for root in (first, second):
            root.query()
    if masks != data._masks:
        raise Mismatch(
            "The two stand on rows under different masks.",
            where=f"{data._rows[0]} and {rows[0]}"[:300],
            remedy="Filter after combining: (data['a'] + data['b'])[mask].",
        )
    _same_lengths((*data._rows, *rows), roots, len(first.sources), asks=len(roots) > 1)
    return roots, rows


def _with_sources(rows: Sequence[Expression], first: Root, second: Root) -> Any:
    return zip(
        rows,
        (source.fragment for source in first.sources),
        (source.fragment for source in second.sources),
        strict=True,
    )


def _same_servers(first: Root, second: Root) -> None:
    if len(first.sources) != len(second.sources):
        raise Mismatch(
            f"{len(first.sources)} fragments are not combined with {len(second.sources)}.",
            remedy="Register the same fragments' servers in both data sets.",
        )
    for a, b in zip(first.sources, second.sources, strict=True):
        if (a.channel, a.server) != (b.channel, b.server):
            raise Mismatch(
                f"{a.fragment!r} is at {a.server}, and {b.fragment!r} at {b.server}.",
                remedy="Rows are combined at one server: name the fragments in the same order.",
            )


def _named(expression: Expression, own: str, fragment: str) -> Expression:
    """An expression over `fragment` as one over `own` of the same server writes it."""
    if isinstance(expression, Column):
        name = expression.fragment or fragment
        return replace(expression, fragment="" if name == own else name)
    if isinstance(expression, Apply):
        arguments = tuple(_named(a, own, fragment) for a in expression.arguments)
        return replace(expression, arguments=arguments)
    if isinstance(expression, Filter):
        parts = (_named(e, own, fragment) for e in (expression.rows, expression.mask))
        return Filter(*parts)
    return expression


def _same_lengths(
    rows: Sequence[Expression], roots: tuple[Root, ...], size: int, *, asks: bool
) -> None:
    """Mismatch where a server says that two columns have different numbers of rows."""
    known = {id(root): root.columns for root in roots if asks or root.is_known}
    for position in range(size):
        lengths: dict[int, Column] = {}
        for column in (n for row in rows[position::size] for n in walk(row)):
            if not isinstance(column, Column):
                continue
            root = _root_of(column, roots, position)
            columns = known.get(id(root)) or {}
            found = columns.get(column.path)
            if found is not None and (length := found.rows[position]) is not None:
                lengths.setdefault(length, column)
        if len(lengths) > 1:
            (n, a), (m, b) = list(lengths.items())[:2]
            source = roots[0].sources[position]
            raise Mismatch(
                f"{a} has {n} rows and {b} has {m}.",
                where=f"{source.server}, fragment {source.fragment!r}",
                remedy="Element-wise operations are between columns of equal length.",
            )


def _root_of(column: Column, roots: tuple[Root, ...], position: int) -> Root | None:
    if not column.fragment:
        return roots[0]
    for root in roots:
        if root.sources[position].fragment == column.fragment:
            return root
    return None


def check_column(data: FedData) -> None:
    """UnknownColumn where the fragments have said what they have, and it is not there."""
    root, row = data._roots[0], data._rows[0] if data._rows else None
    if not root.is_known or not isinstance(row, Column) or is_path(row.path, root.columns):
        return
    root.forget()  # it may be new
    check_path(row.path, root.columns)


def is_path(path: Path, known: Collection[Path]) -> bool:
    """Whether a column, or a table of columns, is at a path."""
    return not path or any(column[: len(path)] == path for column in known)


def check_path(path: Path, known: Collection[Path]) -> None:
    """UnknownColumn, which lists what there is beside it, where nothing is at a path."""
    if is_path(path, known):
        return
    depth = next(i for i in range(1, len(path) + 1) if not is_path(path[:i], known))
    beside = {c[depth - 1] for c in known if c[: depth - 1] == path[: depth - 1] and c[depth - 1 :]}
    raise UnknownColumn(path[depth - 1], beside)
