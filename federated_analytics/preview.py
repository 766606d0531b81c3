"""What a study would do at a site: its SQL and the numbers that would leave. Nothing is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from federated_analytics.analyses.base import Query, analyses
from federated_analytics.execution import needs
from federated_analytics.omop.database import database_url, may_create_temporary, snapshot
from federated_analytics.omop.strata import groupings
from federated_analytics.omop.tables import Cdm, Statement
from federated_analytics.omop.workspace import Workspace
from federated_analytics.quote import quote, to_text

if TYPE_CHECKING:
    from federated_analytics.privacy.policy import Policy
    from federated_analytics.study import Study

SECONDS = 30


@dataclass
class _Recorder(Workspace):
    """A workspace that writes its statements down instead of running them."""

    statements: list[str] = field(default_factory=list)

    def _create(self, name: str, query: Statement) -> None:
        self.statements.append(f"CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS {literal(query)}")

    def _script(self, statements: Sequence[str]) -> None:
        self.statements += statements


def preview(study: Study, url: str, policy: Policy, cdm: Cdm | None = None) -> str:
    """The SQL of a study and what would leave, as text.

    The database is asked only whether its role may create temporary tables and, for a flat
    table, which columns it has.
    """
    parts = [f"-- {study.study.name}", f"-- study {study.digest[:12]}"]
    with snapshot(database_url(url), SECONDS) as connection:
        parts.append(statements(study, connection, cdm or Cdm()))
    parts += ["", "-- What would leave", *(f"--   {line}" for line in leaving(study))]
    parts.append(_terms(policy))
    parts += [f"-- {line}" for line in would_be_refused(study, policy)]
    if policy.mode == "dp":
        quoted = to_text(quote(study, policy.terms))
        parts += ["", "-- What it would cost", *(f"--   {line}" for line in quoted.splitlines())]
    return "\n".join(parts) + "\n"


def statements(study: Study, connection: sa.Connection, cdm: Cdm) -> str:
    """The SQL of a study; nothing of it is run."""
    parts: list[str] = []
    workspace = _Recorder(connection, cdm, may_create_temporary(connection))
    for population in study.population:
        asked = [q for q in study.analysis if population in study.populations_of(q)]
        if asked:
            parts += _population(workspace, study, population, asked)
    return "\n".join(parts)


def leaving(study: Study) -> list[str]:
    """What a site would send, in words, a line an item."""
    return [line for query in study.analysis for line in _leaving(study, query)]


def would_be_refused(study: Study, policy: Policy) -> list[str]:
    """What the policy alone says against a study, before any data are read."""
    found = []
    for i, query in enumerate(study.analysis):
        if policy.mode == "dp" and not analyses()[query.kind].answers_with_noise:
            found.append(f"Refused: analysis[{i}], {query.kind} is not answered with noise.")
        if "site" in query.by and not policy.per_site:
            found.append(f"Not shown: analysis[{i}], the site's own numbers (per_site = false).")
    if policy.approval == "manual":
        found.append("The study waits until a person at the site has approved it.")
    return found


def _population(
    workspace: _Recorder, study: Study, population: Any, asked: Sequence[Query]
) -> list[str]:
    features, strata = needs(study, population, asked)
    frame = workspace.frame(population, features, strata)
    parts = ["", f"-- Population {population.name}"]
    parts += [f"{statement.strip()};\n" for statement in workspace.statements]
    workspace.statements.clear()
    for query in asked:
        parts.append(f"-- {query.kind}: {', '.join(query.features) or 'persons'}")
        at_site = query.model_copy(update={"by": tuple(s for s in query.by if s != "site")})
        statements = analyses()[query.kind].select(at_site, frame)
        parts += [f"{literal(statement)};\n" for statement in statements]
    return parts


def literal(query: Statement) -> str:
    """A statement with its parameters written in, for reading."""
    compiled = query.compile(
        dialect=postgresql.dialect(),  # type: ignore[no-untyped-call]
        compile_kwargs={"literal_binds": True},
    )
    return str(compiled)


def _leaving(study: Study, query: Query) -> list[str]:
    by = [name for name in query.by if name != "site"]
    groups = [" × ".join(by[i] for i in group) or "overall" for group in groupings(len(by))]
    names = ", ".join(p.name for p in study.populations_of(query))
    lines = [f"{query.kind} of {names}: {analyses()[query.kind].leaves};"]
    if query.features:
        lines.append(f"  features: {', '.join(query.features)};")
    lines.append(f"  by: {', '.join(groups)}.")
    return lines


def _terms(policy: Policy) -> str:
    shown = "may" if policy.per_site else "may not"
    return (
        f"-- Policy: no number that rests on 1 to {policy.min_count - 1} persons leaves; "
        f"at least {policy.min_sites} sites stand behind a pooled number; "
        f"this site's own numbers {shown} be shown beside it."
    )
