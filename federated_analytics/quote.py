"""What a study would cost at a site that answers with noise, and how wide that noise would be.

Both are known from the study and the policy alone: no site is asked, and nothing is spent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from federated_analytics.analyses.base import Query, analyses
from federated_analytics.canonical import questions
from federated_analytics.errors import FederatedAnalyticsError, PolicyError
from federated_analytics.execution import needs
from federated_analytics.messages import Noise, Terms
from federated_analytics.noisy_study import DATASET
from federated_analytics.omop.cohort import FlatTable, population_query
from federated_analytics.omop.frame import Attrition, Frame, flat_frame_query, frame_query
from federated_analytics.omop.tables import Cdm
from federated_analytics.privacy.accounting import Budget, epsilon_of, remaining, rho_of
from federated_analytics.privacy.noise_plan import cost, statements
from federated_analytics.public_domain import public_domain

if TYPE_CHECKING:
    from federated_analytics.privacy.ledger import Ledger
    from federated_analytics.privacy.noise_statistics import PublicDomain
    from federated_analytics.study import Study


@dataclass(frozen=True)
class QuotedAnalysis:
    """One analysis of a study in one of its populations.

    Fields:
        noise: of each number that it would hold; empty where it would be refused
        refused: then why
    """

    position: int
    kind: str
    population: str
    noise: tuple[Noise, ...] = ()
    refused: str = ""


@dataclass(frozen=True)
class StudyQuote:
    """What a study would cost at one site, at most: what was answered before costs nothing.

    Fields:
        epsilon: privacy loss of the whole study at `delta`; 0 where nothing can be answered
        budget_epsilon, budget_days: the analyst's budget there, and its period
        left: ε that is left of it, None where that is not known
        left_after: ε that would be left, None likewise
    """

    epsilon: float
    delta: float
    budget_epsilon: float
    budget_days: int
    analyses: tuple[QuotedAnalysis, ...]
    left: float | None = None
    left_after: float | None = None

    @property
    def affordable(self) -> bool:
        """The budget covers it, as far as what is left is known."""
        left = self.budget_epsilon if self.left is None else self.left
        # What a site says is left was itself converted, and is short of it by rounding.
        return self.epsilon <= left * (1 + 1e-9)


def quote(study: Study, terms: Terms, left: float | None = None) -> StudyQuote:
    """The cost of a study under a site's terms.

    Args:
        left: ε that the site says is left of the analyst's budget.

    Raises:
        PolicyError: the site answers without noise: nothing is charged there.
    """
    if terms.mode != "dp":
        raise PolicyError(
            "The policy answers with exact numbers: nothing is charged.",
            where="mode",
            remedy='A quote is for a policy with mode = "dp".',
        )
    planned = list(_planned(study))
    whole = sum(part for _, parts in planned for _, part in parts)
    epsilon = terms.epsilon if whole else 0.0
    rho = rho_of(terms.epsilon, terms.delta)
    found = []
    for one, parts in planned:
        shares = [(domain, rho * part / whole) for domain, part in parts]
        noise = [_said(s) for domain, share in shares for s in statements(domain, share)]
        found.append(replace(one, noise=tuple(noise)))
    after = None
    if left is not None:
        remains = (rho_of(left, terms.delta) if left > 0 else 0.0) - (rho if whole else 0.0)
        after = epsilon_of(max(0.0, remains), terms.delta)
    budget = (terms.budget_epsilon, terms.budget_days)
    return StudyQuote(epsilon, terms.delta, *budget, tuple(found), left, after)


def budget_left(terms: Terms, ledger: Ledger, analyst: str) -> float:
    """ε that is left now of an analyst's budget at the site whose ledger it is."""
    budget = Budget(terms.budget_epsilon, terms.delta, terms.budget_days)
    charges = [entry.charge for entry in ledger.charges()]
    left = remaining(budget, charges, time.time(), analyst=analyst, dataset=DATASET)
    return epsilon_of(left.rho, terms.delta)


def _planned(
    study: Study,
) -> Iterator[tuple[QuotedAnalysis, list[tuple[PublicDomain, float]]]]:
    """Each analysis with its questions' public cells and what they cost at unit noise."""
    frames = _Frames(study)
    asked = questions(study)
    for i, query in enumerate(study.analysis):
        for population in study.populations_of(query):
            one = QuotedAnalysis(i, query.kind, population.name)
            try:
                domain = frames.domain(query, population)
                wanted = [
                    set(q.features)
                    for q in asked
                    if (q.analysis, q.population) == (i, population.name)
                ]
                parts = [part for features in wanted if (part := _part(domain, features)).keys]
                yield one, [(part, cost(part, 1.0)) for part in parts]
            except FederatedAnalyticsError as error:
                yield replace(one, refused=f"{error.message} {error.remedy}".strip()), []


