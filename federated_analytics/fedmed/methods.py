"""`methods` of a configuration: what each name does at the servers and at the client."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.errors import ConfigError, did_you_mean
from federated_analytics.fedmed.config_lines import Lines
from federated_analytics.fedmed.expression import ARITY
from federated_analytics.fedmed.ops import ELEMENT_WISE, STATED
from federated_analytics.fedmed.ops.binary import DUNDERS
from federated_analytics.fedmed.ops.binary import NAMES as BINARY
from federated_analytics.fedmed.ops.private import REDUCTIONS as PRIVATE
from federated_analytics.fedmed.ops.public import FITTING
from federated_analytics.fedmed.ops.public import NAMES as PUBLIC
from federated_analytics.fedmed.protocol import RELEASES

DERIVED = frozenset(
    {"mean", "var", "std", "median", "quantile", "cov", "corr", "groupby", "count_missing"}
    | {"describe"}
)
"""Methods that a client computes of other operations: a map of this name would never be asked."""
_PREFIXES = ("fedmed.ops.", "federated_analytics.fedmed.ops.")
_EXACT = ("min", "max")


@dataclass(frozen=True)
class Method:
    """One entry of `methods`.

    Fields:
        operation: what a request for it does: a key of `RELEASES` or of `ARITY`, or its own name
        map, reduce: the paths; "" where there is none
        own: the owner's function, where it is one and the server has loaded it
        element_wise: it gives a number or truth value for each row
        exact: a smallest or largest value leaves as it is
        place: where it stands
    """

    name: str
    operation: str
    map: str = ""
    reduce: str = ""
    own: Callable[..., Any] | None = None
    element_wise: bool = False
    exact: bool = False
    place: str = ""

    @property
    def is_own(self) -> bool:
        """Whether its map is the owner's."""
        return bool(self.map) and not _is_known(self.map)


_OFFERED = frozenset({*RELEASES, *ARITY})


def read(listed: Any, lines: Lines, *, at_server: bool) -> dict[str, Method]:
    """The methods of a configuration.

    Args:
        at_server: an owner's functions are imported, which a client does not have.
    Raises:
        ConfigError: an entry is none, or names an operation that does not exist or fit.
    """
    if listed is None:
        return {}
    if not isinstance(listed, Mapping):
        raise ConfigError("methods is a table.", where=lines.at("methods"))
    return {
        str(name): _method(str(name), value, lines.at("methods", str(name)), at_server)
        for name, value in listed.items()
    }


def _method(name: str, value: Any, place: str, at_server: bool) -> Method:
    if isinstance(value, str):
        return _of_rows(name, value, place, at_server)
    known = {"map", "reduce", "exact"}
    paths = value if isinstance(value, Mapping) else {}
    if not paths or not set(paths) <= known or not {"map", "reduce"} & set(paths):
        raise ConfigError(
            "A method has a path, or map and reduce.",
            where=place,
            remedy=f"Write {name}: {{map: fedmed.ops.private.sum, reduce: fedmed.ops.public.sum}}.",
        )
    if "map" not in paths and at_server:
        raise ConfigError(
            f"The method {name!r} has no map: the server would not know what to do.",
            where=place,
            remedy="Name its map, or leave the method out.",
        )
    map_path, reduce_path = (str(paths.get(key, "")) for key in ("map", "reduce"))
    method = _reduction(name, map_path, reduce_path, place, at_server)
    return _with_exact(method, paths.get("exact", False))


def _of_rows(name: str, path: str, place: str, at_server: bool) -> Method:
    """An entry of a path alone: an operation on rows, or a known map."""
    kind, _ = _parts(path)
    if kind == "private":
        return _reduction(name, path, "", place, at_server)
    if kind:
        return _binary(name, path, place)
    if name in DUNDERS:
        raise ConfigError(
            f"{name} is arithmetic of expressions, which every server does alike.",
            where=place,
            remedy="Give the operation a name of its own; clients call data.NAME(…).",
        )
    if name in _OFFERED or name in DERIVED or name in FITTING:
        raise _taken(name, place)
    found = _own(path, ELEMENT_WISE, place) if at_server else None
    return Method(name, name, path, own=found, element_wise=True, place=place)


def _binary(name: str, path: str, place: str) -> Method:
    operation = BINARY[_known(path, "binary", BINARY, place)]
    stands_for = DUNDERS.get(name, BINARY.get(name, name))
    if stands_for != operation:
        raise ConfigError(
            f"{name} is not {operation}: clients would get another operation than they write.",
            where=place,
            remedy=f"Write {name}: fedmed.ops.binary.{stands_for}."
            if stands_for in BINARY
            else f"Write __{operation}__: {path}.",
        )
    if operation in ARITY:
        return Method(name, operation, path, element_wise=True, place=place)
    own = getattr(importlib.import_module("federated_analytics.fedmed.ops.binary"), operation)
    return Method(name, operation, path, own=own, element_wise=True, place=place)


