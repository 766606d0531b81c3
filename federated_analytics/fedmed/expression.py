"""An expression over a fragment's rows: a typed tree that travels as data, never as code."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from federated_analytics.errors import WireError

Scalar = bool | int | float | str

MAX_NODES = 2_000
MAX_DEPTH = 100
MAX_TEXT = 1_000

ARITHMETIC = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**"}
COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
LOGIC = {"and": "&", "or": "|"}
UNARY = {"neg": "-", "abs": "abs", "not": "~"}
INFIX = {**ARITHMETIC, **COMPARISONS, **LOGIC}
MASKS = frozenset({*COMPARISONS, *LOGIC, "not"})
"""Operations whose result is true or false for each row."""
PARTS = {"date": 1, "year": 1, "month": 1, "day": 1, "days": 1}
"""Operations on dates; `date` turns ISO 8601 text into one, `days` counts from 1970-01-01.
Constants of dates are ISO text."""
ROUND = "round"
"""The nearest multiple of a step, halves up; its second operand is a positive constant."""
ARITY = {**dict.fromkeys(INFIX, 2), **dict.fromkeys(UNARY, 1), **PARTS, ROUND: 2}


@dataclass(frozen=True)
class Column:
    """One column of a fragment.

    Fields:
        path: keys from the fragment down; empty where the fragment is itself a column
        fragment: another fragment of the same server, of equal length; "" for the ask's own
    """

    path: tuple[str, ...] = ()
    fragment: str = ""
    depth: ClassVar[int] = 0
    size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_names((self.fragment, *self.path))

    def __str__(self) -> str:
        name = "".join(f"[{key!r}]" for key in self.path)
        return f"{self.fragment}{name}" if self.fragment else f"data{name}"


@dataclass(frozen=True)
class Constant:
    """A number, truth value or text, the same for each row; dates are ISO 8601 text."""

    value: Scalar
    depth: ClassVar[int] = 0
    size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if isinstance(self.value, float) and not math.isfinite(self.value):
            raise WireError("A constant is a finite number.")
        if isinstance(self.value, str) and len(self.value) > MAX_TEXT:
            raise WireError(f"A text constant has at most {MAX_TEXT} characters.")

    def __str__(self) -> str:
        return repr(self.value)


@dataclass(frozen=True)
class Apply:
    """An operation on each row; `name` is a key of `ARITY` or an operation of the server's own.

    Fields:
        depth, size: levels below this one, and parts with this one; both are limited, so that
            whatever walks an expression comes to an end
    """

    name: str
    arguments: tuple[Expression, ...]
    depth: int = field(init=False, compare=False, repr=False)
    size: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_names((self.name,))
        wanted = ARITY.get(self.name)
        if wanted is not None and wanted != len(self.arguments):
            raise WireError(f"{self.name} takes {wanted} operands, not {len(self.arguments)}.")
        if self.name == ROUND:
            _check_step(self.arguments[1])
        _measure(self, self.arguments)

    def __str__(self) -> str:
        if self.name in INFIX:
            left, right = self.arguments
            return f"({left} {INFIX[self.name]} {right})"
        if self.name in ("neg", "not"):
            return f"{UNARY[self.name]}{self.arguments[0]}"
        return f"{self.name}({', '.join(map(str, self.arguments))})"

    @property
    def is_mask(self) -> bool:
        return self.name in MASKS


@dataclass(frozen=True)
class Filter:
    """The rows of an expression for which a mask over the same fragment is true."""

    rows: Expression
    mask: Expression
    depth: int = field(init=False, compare=False, repr=False)
    size: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        _measure(self, (self.rows, self.mask))

    def __str__(self) -> str:
        return f"{self.rows}[{self.mask}]"


Expression = Column | Constant | Apply | Filter


def _measure(node: Apply | Filter, parts: tuple[Expression, ...]) -> None:
    """Note how deep and large a node is. WireError where that is too much."""
    depth = 1 + max((part.depth for part in parts), default=0)
    size = 1 + sum(part.size for part in parts)
    if depth > MAX_DEPTH or size > MAX_NODES:
        raise _too_much()
    object.__setattr__(node, "depth", depth)
    object.__setattr__(node, "size", size)


def _too_much() -> WireError:
    return WireError(
        f"An expression has at most {MAX_NODES} parts, {MAX_DEPTH} deep.",
        remedy="Ask for its parts one by one.",
    )


def _check_step(step: Expression) -> None:
    value = step.value if isinstance(step, Constant) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise WireError(
            "round takes a step, a positive number.",
            where=str(step)[:100],
            remedy='Write data.operator("round", 0.5).',
        )


def walk(expression: Expression) -> Iterator[Expression]:
    """The expression and all below it, parents first."""
    waiting = [expression]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reversed(_children(node)))


def _children(node: Expression) -> tuple[Expression, ...]:
    if isinstance(node, Apply):
        return node.arguments
    return (node.rows, node.mask) if isinstance(node, Filter) else ()


def to_plain(expression: Expression) -> Any:
    """As JSON types: lists whose first item names the node."""
    if isinstance(expression, Column):
        return ["column", expression.fragment, *expression.path]
    if isinstance(expression, Constant):
        return ["constant", expression.value]
    if isinstance(expression, Apply):
        return ["apply", expression.name, *map(to_plain, expression.arguments)]
    return ["filter", to_plain(expression.rows), to_plain(expression.mask)]


def from_plain(plain: Any) -> Expression:
    """The expression that `to_plain` wrote; WireError for anything else, or for too much of it."""
    return _read(plain, [MAX_NODES], MAX_DEPTH)


def _read(plain: Any, left: list[int], depth: int) -> Expression:
    left[0] -= 1
    if left[0] < 0 or depth < 0:
        raise _too_much()
    if not isinstance(plain, list) or len(plain) < 2 or not isinstance(plain[0], str):
        raise WireError("A part of the expression is not of its form.")
    kind, rest = plain[0], plain[1:]
    if kind == "column":
        fragment, *path = _texts(rest)
        return Column(tuple(path), fragment)
    if kind == "constant" and len(rest) == 1 and isinstance(rest[0], bool | int | float | str):
        return Constant(rest[0])
    if kind == "apply":
        name = _texts(rest[:1])[0]
        return Apply(name, tuple(_read(part, left, depth - 1) for part in rest[1:]))
    if kind == "filter" and len(rest) == 2:
        rows, mask = (_read(part, left, depth - 1) for part in rest)
        return Filter(rows, mask)
    raise WireError("A part of the expression is not of its form.")


def check_names(names: Sequence[Any]) -> None:
    """WireError for what is no text, or too long to be a name."""
    for name in names:
        if not isinstance(name, str) or len(name) > MAX_TEXT:
            raise WireError(
                f"A name is text of at most {MAX_TEXT} characters.", where=repr(name)[:100]
            )


def _texts(values: Sequence[Any]) -> list[str]:
    check_names(values)
    return list(values)


def dumps(value: Mapping[str, Any]) -> str:
    """Canonical JSON: equal requests are equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
