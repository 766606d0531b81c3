"""The console's pages: Jinja2 templates, in which every text is escaped and safe to read."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from federated_analytics.privacy.asked import shown
from federated_analytics.report.page_style import STYLE_SHEET

if TYPE_CHECKING:
    import jinja2


def page(template: str, **facts: Any) -> str:
    """A page as HTML."""
    return _environment().get_template(template).render(**facts)


@cache
def style_sheet() -> str:
    """The report's style sheet with the console's own rules after it."""
    own = files(__package__).joinpath("console.css").read_text(encoding="utf-8")
    return STYLE_SHEET + own


@cache
def _environment() -> jinja2.Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("federated_analytics.site_service.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Every text on its way into a page, also one that a template's author forgot.
        finalize=lambda value: shown(value) if type(value) is str else value,
    )
    environment.filters |= {"date": _date, "number": _number, "hash": _hash}
    return environment


def _date(seconds: float) -> Markup:
    moment = datetime.fromtimestamp(seconds, UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        moment.isoformat(timespec="seconds"), f"{moment:%Y-%m-%d %H:%M} UTC"
    )


def _number(value: float) -> str:
    return f"{value:.4g}"


def _hash(value: str) -> Markup:
    """A hash that a narrow screen may break, in groups that an eye can compare."""
    groups = [value[i : i + 8] for i in range(0, len(value), 8)]
    return Markup('<code class="hash">{}</code>').format(
        Markup("<wbr>").join(escape(shown(group)) for group in groups)
    )
