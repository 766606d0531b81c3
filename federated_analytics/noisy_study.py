"""A study with noise: charged once, and each question answered as it was answered before (R8)."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from federated_analytics import wire
from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.table import Key
from federated_analytics.analyses.counts import ATTRITION, PERSONS
from federated_analytics.canonical import Question
from federated_analytics.errors import RequestRefused
from federated_analytics.messages import Answer, Noise
from federated_analytics.privacy.accounting import (
    Budget,
    Charge,
    epsilon_of,
    remaining,
    require,
    rho_of,
    spent,
)
from federated_analytics.privacy.consistency import falling
from federated_analytics.privacy.draft import Evidence
from federated_analytics.privacy.noise_plan import cost
from federated_analytics.privacy.noise_statistics import PublicDomain
from federated_analytics.privacy.noisy_answers import NoisyDraft, Planned, planned, with_noise

if TYPE_CHECKING:
    from federated_analytics.guarded_answer import Asker
    from federated_analytics.privacy.ledger import Ledger
    from federated_analytics.privacy.policy import Policy
    from federated_analytics.study import Study


DATASET = "database"
"""A site holds one data set; budgets are kept by analyst and data set."""


@dataclass(frozen=True)
class _Unit:
    """One question of a study with the part of its analysis that answers it."""

    question: Question
    plan: Planned
    key: str
    held: bytes | None


def charged_answers(
    policy: Policy,
    ledger: Ledger,
    asker: Asker,
    study: Study,
    evidence: Sequence[Evidence],
    version: str,
    asked: Sequence[Question],
) -> tuple[tuple[Answer, ...], tuple[float, float]]:
    """The answers with noise, and the ε that was charged and what is left.

    A question that was answered before is given the same answer, whatever it is called now, and
    costs nothing. The charge is durable before any noise is drawn.

    Args:
        asked: the study's questions, in the words of the site's vocabulary.

    Raises:
        BudgetSpent: the analyst's budget does not cover the study.
        RequestRefused: nothing of the study can be answered with noise.
    """
    whole = planned(evidence)
    units = [unit for plan in whole for unit in _units(plan, asked, ledger, version)]
    if not units:
        refused = [plan.evidence.refusal for plan in whole if plan.evidence.refusal]
        if not refused:
            raise RequestRefused("Nothing in the study can be answered with noise.")
    fresh = [unit for unit in units if unit.held is None]
    charged = _charged(policy, ledger, asker, version, bool(fresh))
    drawn: dict[int, NoisyDraft] = {}
    if fresh:
        rho = rho_of(policy.epsilon, policy.delta)
        made = with_noise([unit.plan for unit in fresh], rho)
        drawn = {id(unit): _falling(one) for unit, one in zip(fresh, made, strict=True)}
    answers = []
    for plan in whole:
        cells: dict[Key, Aggregate] = {}
        noise: list[Noise] = []
        for unit in (u for u in units if u.plan.evidence is plan.evidence):
            body = unit.held
            if body is None:
                body = ledger.keep_answer(unit.key, _packed(unit.question, drawn[id(unit)]))
            by = study.analysis[unit.question.analysis].by
            found = _unpacked(unit.question, by, body)
            cells |= found[0]
            noise += found[1]
        answers.append(policy.noisy_answer(plan.evidence, cells, tuple(noise)))
    return tuple(answers), charged


def _falling(drawn: NoisyDraft) -> NoisyDraft:
    """An attrition whose steps never rise, though noise is drawn for each by itself.

    It costs no privacy: only noisy numbers are read.
    """
    cells = dict(drawn.draft.cells)
    steps = sorted(key for key in cells if key.variable == ATTRITION)
    persons = cells.get(Key((), PERSONS, "", "persons"))
    if not steps or persons is None:
        return drawn
    left = falling([cells[key].support[0] for key in steps], persons.support[0])
    cells |= {key: Count(number) for key, number in zip(steps, left, strict=True)}
    return replace(drawn, draft=replace(drawn.draft, cells=cells))


def _units(plan: Planned, asked: Sequence[Question], ledger: Ledger, version: str) -> list[_Unit]:
    if plan.domain is None:
        return []
    of = plan.evidence
    found = []
    for question in asked:
        if (question.analysis, question.population) != (of.analysis, of.population):
            continue
        part = _part(plan.domain, question)
        if part.keys:
            key = question.key(version)
            one = Planned(of, part, cost(part, 1.0))
            found.append(_Unit(question, one, key, ledger.answer(key)))
    return found


def _part(domain: PublicDomain, question: Question) -> PublicDomain:
    """The cells of one question: those of its features, or all where it asks for none."""
    wanted = set(question.features)
    keys = {k: kind for k, kind in domain.keys.items() if not wanted or k.variable in wanted}
    return replace(domain, keys=keys)


def _charged(
    policy: Policy, ledger: Ledger, asker: Asker, version: str, anything: bool
) -> tuple[float, float]:
    """Charge the ledger for a study of which anything is new; ε charged and ε left."""
    budget = Budget(policy.budget_epsilon, policy.delta, policy.budget_days)
    now = time.time()
    if anything:
        rho = rho_of(policy.epsilon, policy.delta)
        wanted = Charge(rho, 0.0, analyst=asker.name, dataset=DATASET, at=now)

        def allowed(before: list[Charge]) -> None:
            already = spent(budget, before, now, analyst=asker.name, dataset=DATASET)
            require(budget, already, wanted)

        ledger.charge(f"{asker.request}/{version}", wanted, allowed)
    charges = [entry.charge for entry in ledger.charges()]
    left = remaining(budget, charges, now, analyst=asker.name, dataset=DATASET)
    return (policy.epsilon if anything else 0.0), epsilon_of(left.rho, policy.delta)


def _packed(question: Question, drawn: NoisyDraft) -> bytes:
    """An answer under canonical names: features and strata by their places in the question."""
    cells = [[_renamed(question, key), wire.to_plain(v)] for key, v in drawn.draft.cells.items()]
    noise = [
        [
            [question.by.index(s) for s in n.strata],
            _place(question, n.variable),
            n.level,
            n.name,
            n.statistic,
            n.scale,
            n.accuracy95,
        ]
        for n in drawn.noise
    ]
    return json.dumps([cells, noise]).encode()


def _renamed(question: Question, key: Key) -> list[Any]:
    strata = sorted([question.by.index(name), level] for name, level in key.strata)
    return [strata, _place(question, key.variable), key.level, key.name]


def _place(question: Question, variable: str) -> int | str:
    return question.features.index(variable) if variable in question.features else variable


def _unpacked(
    question: Question, by: Sequence[str], body: bytes
) -> tuple[dict[Key, Aggregate], list[Noise]]:
    """A kept answer under the names, and with its strata in the order, of this study."""
    cells, noise = json.loads(body)

    def named(variable: int | str) -> str:
        return question.features[variable] if isinstance(variable, int) else variable

    found: dict[Key, Aggregate] = {}
    for (strata, variable, level, name), plain in cells:
        pairs = [(question.by[i], text) for i, text in strata]
        asked = tuple(sorted(pairs, key=lambda pair: by.index(pair[0])))
        key = Key(asked, named(variable), level, name)
        found[key] = wire.from_plain(Aggregate, plain, "answer")
    said = [
        Noise(tuple(sorted((question.by[i] for i in strata), key=by.index)), named(variable), *rest)
        for strata, variable, *rest in noise
    ]
    return found, said
