"""The client's view of a configuration: which methods may be asked, and the owners' own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from federated_analytics.errors import did_you_mean
from federated_analytics.fedmed.errors import UnknownMethod

if TYPE_CHECKING:
    from federated_analytics.fedmed.data import FedData

ORIGINAL = frozenset({"sum", "len", "min", "max", "sqsum", "set"})
"""Methods that a configuration must list to have; what is derived from moments is always there."""


@dataclass(frozen=True)
class Methods:
    """Names of the methods that a configuration lists, and where it stands.

    Fields:
        element_wise: names of operations on rows
        reduces: the client's own functions that put servers' parts together
    """

    names: frozenset[str]
    where: str
    element_wise: frozenset[str] = frozenset()
    reduces: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    @classmethod
    def load(cls, config: str | Path | Mapping[str, Any]) -> Self:
        """Read a configuration. ConfigError where it cannot be used.

        Of the functions that it names only the reduces are imported: maps are the servers'.
        """
        from federated_analytics.fedmed.config import Config
        from federated_analytics.fedmed.methods import reduce_of

        listed = Config.load(config, at_server=False).methods.values()
        reduces = {method.name: reduce_of(method) for method in listed}
        return cls(
            frozenset(method.name for method in listed),
            str(config) if isinstance(config, str | Path) else "config",
            frozenset(method.name for method in listed if method.element_wise),
            {name: found for name, found in reduces.items() if found is not None},
        )

    def check(self, name: str) -> None:
        """UnknownMethod where the configuration does not list one of the original's methods."""
        if self.names and name in ORIGINAL and name not in self.names:
            raise UnknownMethod(
                f"The configuration lists no method {name!r}.",
                where=self.where,
                remedy=f"Add it under methods: {name}: {{map: fedmed.ops.private.{name}, …}}",
            )


def own_method(data: FedData, methods: Methods | None, name: str) -> Callable[..., Any]:
    """A server owner's own operation, by the name that the configuration gives it.

    One on rows takes other data sets or constants and gives a data set; a reduction takes params.
    """
    known = methods.names if methods else frozenset[str]()
    if methods is None or name not in known:
        remedy = did_you_mean(name, {*known, *(n for n in dir(type(data)) if n[0] != "_")})
        raise UnknownMethod(
            f"There is no method {name!r}.",
            where=methods.where if methods else "FedData",
            remedy=remedy or f"A column is data[{name!r}]; an owner's own method is in config=….",
        )
    if name in methods.element_wise:
        return lambda *others: data.operator(name, *others)
    from federated_analytics.fedmed import own

    reduce = methods.reduces.get(name)
    return lambda **params: own.ask(data, name, params, reduce)
