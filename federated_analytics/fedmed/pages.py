"""The server's status pages: plain HTML without anything from elsewhere, and without any row."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from federated_analytics.fedmed.expression import ARITY
from federated_analytics.fedmed.methods import stated
from federated_analytics.fedmed.reduce import REDUCTIONS

if TYPE_CHECKING:
    from pydantic import BaseModel

    from federated_analytics.fedmed.methods import Method
    from federated_analytics.fedmed.server import Server

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:46rem;padding:0 1rem;"
    "color:#1b1b1b;background:#fff}nav{margin-bottom:1.5rem}nav a{margin-right:1rem}"
    "table{margin-bottom:2rem;border-collapse:collapse;width:100%}"
    "td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd}"
    ".loud{background:#7a1f1f;color:#fff;padding:.6rem}"
    "@media(prefers-color-scheme:dark){body{background:#161616;color:#eee}td,th{border-color:#444}"
    "a{color:#8ab4f8}}"
)
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Of every page: nothing from elsewhere is loaded, and no script runs."""
DATA_HEADERS = {name: HEADERS[name] for name in ("X-Content-Type-Options", "Cache-Control")}
"""Of what is no page."""
_NAV = {
    "/": "Status",
    "/ops": "Operations",
    "/data": "Data",
    "/policies": "Policies",
    "/config": "Configuration",
}


def locked(name: str) -> str:
    """What who has no token sees."""
    return _page(name, "<p>This server answers clients that have its owner's token.</p>", {})


def stopped(name: str, why: str) -> str:
    """What everybody sees of a server that cannot answer as it is run."""
    return _page(name, f"<p class=loud>{html.escape(why)}</p>", {})


def _loud(server: Server) -> str:
    return "".join(f"<p class=loud>{html.escape(text)}</p>" for text in server.config.warnings)


def _status(server: Server) -> str:
    count = len(server.fragments)
    text = f"<p>{count} fragment{'s' if count != 1 else ''}; clients post to /answer.</p>"
    return _page(server.name, _loud(server) + text)


def _operation_table(server: Server) -> str:
    listed = server.config.methods
    if listed:
        rows = [(name, _what(method), _whose(method)) for name, method in listed.items()]
    else:
        rows = [(name, name, "") for name in (*REDUCTIONS, *ARITY)]
    return _table(("method", "operation", ""), rows)


def _what(method: Method) -> str:
    if method.is_own:
        kind = stated(method)
        return f"releases {kind.__name__}" if kind else "a value for each row"
    return method.operation


def _whose(method: Method) -> str:
    return "the owner's own" if method.is_own else "exact" if method.exact else ""


def _data(server: Server) -> str:
    """No number of rows: those are asked for under the policy."""
    rows = []
    for name in server.fragments:
        fragment = server[name]
        waits = "yes" if fragment.is_waiting else "no"
        for keys, kind in fragment.kinds.items():
            path = "".join(f"[{key!r}]" for key in keys)
            rows.append((name, path, kind, str(fragment.version), waits))
    return _page(server.name, _table(("fragment", "column", "kind", "version", "rows wait"), rows))


def _policy_table(server: Server) -> str:
    """What the owner lists in its order, and the rules that hold for it."""
    config = server.config
    rows = [(type(one).__name__, _params(one)) for one in config.listed]
    rows += [(f"rule: {name}", str(value)) for name, value in config.policy.model_dump().items()]
    return _loud(server) + _table(("policy", "value"), rows)


def _params(policy: BaseModel) -> str:
    given = policy.model_dump(exclude_none=True)
    said = ((name, value) for name, value in given.items() if value not in ("", (), []))
    return ", ".join(f"{name}: {value}" for name, value in said)


PAGES: Mapping[str, Callable[[Server], str]] = {
    "/": _status,
    "/ops": lambda server: _page(server.name, _operation_table(server)),
    "/data": _data,
    "/policies": lambda server: _page(server.name, _policy_table(server)),
    "/config": lambda server: _page(server.name, _operation_table(server) + _policy_table(server)),
}


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    top = "".join(f"<th>{html.escape(text)}</th>" for text in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _page(name: str, body: str, nav: Mapping[str, str] = _NAV) -> str:
    title = html.escape(f"FedMed server {name}".strip())
    links = "".join(f'<a href="{path}">{text}</a>' for path, text in nav.items())
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style><h1>{title}</h1><nav>{links}</nav>{body}</html>"
    )
