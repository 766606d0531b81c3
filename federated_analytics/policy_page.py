"""Every key of `site.toml` with its default, and every preset, as text: made from the models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from federated_analytics.privacy.policy import Policy
from federated_analytics.privacy.presets import PRESETS
from federated_analytics.site_config import TABLES

HEAD = """# `site.toml`

What a site operator decides, in one file. Unknown keys stop the site with the line and the
reason. This page is written by `federated-analytics site policy page`; a test compares them.

```toml
[site]
name = "hospital-a"

[database]
url_file = "database-url"            # the URL stays out of this file

[policy]
preset = "strict"                    # any line below it is the site's own choice

[[project]]
name = "diabetes-2026"

[[analyst]]
name = "A. Analyst"
key = "ed25519:…"                    # from `federated-analytics key show`
projects = ["diabetes-2026"]
```
"""


def policy_page() -> str:
    """`docs/policy.md`."""
    parts = [HEAD]
    for name, model in TABLES.items():
        heading = f"[[{name}]]" if name in ("project", "analyst", "peer") else f"[{name}]"
        parts.append(f"## `{heading}`\n\n| key | meaning | where it is left out |\n|---|---|---|")
        parts += _rows(model)
        parts.append("")
    parts.append("## Presets\n\n| preset | sets | why | source |\n|---|---|---|---|")
    for name, start in PRESETS.items():
        values = ", ".join(f"`{k} = {toml_value(v)}`" for k, v in start.values.items())
        parts.append(
            f"| `{name}` | {values or 'the defaults above'} | {start.reason} | {start.source} |"
        )
    return "\n".join(parts) + "\n"


def _rows(model: type[BaseModel]) -> Iterator[str]:
    for key, field in model.model_fields.items():
        yield f"| `{key}` | {field.description} | {_default(field)} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "it must be there"
    return f"`{toml_value(field.get_default(call_default_factory=True))}`"


def toml_value(value: Any) -> str:
    """A value as it is written in the file."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return (
        f'"{value}"'
        if isinstance(value, str)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def toml_text(policy: Policy) -> str:
    """Every key of a policy as TOML."""
    import tomli_w

    return tomli_w.dumps({"policy": policy.model_dump()})


def explain(policy: Policy) -> str:
    """A policy in words: what each rule does with these values."""
    start = PRESETS[policy.preset]
    lines = [f"Policy {policy.preset}: {start.reason}", ""]
    own = [k for k in Policy.model_fields if getattr(policy, k) != getattr(_of(policy.preset), k)]
    for key, field in Policy.model_fields.items():
        mark = "*" if key in own else " "
        text = f"{mark} {key} = {toml_value(getattr(policy, key))}"
        lines.append(f"{text:<32} {field.description}")
    if own:
        lines += ["", f"* differs from the preset: {', '.join(own)}."]
    return "\n".join(lines) + "\n"


def _of(preset: str) -> Policy:
    return Policy.parse({"preset": preset}, where="preset")
