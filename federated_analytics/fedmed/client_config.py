"""The client's view of a configuration: which methods may be asked, and the owners' own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from federated_analytics.errors import did_you_mean
from federated_analytics.fedmed.errors import UnknownMethod

if TYPE_CHECKING:
    from federated_analytics.fedmed.data import FedData
    from federated_analytics.fedmed.values import Answered

ORIGINAL = frozenset({"sum", "len", "min", "max", "sqsum", "set"})
"""Methods that a configuration must list to have; what is derived from moments is always there."""


@dataclass(frozen=True)
class Methods:
    """Names of the methods that a configuration lists, and where it stands."""

    names: frozenset[str]
    where: str

    @classmethod
    def load(cls, config: str | Path | Mapping[str, Any]) -> Self:
        """Read a configuration. ConfigError where it cannot be used."""
        from federated_analytics.fedmed.config import Config

        loaded = Config.load(config)
        where = str(config) if isinstance(config, str | Path) else "config"
        return cls(frozenset(loaded.methods), where)

    def check(self, name: str) -> None:
        """UnknownMethod where the configuration does not list one of the original's methods."""
        if self.names and name in ORIGINAL and name not in self.names:
            raise UnknownMethod(
                f"The configuration lists no method {name!r}.",
                where=self.where,
                remedy=f"Add it under methods: {name}: {{map: fedmed.ops.private.{name}, …}}",
            )


def own_method(data: FedData, methods: Methods | None, name: str) -> Callable[..., Answered]:
    """A server owner's own operation, by the name that the configuration gives it."""
    known = methods.names if methods else frozenset[str]()
    if name not in known:
        remedy = did_you_mean(name, {*known, *(n for n in dir(type(data)) if n[0] != "_")})
        raise UnknownMethod(
            f"There is no method {name!r}.",
            where=methods.where if methods else "FedData",
            remedy=remedy or f"A column is data[{name!r}]; an owner's own method is in config=….",
        )
    from federated_analytics.fedmed import own

    def ask(**params: Any) -> Answered:
        return own.ask(data, name, params)

    return ask
