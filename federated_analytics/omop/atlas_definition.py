"""Reads an ATLAS (Circe) cohort definition that somebody else wrote, and keeps what is safe.

The definition comes from an analyst and becomes SQL at a hospital. What reaches the SQL is made
of numbers, words of fixed lists, dates, and one kind of free text (the filters on a stop reason,
lot number and the like), which is limited to letters, digits and a few signs. Names and
descriptions never get that far: they are taken out here.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import date
from typing import Any, NoReturn

from federated_analytics.errors import CohortError

MAX_BYTES = 2**20
MAX_DEPTH = 64
MAX_NESTED_GROUPS = 8
MAX_RULES = 60
"""Inclusion rules: Circe gives each a bit of a 64-bit number."""

_EXPORT_AGAIN = "Export the definition from ATLAS again, as JSON, and change it there."

DESCRIPTIVE = frozenset(
    {
        *("name", "description", "Title", "cdmVersionRange", "expressionType", "tags"),
        *("createdBy", "createdDate", "modifiedBy", "modifiedDate"),
        *("CONCEPT_NAME", "CONCEPT_CODE", "DOMAIN_ID", "VOCABULARY_ID", "CONCEPT_CLASS_ID"),
        *("STANDARD_CONCEPT", "STANDARD_CONCEPT_CAPTION"),
        *("INVALID_REASON", "INVALID_REASON_CAPTION", "VALID_START_DATE", "VALID_END_DATE"),
    }
)
"""Keys whose values say something to people and nothing to the database."""

_DATES = ("Value", "Extent", "StartDate", "EndDate")
_DATE = r"\d{4}-\d{1,2}-\d{1,2}"
_LETTER = "0-9A-Za-z\u00c0-\u024f"
_TEXT = rf"[{_LETTER}][{_LETTER} .,:/()+\-]{{0,99}}"
_STRINGS: dict[str, tuple[re.Pattern[str], str]] = {
    key: (re.compile(pattern), meaning)
    for keys, pattern, meaning in (
        ("Type", r"(?i:first|last|all|any|at_least|at_most)", "First, Last, All, ANY, AT_LEAST …"),
        (
            "Op",
            r"!?(lt|lte|eq|gt|gte|bt|startsWith|contains|endsWith)",
            "lt, lte, eq, gt, gte, bt, startsWith, contains or endsWith",
        ),
        (" ".join(_DATES), _DATE, "a date such as 2020-12-31"),
        ("Text", _TEXT, "letters, digits, spaces and . , : / ( ) + - (100 at most)"),
        ("DateField", "StartDate|EndDate", "StartDate or EndDate"),
        ("StartWith EndWith", "START_DATE|END_DATE", "START_DATE or END_DATE"),
        ("CollapseType", "ERA", "ERA"),
        ("CountColumn", "[A-Z_]{1,40}", "a column in capitals, such as START_DATE"),
    )
    for key in keys.split()
}
_FRACTIONS = ("Value", "Extent")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,60}")


@dataclass(frozen=True)
class Definition:
    """A definition without anything that is unsafe in SQL.

    Fields:
        expression: what Circe reads
        rules: names of the inclusion rules, for people only
    """

    expression: dict[str, Any]
    rules: tuple[str, ...]


def read_definition(text: str) -> Definition:
    """The safe part of a cohort definition.

    Raises:
        CohortError: not JSON, too large, too deep, not a cohort definition, or a value that
            may not reach SQL; `where` is its path.
    """
    loaded = _loaded(text)
    if isinstance(loaded, dict) and "PrimaryCriteria" not in loaded:
        loaded = loaded.get("expression", loaded)  # as ATLAS's web service wraps it
    if not isinstance(loaded, dict) or not isinstance(loaded.get("PrimaryCriteria"), dict):
        raise CohortError(
            "This is not an ATLAS cohort definition: PrimaryCriteria is missing.",
            remedy=_EXPORT_AGAIN,
        )
    rules = loaded.get("InclusionRules") or []
    if not isinstance(rules, list) or len(rules) > MAX_RULES:
        _refuse(f"InclusionRules must be a list of at most {MAX_RULES}", "InclusionRules")
    expression = _safe(loaded, "", depth=0, groups=0)
    return Definition(expression, tuple(_title(rule, i) for i, rule in enumerate(rules, 1)))


def _loaded(text: str) -> Any:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise CohortError(
            "The cohort definition is larger than 1 MiB.",
            remedy="Use concepts with descendants in place of long lists.",
        )
    try:
        return json.loads(text, parse_constant=lambda name: _refuse(f"{name} is not a number", ""))
    except RecursionError as error:
        raise CohortError(
            "The cohort definition is nested too deeply.", remedy=_EXPORT_AGAIN
        ) from error
    except ValueError as error:
        raise CohortError("The cohort definition is not JSON.", remedy=_EXPORT_AGAIN) from error


def _safe(value: Any, path: str, *, depth: int, groups: int) -> Any:
    """`value` with only what may reach SQL, checked on the way down."""
    if depth > MAX_DEPTH:
        _refuse(f"nested more than {MAX_DEPTH} levels deep", path)
    if groups > MAX_NESTED_GROUPS:
        _refuse(f"criteria nested in criteria more than {MAX_NESTED_GROUPS} times", path)
    if isinstance(value, list):
        return [
            _safe(item, f"{path}[{i}]", depth=depth + 1, groups=groups)
            for i, item in enumerate(value)
        ]
    if not isinstance(value, dict):
        return _scalar(value, path)
    kept = {}
    for key, item in value.items():
        if key in DESCRIPTIVE:
            continue
        if not _KEY.fullmatch(key):
            _refuse("a key is not a word", path)
        inside = f"{path}.{key}" if path else key
        nested = groups + (key in ("CorrelatedCriteria", "Groups"))
        if item != "" or key not in _DATES:  # ATLAS writes "" for a date that is not set
            kept[key] = _safe(item, inside, depth=depth + 1, groups=nested)
    return kept


def _scalar(value: Any, path: str) -> Any:
    key = path.rpartition(".")[2].partition("[")[0]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if key not in _STRINGS:
            _refuse("text stands where a number, a list or true/false belongs", path)
        pattern, meaning = _STRINGS[key]
        if not pattern.fullmatch(value) or "--" in value:
            _refuse(f"this text is not allowed here; allowed: {meaning}", path)
        if key in _DATES and not _is_day(value):
            _refuse("there is no such day", path)
        return value
    if isinstance(value, float):
        if key not in _FRACTIONS or not math.isfinite(value) or abs(value) >= 1e15:
            _refuse("a whole number belongs here", path)
        return value
    if not -(2**31) < value < 2**31:
        _refuse("the number is too large", path)
    return value


def _is_day(text: str) -> bool:
    try:
        date(*(int(part) for part in text.split("-")))
    except ValueError:
        return False
    return True


def _title(rule: Any, position: int) -> str:
    name = rule.get("name") if isinstance(rule, dict) else None
    words = " ".join(str(name or "").split())
    shown = "".join(c for c in words if c.isprintable())[:100]
    return shown or f"Inclusion rule {position}"


def _refuse(what: str, path: str) -> NoReturn:
    raise CohortError(
        f"The cohort definition cannot be used: {what}.", where=path, remedy=_EXPORT_AGAIN
    )
