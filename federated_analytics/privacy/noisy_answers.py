"""R9 over a whole study: one privacy loss, divided so that all counts of persons carry equal noise.

Everything that leaves goes through noise: nothing is withheld because of what the data are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.table import Key
from federated_analytics.errors import FederatedAnalyticsError, RequestRefused
from federated_analytics.messages import Noise, Refusal
from federated_analytics.privacy.consistency import margins
from federated_analytics.privacy.draft import Draft, Evidence
from federated_analytics.privacy.noise import noisy
from federated_analytics.privacy.noise_plan import NoiseStatement, cost
from federated_analytics.privacy.noise_statistics import PublicDomain


@dataclass(frozen=True)
class NoisyDraft:
    """A draft whose cells carry noise, and how much."""

    draft: Draft
    noise: tuple[Noise, ...] = ()


@dataclass(frozen=True)
class Planned:
    """One analysis before its noise is drawn.

    Fields:
        domain: its public cells; None where it cannot be answered with noise
        cost: zCDP ρ at which its counts of persons have noise of deviation 1
    """

    evidence: Evidence
    domain: PublicDomain | None
    cost: float = 0.0


def planned(evidence: Sequence[Evidence]) -> list[Planned]:
    """What each analysis would cost: known without the data. One that cannot be is refused."""
    found = []
    for one in evidence:
        if one.refusal is not None or one.domain is None:
            found.append(Planned(one, None))
            continue
        try:
            domain = one.domain()
            found.append(Planned(one, domain, cost(domain, 1.0)))
        except FederatedAnalyticsError as error:
            refusal = Refusal(error.code, error.where[:200], error.message, error.remedy)
            found.append(Planned(replace(one, table={}, refusal=refusal), None))
    return found


def with_noise(plans: Sequence[Planned], rho: float) -> list[NoisyDraft]:
    """Every analysis with noise, for a loss of `rho` in all.

    Raises:
        RequestRefused: nothing of the study can be answered with noise.
    """
    whole = sum(plan.cost for plan in plans)
    if not whole:
        raise RequestRefused(
            "Nothing in the study can be answered with noise.",
            remedy="Ask for summaries, quantiles, histograms or counts by public strata.",
        )
    return [_noisy(plan, rho * plan.cost / whole) for plan in plans]


def _noisy(plan: Planned, rho: float) -> NoisyDraft:
    if plan.domain is None:
        return NoisyDraft(Draft(plan.evidence, {}, {}))
    drawn = noisy(plan.evidence.table, plan.domain, rho=rho)
    counts = [key for key, kind in plan.domain.keys.items() if kind is Count]
    cells: dict[Key, Aggregate] = drawn.consistent(margins(counts))
    return NoisyDraft(Draft(plan.evidence, cells, {}), tuple(map(_said, drawn.statements)))


def _said(statement: NoiseStatement) -> Noise:
    family = statement.family
    return Noise(
        family.strata,
        family.variable,
        family.level,
        family.name,
        statement.statistic,
        statement.scale,
        statement.accuracy95,
    )
