"""Where a key stands in a TOML text, and what to write there: for errors that name the line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from federated_analytics.errors import did_you_mean


def line_of(text: str, key: str) -> int:
    """The line, from 1, of the first `key = …` or `[key]`; 0 where there is none."""
    wanted = re.compile(rf"^\s*(\[+\s*{re.escape(key)}\s*\]+|{re.escape(key)}\s*=)")
    lines = text.splitlines()
    return next((i for i, line in enumerate(lines, start=1) if wanted.match(line)), 0)


def place(path: str, text: str, location: Iterable[int | str]) -> str:
    """`path:line: key.path`."""
    keys = [str(part) for part in location]
    line = line_of(text, keys[-1]) if keys else 0
    return (
        f"{path}:{line}: {'.'.join(keys)}"
        if line
        else ": ".join(filter(None, (path, ".".join(keys))))
    )


def remedy(error: Mapping[str, Any], known: Mapping[str, type[BaseModel]] | type[BaseModel]) -> str:
    """What to write instead of what a pydantic error is about.

    Args:
        known: the model of the table, or the models by the name of the table.
    """
    location = error["loc"]
    if isinstance(known, Mapping):
        model = known.get(str(location[0])) if len(location) > 1 else None
        names = list(model.model_fields) if model else list(known)
    else:
        model, names = known, list(known.model_fields)
    if error["type"] == "extra_forbidden":
        return did_you_mean(str(location[-1]), names) or f"The keys are: {', '.join(names)}."
    field = model.model_fields.get(str(location[-1])) if model and location else None
    if field is None or not field.description:
        return ""
    default = "" if field.is_required() else f"; {field.default!r} where it is left out"
    return f"It says: {field.description}{default}."