def _part(domain: PublicDomain, features: set[str]) -> PublicDomain:
    """The cells of one question, which is answered and kept by itself."""
    keys = {k: kind for k, kind in domain.keys.items() if not features or k.variable in features}
    return replace(domain, keys=keys)


@dataclass
class _Frames:
    """Frames of columns alone: no database stands behind them."""

    study: Study
    _made: dict[str, Frame] = field(default_factory=dict)

    def domain(self, query: Query, population: Any) -> PublicDomain:
        """The public cells of an analysis; RequestRefused where only the data know them."""
        analysis = analyses()[query.kind]
        if not analysis.answers_with_noise:
            raise PolicyError(f"{query.kind} is not answered with noise.")
        at_site = query.model_copy(update={"by": tuple(s for s in query.by if s != "site")})
        strata = self.study.strata_of(query, population)
        return public_domain(analysis, at_site, self._frame(population), strata)

    def _frame(self, population: Any) -> Frame:
        if population.name not in self._made:
            self._made[population.name] = _frame(self.study, population)
        return self._made[population.name]


def _frame(study: Study, population: Any) -> Frame:
    asked = [q for q in study.analysis if population in study.populations_of(q)]
    features, strata = needs(study, population, asked)
    if isinstance(population, FlatTable):
        query = flat_frame_query(Cdm(), population.table, features, strata, bounded=True)
        return query.over(query.select.subquery("frame"))
    found = population_query(Cdm(), population, _cohort(population))
    candidates = found.persons.subquery("candidate")
    attrition = Attrition(candidates, found.steps)
    indexed = population.has_index_date
    query = frame_query(Cdm(), candidates, features, strata, attrition, indexed=indexed)
    return query.over(query.select.subquery("frame"))


def _cohort(population: Any) -> Any:
    """An ATLAS cohort's table, which is not there yet."""
    import sqlalchemy as sa

    columns = (("subject_id", sa.BigInteger), ("cohort_start_date", sa.Date))
    dates = (*columns, ("cohort_end_date", sa.Date))
    table = sa.table("cohort", *(sa.column(name, kind) for name, kind in dates))
    return table if population.kind == "atlas" else None


def _said(statement: Any) -> Noise:
    of = statement.family
    number = (statement.statistic, statement.scale, statement.accuracy95)
    return Noise(of.strata, of.variable, of.level, of.name, *number)


def to_text(quoted: StudyQuote) -> str:
    """A quote in words and a table: what it costs, and ± within which 95 of 100 numbers lie."""
    lines = [
        f"ε = {quoted.epsilon:g} at δ = {quoted.delta:g}, of a budget of ε = "
        f"{quoted.budget_epsilon:g} in {quoted.budget_days} days. "
        "What was answered before costs nothing."
    ]
    if quoted.left is not None:
        left = f"Left of the budget: ε = {quoted.left:.3g}"
        lines.append(
            f"{left}; after this study {quoted.left_after:.3g}."
            if quoted.affordable
            else f"{left}, which does not cover the study: it would be refused (budget_spent)."
        )
    elif not quoted.affordable:
        lines.append("The budget does not cover the study: it would be refused (budget_spent).")
    for one in quoted.analyses:
        lines += ["", f"analysis[{one.position}] {one.kind}, among {one.population}"]
        lines += [f"  Refused: {one.refused}"] if one.refused else _table(one.noise)
    return "\n".join(lines) + "\n"


def _table(noise: Sequence[Noise]) -> list[str]:
    """A line for all numbers that carry the same noise."""
    rows: dict[tuple[str, ...], None] = {}
    for one in noise:
        number = one.statistic if one.statistic == one.name else f"{one.name}: {one.statistic}"
        by = " × ".join(one.strata) or "overall"
        widths = (f"{one.scale:.3g}", f"{one.accuracy95:.3g}")
        rows[one.variable, by, number, *widths] = None
    heads = ("", "by", "number", "noise (SD)", "95 in 100 within ±")
    return aligned([heads, *rows])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as columns of text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
