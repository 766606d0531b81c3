"""`config.yaml`: which methods a server offers, and under which policies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import ValidationError

from federated_analytics.errors import ConfigError, RequestRefused, did_you_mean
from federated_analytics.fedmed import changes, config_lines, methods
from federated_analytics.fedmed.config_lines import Lines
from federated_analytics.fedmed.expression import ARITY, ROUND
from federated_analytics.fedmed.methods import Method
from federated_analytics.fedmed.privacy import (
    CHANGES,
    PATHS,
    POLICIES,
    Anonymity,
    Coarsening,
    ComplexityCap,
    NewSamples,
    Noise,
    Saturation,
)
from federated_analytics.privacy.policy import Policy

KEYS = ("privacy", "methods")
ORIGINAL = frozenset({"sum", "len", "min", "max", "sqsum", "set"})
"""Reductions that a configuration with `methods` must list; what is derived is always there."""
OFF = "The policy is switched off (privacy: []): every number leaves, whoever it is of."
_OFF = Policy(
    min_count=1,
    min_sites=1,
    complementary=False,
    dominance=1.0,
    overlap=False,
    same_answer=False,
)
P = TypeVar("P")


class NotOffered(RequestRefused):
    """An operation that the server's owner does not offer."""

    code = "unknown_operation"


@dataclass(frozen=True)
class Config:
    """A configuration; `Config()` is the strict default with every method.

    Fields:
        is_off: the owner has switched the policy off (`privacy: []`)
        methods: by name; empty for all
        ranges: what each row's value is held to
        changes: of what the rules let pass, in their order
        persons: the column that tells persons apart; "" where each row is a person
        listed: the policies as they stand, for the status pages
    """

    policy: Policy = field(default_factory=Policy)
    is_off: bool = False
    methods: Mapping[str, Method] = field(default_factory=dict)
    new_samples: NewSamples | None = None
    complexity_cap: int | None = None
    ranges: tuple[Saturation, ...] = ()
    changes: tuple[Noise | Saturation | Coarsening, ...] = ()
    persons: str = ""
    listed: tuple[Any, ...] = ()

    @classmethod
    def without_policy(cls) -> Self:
        """For data that whoever asks holds herself."""
        return cls(_OFF, is_off=True)

    @classmethod
    def load(cls, config: str | Path | Mapping[str, Any], *, at_server: bool = True) -> Self:
        """From a file or its content. ConfigError names the line, the key and what to write.

        Args:
            at_server: False for a client that shares the file: it has no owner's functions.
        """
        content, lines = config_lines.read(config)
        for key in content:
            if key not in KEYS:
                raise ConfigError(
                    f"There is no key {str(key)[:60]!r}.",
                    where=lines.at(str(key)),
                    remedy=did_you_mean(str(key), KEYS) or "The keys are privacy and methods.",
                )
        listed = _policies(content.get("privacy"), lines)
        offered = methods.read(content.get("methods"), lines, at_server=at_server)
        if "privacy" in content and content["privacy"] == []:
            return cls(_OFF, is_off=True, methods=offered)
        found = cls._under(listed, offered)
        found._check_changes()
        return found

    @classmethod
    def _under(cls, listed: list[Any], offered: Mapping[str, Method]) -> Self:
        """All of the policies: of several minimum counts the largest, of several caps the least."""
        k = max((one.k for one in _of(Anonymity, listed)), default=Anonymity().k)
        caps = [one.cap for one in _of(ComplexityCap, listed)]
        samples = next(iter(_of(NewSamples, listed)), None)
        changing = [one for one in listed if isinstance(one, CHANGES)]
        of_rows = [one for one in _of(Saturation, listed) if one.is_of_rows]
        return cls(
            policy=_OFF if k == 1 else Policy(min_count=k, min_sites=1),
            methods=offered,
            new_samples=samples,
            complexity_cap=min(caps, default=None),
            ranges=tuple(of_rows),
            changes=tuple(one for one in changing if one not in of_rows),
            persons=samples.person if samples is not None else "",
            listed=tuple(listed),
        )

    def _check_changes(self) -> None:
        for method in self.methods.values():
            kind = methods.stated(method)
            if self.changes and kind is not None and not changes.can_change(kind):
                raise ConfigError(
                    f"{type(self.changes[0]).__name__} cannot be put on a {kind.__name__}.",
                    where=method.place,
                    remedy="Release Count, Moments, CoMoments or IntervalCounts.",
                )

    @property
    def exact(self) -> frozenset[str]:
        """Operations whose smallest or largest value leaves as it is."""
        return frozenset(m.operation for m in self.methods.values() if m.exact)

    @property
    def remembers(self) -> bool:
        """Whether an answer depends on what was asked before, or on the site's secret."""
        return self.policy.min_count > 1 or bool(self.changes)

    @property
    def warnings(self) -> list[str]:
        """What an owner must know of what she has let out."""
        if self.is_off:
            return [OFF]
        return [
            f"The exact {op} of every column leaves (exact: true): it is one person's value."
            for op in sorted(self.exact)
        ]

    def operation(self, name: str) -> str:
        """What a request for a method does: its own name where it is not listed."""
        method = self.methods.get(name)
        return name if method is None or method.element_wise else method.operation

    def owner_operation(self, name: str) -> Callable[..., Any] | None:
        """An owner's own reduction, by its name in `methods`."""
        method = self.methods.get(name)
        return None if method is None or method.element_wise else method.own

    def owner_rows(self, name: str) -> Callable[..., Any] | None:
        """An owner's own operation on rows, by its name in `methods`."""
        method = self.methods.get(name)
        return method.own if method is not None and method.element_wise else None

    def check(self, op: str) -> None:
        """NotOffered where the owner does not list a reduction of the original's."""
        offered = {method.operation for method in self.methods.values()}
        if self.methods and op in ORIGINAL and op not in offered:
            raise NotOffered(
                f"The server does not offer {op}.",
                where=op,
                remedy=f"It offers: {', '.join(sorted(self.methods))}."[:300],
            )

    def check_rows(self, name: str) -> None:
        """NotOffered where the owner does not list an operation on rows."""
        offered = {method.operation for method in self.methods.values()}
        listed = offered & set(ARITY)
        if listed - {ROUND} and name in ARITY and name not in listed | _ALWAYS:
            raise NotOffered(
                f"The server does not offer the operation {name} on rows.",
                where=name,
                remedy=f"It offers: {', '.join(sorted(listed))}.",
            )