def _reduction(name: str, path: str, reduce: str, place: str, at_server: bool) -> Method:
    kind, _ = _parts(path)
    if kind == "binary":
        return _binary(name, path, place)
    if kind:
        operation = PRIVATE[_known(path, "private", PRIVATE, place)]
        own = None
    else:
        operation = name
        own = _own(path, STATED, place) if path and at_server else None
    if name in DERIVED or (name in ARITY and path):
        raise _taken(name, place)
    _check_kind(name, operation, own, place)
    _check_reduce(name, operation, reduce, place, at_server)
    return Method(name, operation, path, reduce, own, place=place)


def _check_kind(name: str, operation: str, own: Any, place: str) -> None:
    """Under a name of the original's stands what clients can read as that."""
    wanted = RELEASES.get(name)
    found = getattr(own, STATED).__name__ if own is not None else RELEASES.get(operation)
    fits = {wanted, "Extremes"} if name in _EXACT else {wanted}
    if wanted is not None and found is not None and found not in fits:
        raise ConfigError(
            f"Clients read {name} as {wanted}, and its map gives {found}.",
            where=place,
            remedy=f"Map {name} to what gives {wanted}, or give the method another name.",
        )
    if wanted is not None and own is None and operation != name and operation in FITTING:
        raise ConfigError(
            f"{name} would be answered with {operation}.",
            where=place,
            remedy="Give the method another name.",
        )


def _check_reduce(name: str, operation: str, path: str, place: str, at_server: bool) -> None:
    if not path:
        return
    if not _parts(path)[0]:
        if name in RELEASES and not at_server:
            raise ConfigError(
                f"{name} is put together by its own rules, not by {path[:80]!r}.",
                where=place,
                remedy="Give a method with a reduce of yours another name.",
            )
        return
    found = _known(path, "public", PUBLIC, place)
    wanted = FITTING.get(operation)
    if wanted is not None and found != wanted:
        raise ConfigError(
            f"Parts of {operation} are not put together by {found}.",
            where=place,
            remedy=f"Write reduce: fedmed.ops.public.{wanted}.",
        )


def _with_exact(method: Method, exact: Any) -> Method:
    if not isinstance(exact, bool):
        raise ConfigError("exact is true or false.", where=method.place)
    if exact and (method.operation not in _EXACT or method.is_own):
        raise ConfigError(
            "exact is for the maps fedmed.ops.private.min and max.",
            where=method.place,
            remedy="Leave it out.",
        )
    return Method(**{**vars(method), "exact": exact})


def reduce_of(method: Method) -> Callable[..., Any] | None:
    """The client's own function that puts a method's parts together; None where there is none."""
    if not method.reduce or _is_known(method.reduce):
        return None
    return _imported(method.reduce, method.place)


def _taken(name: str, place: str) -> ConfigError:
    return ConfigError(
        f"{name} is a method of its own, which would never be asked of this path.",
        where=place,
        remedy="Give the operation another name.",
    )


def _parts(path: str) -> tuple[str, str]:
    """ "private" and "sum" of fedmed.ops.private.sum; empty of an owner's own."""
    prefix = next((p for p in _PREFIXES if path.startswith(p)), "")
    kind, _, name = path[len(prefix) :].partition(".")
    return (kind, name) if prefix else ("", "")


def _is_known(path: str) -> bool:
    return bool(_parts(path)[0])


def _known(path: str, kind: str, names: Iterable[str], place: str) -> str:
    found, name = _parts(path)
    known = list(names)
    if found != kind or name not in known:
        raise ConfigError(
            f"There is no operation {path[:80]!r}.",
            where=place,
            remedy=did_you_mean(name, known) or f"There are: {', '.join(sorted(known))}.",
        )
    return name


_DECORATORS = {
    STATED: (
        "does not state what it releases",
        "Decorate it with @fm.ops.releases(Count), or another aggregate",
    ),
    ELEMENT_WISE: (
        "does not state that it works row by row",
        "Decorate it with @fm.ops.element_wise",
    ),
}


def _own(path: str, mark: str, place: str) -> Callable[..., Any]:
    """An owner's function by its dotted path, which must state what it is."""
    found = _imported(path, place)
    if hasattr(found, mark):
        return found
    said, remedy = _DECORATORS[mark]
    if mark == ELEMENT_WISE and hasattr(found, STATED):
        remedy = f"It is a reduction: write {{map: {path[:80]}}}"
    elif mark == STATED and hasattr(found, ELEMENT_WISE):
        remedy = f"It works row by row: write {path[:80]} alone, without map"
    raise ConfigError(f"The function {path[:80]!r} {said}.", where=place, remedy=f"{remedy}.")


def _imported(path: str, place: str) -> Callable[..., Any]:
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"There is no function {path[:80]!r}.",
            where=place,
            remedy="Write module.function, of a module that Python finds, or fedmed.ops.private.…",
        ) from error
    if not callable(found):
        raise ConfigError(f"{path[:80]!r} is no function.", where=place)
    return found  # type: ignore[no-any-return]


def stated(method: Method) -> type[Aggregate] | None:
    """What an owner's reduction releases."""
    return getattr(method.own, STATED, None)
