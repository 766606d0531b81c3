"""The server's status pages: plain HTML without anything from elsewhere, and without any row."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from federated_analytics.fedmed.expression import ARITY
from federated_analytics.fedmed.reduce import REDUCTIONS

if TYPE_CHECKING:
    from federated_analytics.fedmed.server import Server

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:46rem;padding:0 1rem;"
    "color:#1b1b1b;background:#fff}nav a{margin-right:1rem}table{border-collapse:collapse;"
    "width:100%}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd}"
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
"""Of every response: nothing from elsewhere is loaded, and no script runs."""
_NAV = {"/": "Status", "/ops": "Operations", "/data": "Data", "/policies": "Policies"}


def locked(name: str) -> str:
    """What who has no token sees."""
    return _page(name, "<p>This server answers clients that have its owner's token.</p>", {})


def _status(server: Server) -> str:
    loud = ""
    if server.config.is_off:
        from federated_analytics.fedmed.server import OFF

        loud = f"<p class=loud>{html.escape(OFF)}</p>"
    count = len(server.fragments)
    text = f"<p>{count} fragment{'s' if count != 1 else ''}; clients post to /answer.</p>"
    return _page(server.name, loud + text)


def _operation_table(server: Server) -> str:
    listed = server.config.methods
    if listed:
        rows = [(name, m.operation, "own" if m.own else "") for name, m in listed.items()]
    else:
        rows = [(name, name, "") for name in (*REDUCTIONS, *ARITY)]
    return _table(("method", "operation", ""), rows)


def _data(server: Server) -> str:
    rows = []
    for name in server.fragments:
        for keys, kind in server[name].kinds.items():
            rows.append((name, "".join(f"[{key!r}]" for key in keys), kind))
    return _page(server.name, _table(("fragment", "column", "kind"), rows))


def _policy_table(server: Server) -> str:
    config = server.config
    rows = [(name, str(value)) for name, value in config.policy.model_dump().items()]
    own = (config.new_samples, config.noise, config.coarsening, config.saturation)
    rows += [(type(one).__name__, str(one)) for one in own if one is not None]
    if config.complexity_cap is not None:
        rows.append(("ComplexityCap", str(config.complexity_cap)))
    return _table(("policy", "value"), rows)


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
