"""`config.yaml`: which methods a server offers, and under which policies."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from federated_analytics.errors import ConfigError, RequestRefused, did_you_mean
from federated_analytics.fedmed.expression import ARITY
from federated_analytics.fedmed.ops import STATED
from federated_analytics.fedmed.ops.binary import NAMES as BINARY
from federated_analytics.fedmed.ops.private import REDUCTIONS as PRIVATE
from federated_analytics.fedmed.ops.public import NAMES as PUBLIC
from federated_analytics.fedmed.privacy import (
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
_DUNDER = {
    "__radd__": "add",
    "__rsub__": "sub",
    "__rmul__": "mul",
    "__truediv__": "div",
    "__rtruediv__": "div",
    "__rpow__": "pow",
    "__invert__": "not",
}
_OFF = Policy(
    min_count=1,
    min_sites=1,
    complementary=False,
    dominance=1.0,
    overlap=False,
    same_answer=False,
)


class NotOffered(RequestRefused):
    """An operation that the server's owner does not offer."""

    code = "unknown_operation"


@dataclass(frozen=True)
class Method:
    """One entry of `methods`.

    Fields:
        operation: what a request names it; the owner's own function where it is one
    """

    name: str
    operation: str
    own: Callable[..., Any] | None = None


@dataclass(frozen=True)
class Config:
    """A configuration; `Config()` is the strict default with every method.

    Fields:
        is_off: the owner has switched the policy off (`privacy: []`)
        methods: by name; empty for all
        persons: the column that tells persons apart; "" where each row is a person
    """

    policy: Policy = field(default_factory=Policy)
    is_off: bool = False
    methods: Mapping[str, Method] = field(default_factory=dict)
    new_samples: NewSamples | None = None
    complexity_cap: int | None = None
    noise: Noise | None = None
    coarsening: Coarsening | None = None
    saturation: Saturation | None = None
    persons: str = ""

    @classmethod
    def without_policy(cls) -> Self:
        """For data that whoever asks holds herself."""
        return cls(_OFF, is_off=True)

    @classmethod
    def load(cls, config: str | Path | Mapping[str, Any]) -> Self:
        """From a file or its content. ConfigError names the line, the key and what to write."""
        if isinstance(config, Mapping):
            return cls._of(config, _Lines({}, "config"))
        path = Path(config)
        content, lines = _parsed(path)
        return cls._of(content, _Lines(lines, path.name))

    @classmethod
    def _of(cls, content: Mapping[str, Any], lines: _Lines) -> Self:
        for key in content:
            if key not in KEYS:
                raise ConfigError(
                    f"There is no key {str(key)[:60]!r}.",
                    where=lines.at(key),
                    remedy=did_you_mean(str(key), KEYS) or "The keys are privacy and methods.",
                )
        found = _policies(content.get("privacy"), lines)
        methods = _methods(content.get("methods"), lines)
        if "privacy" in content and not found:
            return cls(_OFF, is_off=True, methods=methods)
        anonymity, samples = found.get("Anonymity"), found.get("NewSamples")
        k = anonymity.k if isinstance(anonymity, Anonymity) else 5
        cap = found.get("ComplexityCap")
        return cls(
            policy=_OFF if k == 1 else Policy(min_count=k, min_sites=1),
            methods=methods,
            new_samples=samples if isinstance(samples, NewSamples) else None,
            complexity_cap=cap.cap if isinstance(cap, ComplexityCap) else None,
            noise=_as(Noise, found.get("Noise")),
            coarsening=_as(Coarsening, found.get("Coarsening")),
            saturation=_as(Saturation, found.get("Saturation")),
            persons=samples.person if isinstance(samples, NewSamples) else "",
        )

    def owner_operation(self, name: str) -> Callable[..., Any] | None:
        """An owner's own function, by its name in `methods`."""
        method = self.methods.get(name)
        return None if method is None else method.own

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
        if self.methods and listed and name in ARITY and name not in listed | _ALWAYS:
            raise NotOffered(
                f"The server does not offer the operation {name} on rows.",
                where=name,
                remedy=f"It offers: {', '.join(sorted(listed))}.",
            )


_ALWAYS = frozenset({"neg", "not", "date", "year", "month", "day", "days", "div", "and", "or"})
"""Follow from what the original's files list, or tell no more than a comparison does."""


@dataclass(frozen=True)
class _Lines:
    """Where keys stand in a file."""

    of: Mapping[str, int]
    name: str

    def at(self, key: object) -> str:
        line = self.of.get(str(key))
        return f"{self.name}:{line}" if line else f"{self.name}: {key}"


def _parsed(path: Path) -> tuple[Mapping[str, Any], dict[str, int]]:
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(
            f"The configuration cannot be read ({error.strerror}).", where=str(path)
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path.name}:{mark.line + 1}" if mark else path.name
        raise ConfigError("This is not YAML.", where=place) from error
    if not isinstance(content, Mapping):
        raise ConfigError("A configuration has privacy and methods.", where=path.name)
    return content, dict(_lines(node))