_ALWAYS = frozenset({"neg", "not", "date", "year", "month", "day", "days", "div", "and", "or"})
"""Follow from what the original's files list, or tell no more than a comparison does."""
_WHY_NO_PATTERNS = {
    "Anonymity": "A minimum count holds for every result, or others would tell what it hides.",
    "ComplexityCap": "A cap holds for every expression.",
    "CacheLimit": "A limit holds for the whole server.",
    "NewSamples": "New rows are held back from every operation.",
    "Trustful": "It changes nothing.",
}


def _policies(listed: Any, lines: Lines) -> list[Any]:
    if listed is None:
        return []
    if not isinstance(listed, list):
        raise ConfigError(
            "privacy is a list of policies; [] switches it off.", where=lines.at("privacy")
        )
    found: list[Any] = []
    for position, entry in enumerate(listed):
        place = lines.at("privacy", position)
        name, params = _named(entry, place)
        _check_patterns(name, params, place)
        try:
            found.append(POLICIES[name](**params))
        except (ValidationError, TypeError) as error:
            raise ConfigError(
                f"The params of {name} do not fit: {_first(error)}.",
                where=place,
                remedy=f"It takes: {', '.join(POLICIES[name].model_fields) or 'none'}.",
            ) from error
        if name == "NewSamples" and sum(isinstance(one, NewSamples) for one in found) > 1:
            raise ConfigError("NewSamples stands twice.", where=place, remedy="Keep one of them.")
    return found


def _check_patterns(name: str, params: Mapping[str, Any], place: str) -> None:
    given = [key for key in ("filter", "reject", "type") if key in params]
    if given and name in _WHY_NO_PATTERNS:
        known = {k: v for k, v in params.items() if k in POLICIES[name].model_fields}
        raise ConfigError(
            f"{name} takes no {given[0]}. {_WHY_NO_PATTERNS[name]}",
            where=place,
            remedy=f"Write params: {_written(known)}; a server of its own may have another one.",
        )


def _written(params: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {str(value)[:20]}" for key, value in params.items()) + "}"


def _named(entry: Any, place: str) -> tuple[str, dict[str, Any]]:
    if not isinstance(entry, Mapping) or not {"policy"} <= set(entry) <= {"policy", "params"}:
        raise ConfigError(
            "An entry of privacy has policy and params.",
            where=place,
            remedy="Write - policy: fedmed.privacy.Anonymity, then params: {k: 5}.",
        )
    path = str(entry["policy"])
    prefix = next((p for p in PATHS if path.startswith(p)), "")
    name = path[len(prefix) :]
    if not prefix or name not in POLICIES:
        raise ConfigError(
            f"There is no policy {path[:80]!r}.",
            where=place,
            remedy=did_you_mean(name, POLICIES) or f"There are: {', '.join(POLICIES)}.",
        )
    params = entry.get("params") or {}
    if not isinstance(params, Mapping):
        raise ConfigError("params is a table.", where=place)
    return name, {str(k): v for k, v in params.items()}


def _of(wanted: type[P], listed: list[Any]) -> list[P]:
    return [one for one in listed if isinstance(one, wanted)]


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        return f"{key}: {first['msg']}" if key else first["msg"].removeprefix("Value error, ")
    return "they are not a table of names"
