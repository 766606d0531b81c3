"""A script as the person who approves it reads it: its source, its parameters, what it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from federated_analytics.privacy.asked import shown

if TYPE_CHECKING:
    from federated_analytics.privacy.asked import Asked

_FIELDS = frozenset({"name", "script", "nodes", "parameters", "limit"})
LONGEST_COLOURED = 200_000
"""Characters of a source that is coloured; a longer one is shown as it is."""
MOST_LINES_NAMED = 12


@dataclass(frozen=True)
class ScriptView:
    """What is shown of an order for a script.

    Fields:
        lines: of the source, as markup, coloured; nothing in them but text and `<span class>`
        unusual: numbers of lines with characters beyond ASCII, which may look like others
        file_hash: SHA-256 of the script's file, as `sha256sum` prints it
        parameters: name and value, as JSON
        nodes: id and type
        limit: seconds
    """

    name: str
    lines: tuple[Markup, ...]
    unusual: tuple[int, ...]
    file_hash: str
    parameters: tuple[tuple[str, str], ...]
    nodes: tuple[tuple[str, str], ...]
    limit: float

    @property
    def unusual_in_words(self) -> str:
        named = ", ".join(map(str, self.unusual[:MOST_LINES_NAMED]))
        more = len(self.unusual) - MOST_LINES_NAMED
        return f"{named} and {more} more" if more > 0 else named


def script_view(asked: Asked) -> ScriptView | None:
    """The script that is asked for; None where it is a study, or of another kind."""
    try:
        order = json.loads(asked.study)
    except ValueError:
        return None
    if not isinstance(order, dict) or not set(order) >= _FIELDS:
        return None
    source = str(order["script"])
    text = _as_python_reads(source)
    return ScriptView(
        str(order["name"]),
        _coloured(shown(text)),
        tuple(n for n, line in enumerate(text.split("\n"), 1) if not line.isascii()),
        hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest(),
        _pairs(order["parameters"], lambda v: json.dumps(v, ensure_ascii=False)),
        _pairs(order["nodes"], str),
        float(order["limit"]),
    )


def _as_python_reads(source: str) -> str:
    """With the line ends that Python knows: a lone carriage return ends a comment too."""
    return source.replace("\r\n", "\n").replace("\r", "\n")


def _coloured(source: str) -> tuple[Markup, ...]:
    """Line by line, each with its tags closed."""
    if len(source) > LONGEST_COLOURED:
        return tuple(escape(line) for line in source.split("\n"))
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    lexer = PythonLexer(stripnl=False, ensurenl=False)
    markup = highlight(source, lexer, HtmlFormatter(nowrap=True))
    return tuple(Markup(line) for line in markup.rstrip("\n").split("\n"))


def _pairs(named: Any, text: Any) -> tuple[tuple[str, str], ...]:
    found: Mapping[Any, Any] = named if isinstance(named, dict) else {}
    return tuple((str(key), text(value)) for key, value in sorted(found.items()))
