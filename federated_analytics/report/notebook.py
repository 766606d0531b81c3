"""What a notebook shows of a result: who took part, and the main tables."""

from __future__ import annotations

from html import escape

from federated_analytics.report.cells import View
from federated_analytics.report.regression import regression_tables
from federated_analytics.report.result import Result
from federated_analytics.report.site_tables import participation, privacy_budget, status
from federated_analytics.report.survival import survival_tables
from federated_analytics.report.table_html import table_html
from federated_analytics.report.tables import table_ones

MOST_TABLES = 3

STYLE_SHEET = """
.fa-result table { border-collapse: collapse; margin: 0 0 4px; font-variant-numeric: tabular-nums }
.fa-result caption { text-align: left; font-weight: 600; padding: 8px 0 4px; color: inherit }
.fa-result th, .fa-result td { padding: 2px 10px; text-align: right; background: none;
  border: 0; font-weight: 400; vertical-align: top }
.fa-result thead th { font-weight: 600; border-bottom: 1px solid currentColor }
.fa-result th:first-child, .fa-result .text { text-align: left }
.fa-result tr.heading th, .fa-result tr.strong > * { font-weight: 600 }
.fa-result tr.indent th { padding-left: 24px }
.fa-result .scroll { overflow-x: auto }
.fa-result .notes { opacity: .7; font-size: .85em; margin: 2px 0 8px }
"""


def to_html(result: Result) -> str:
    """The result as an HTML fragment with a style sheet of its own."""
    view = View(result)
    name = escape(result.setting("study") or "Result")
    asked = view.of("participation")
    answered = sum(status(cell) == "answered" for cell in asked)
    facts = [f"{answered} of {len(asked)} sites answered"] if asked else []
    facts.append(f"{len(result.rows):,} rows")
    if result.setting("synthetic") == "true":
        facts.insert(0, "synthetic data")
    tables = [table for table in table_ones(view) if table.main][:MOST_TABLES]
    for make in (survival_tables, regression_tables):
        own = [table for name in view.populations for table in make(view, name) if table.main]
        tables += own[:MOST_TABLES]
    shown = [participation(view)] if asked else []
    budget = privacy_budget(view)
    shown += [budget] if budget.lines else []
    body = "".join(map(table_html, [*shown, *tables]))
    return (
        f'<div class="fa-result"><style>{STYLE_SHEET}</style><strong>{name}</strong>'
        f'<p class="notes">{escape(" · ".join(facts))}</p>{body}</div>'
    )