def _lines(node: Any) -> list[tuple[str, int]]:
    """Each key and each named policy with its line."""
    found: list[tuple[str, int]] = []
    for key, value in getattr(node, "value", None) or []:
        found.append((key.value, key.start_mark.line + 1))
        if value.id == "mapping":
            found += _lines(value)
        elif value.id == "sequence":
            for item in value.value:
                if item.id == "mapping":
                    found += _lines(item)
                    found += [
                        (v.value, v.start_mark.line + 1) for _, v in item.value if v.id == "scalar"
                    ]
    return found


def _policies(listed: Any, lines: _Lines) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if listed is None:
        return {"Anonymity": Anonymity()}
    if not isinstance(listed, list):
        raise ConfigError(
            "privacy is a list of policies; [] switches it off.", where=lines.at("privacy")
        )
    for entry in listed:
        name, params = _named(entry, lines)
        try:
            found[name] = POLICIES[name](**params)
        except (ValidationError, TypeError) as error:
            raise ConfigError(
                f"The params of {name} do not fit: {_first(error)}.",
                where=lines.at(str(entry["policy"])),
                remedy=f"It takes: {', '.join(POLICIES[name].model_fields)}.",
            ) from error
    if found and "Anonymity" not in found:
        found["Anonymity"] = Anonymity()
    return found


def _named(entry: Any, lines: _Lines) -> tuple[str, dict[str, Any]]:
    if not isinstance(entry, Mapping) or not {"policy"} <= set(entry) <= {"policy", "params"}:
        raise ConfigError(
            "An entry of privacy has policy and params.",
            where=lines.at("privacy"),
            remedy="Write - policy: fedmed.privacy.Anonymity, then params: {k: 5}.",
        )
    path = str(entry["policy"])
    prefix = next((p for p in PATHS if path.startswith(p)), "")
    name = path[len(prefix) :]
    if not prefix or name not in POLICIES:
        raise ConfigError(
            f"There is no policy {path[:80]!r}.",
            where=lines.at(path),
            remedy=did_you_mean(name, POLICIES) or f"There are: {', '.join(POLICIES)}.",
        )
    params = entry.get("params") or {}
    if not isinstance(params, Mapping):
        raise ConfigError("params is a table.", where=lines.at(path))
    return name, {str(k): v for k, v in params.items()}


def _methods(listed: Any, lines: _Lines) -> dict[str, Method]:
    if listed is None:
        return {}
    if not isinstance(listed, Mapping):
        raise ConfigError("methods is a table.", where=lines.at("methods"))
    return {str(name): _method(str(name), value, lines) for name, value in listed.items()}


def _method(name: str, value: Any, lines: _Lines) -> Method:
    paths = {"map": value} if isinstance(value, str) else value
    if not isinstance(paths, Mapping) or not {"map"} <= set(paths) <= {"map", "reduce"}:
        raise ConfigError(
            "A method has a path, or map and reduce.",
            where=lines.at(name),
            remedy=f"Write {name}: {{map: fedmed.ops.private.sum, reduce: fedmed.ops.public.sum}}.",
        )
    if reduce := paths.get("reduce"):
        _known(str(reduce), "public", PUBLIC, lines, name)
    path = str(paths["map"])
    for kind, names in (("private", PRIVATE), ("binary", BINARY)):
        if prefix := _prefix(path, kind):
            found = _known(path, kind, names, lines, name)
            assert prefix
            return Method(name, names[found])
    return Method(name, name, _own(path, lines, name))


def _prefix(path: str, kind: str) -> str:
    prefixes = (f"fedmed.ops.{kind}.", f"federated_analytics.fedmed.ops.{kind}.")
    return next((p for p in prefixes if path.startswith(p)), "")


def _known(path: str, kind: str, names: Any, lines: _Lines, method: str) -> str:
    name = path[len(_prefix(path, kind)) :]
    if not _prefix(path, kind) or name not in names:
        raise ConfigError(
            f"There is no operation {path[:80]!r}.",
            where=lines.at(method),
            remedy=did_you_mean(name, names) or f"There are: {', '.join(sorted(names))}.",
        )
    return name


def _own(path: str, lines: _Lines, method: str) -> Callable[..., Any]:
    """An owner's function by its dotted path, which must state what it releases."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"There is no function {path[:80]!r}.",
            where=lines.at(method),
            remedy="Write module.function, of a module that Python finds, or fedmed.ops.private.…",
        ) from error
    if not callable(found) or not hasattr(found, STATED):
        raise ConfigError(
            f"The function {path[:80]!r} does not state what it releases.",
            where=lines.at(method),
            remedy="Decorate it with @fm.ops.releases(Count), or another aggregate.",
        )
    return found  # type: ignore[no-any-return]


def _as(wanted: type[Any], found: Any) -> Any:
    return found if isinstance(found, wanted) else None


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return "they are not a table of names"
