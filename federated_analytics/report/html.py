"""The report: one HTML file that needs nothing else, on screen, on a phone and on paper."""

from __future__ import annotations

import base64
import re
from typing import Any

from federated_analytics.report.figures.svg import STYLE, Figure
from federated_analytics.report.formats import to_csv
from federated_analytics.report.methods import REFERENCES
from federated_analytics.report.page import page_of
from federated_analytics.report.page_style import STYLE_SHEET
from federated_analytics.report.result import Result
from federated_analytics.report.table_html import table_html
from federated_analytics.report.template import PAGE

CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"
MOST_CSV_ROWS = 60_000
NOT_IN_HTML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")


def render(result: Result) -> str:
    """The report as an HTML text."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup, escape

    def shown(value: Any) -> Any:
        if isinstance(value, Figure):
            return Markup(value.inline())
        if isinstance(value, str) and not isinstance(value, Markup):
            return escape(_printable(value))
        return value

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=shown, trim_blocks=True
    )
    template = environment.from_string(PAGE)
    return template.render(
        page=page_of(result, _csv_link(result)),
        style=Markup(STYLE_SHEET),
        figure_style=Markup(STYLE),
        policy=CONTENT_POLICY,
        references=REFERENCES,
        show_table=lambda table: Markup(table_html(table)),
    )


def _csv_link(result: Result) -> str:
    """The CSV as a data: link; "" where it would make the page too heavy."""
    if len(result.rows) > MOST_CSV_ROWS:
        return ""
    data = to_csv(result).encode("utf-8", "replace")
    return "data:text/csv;charset=utf-8;base64," + base64.b64encode(data).decode("ascii")


def _printable(text: str) -> str:
    """The text without the control characters that HTML does not allow; lines stay."""
    return NOT_IN_HTML.sub("\ufffd", text)
