"""A configuration's content, and the line on which each part of it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federated_analytics.errors import ConfigError

Place = tuple[str | int, ...]
"""Keys and positions from the top of a file down."""


@dataclass(frozen=True)
class Lines:
    """Where the parts of a configuration stand; without lines where it is not from a file."""

    of: Mapping[Place, int]
    name: str

    def at(self, *place: str | int) -> str:
        """A part's line; of what it is in, where it has none itself."""
        for size in range(len(place), 0, -1):
            if line := self.of.get(place[:size]):
                return f"{self.name}:{line}"
        keys = ".".join(str(key)[:60] for key in place)
        return f"{self.name}: {keys}" if keys else self.name


def read(config: str | Path | Mapping[str, Any]) -> tuple[Mapping[str, Any], Lines]:
    """A configuration from a file, or as it is. ConfigError where it cannot be read."""
    import yaml

    if isinstance(config, Mapping):
        return config, Lines({}, "config")
    path = Path(config)
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
    lines = Lines(dict(_places(node, ())), path.name)
    _no_key_twice(node, (), lines)
    return content, lines


def _places(node: Any, place: Place) -> Iterator[tuple[Place, int]]:
    yield place, node.start_mark.line + 1
    for key, inner, line in _inside(node):
        yield from _places(inner, (*place, key))
        yield (*place, key), line


def _inside(node: Any) -> Iterator[tuple[str | int, Any, int]]:
    if node.id == "mapping":
        for key, value in node.value:
            yield str(key.value), value, key.start_mark.line + 1
    elif node.id == "sequence":
        for position, value in enumerate(node.value):
            yield position, value, value.start_mark.line + 1


def _no_key_twice(node: Any, place: Place, lines: Lines) -> None:
    """YAML lets the second of two equal keys replace the first without a word."""
    seen: set[str | int] = set()
    for key, inner, line in _inside(node):
        if key in seen:
            raise ConfigError(
                f"The key {str(key)[:60]!r} stands twice.",
                where=f"{lines.name}:{line}",
                remedy="Keep one of them.",
            )
        seen.add(key)
        _no_key_twice(inner, (*place, key), lines)
