"""Rows of the result about the sites: who took part, and what each withheld and why."""

from __future__ import annotations

from federated_analytics.federation import Outcome
from federated_analytics.messages import Answer, Terms
from federated_analytics.participation import Participation
from federated_analytics.report.result import Row, pair

REASONS = {
    "R1": "rests on fewer than {k} persons",
    "R2": "another number that is withheld would follow from it",
    "R3": "one person makes up most of the sum",
    "R4": "its groups are too small for intervals that they can share",
    "R6": "fewer than {k} persons have the event, or fewer than {k} leave without it",
    "R7": "too many parameters for its persons, or a column sets fewer than {k} of them apart",
}
"""Of a rule, as a report says it."""


def answers_of(p: Participation) -> tuple[Answer, ...]:
    return p.disclosure.answers if p.disclosure else ()


def shows_own(p: Participation) -> bool:
    return bool(p.disclosure and p.disclosure.terms and p.disclosure.terms.per_site)


def terms_of(outcome: Outcome, site: str) -> Terms | None:
    for p in outcome.answered:
        if p.site == site and p.disclosure:
            return p.disclosure.terms
    return None


def participation_rows(p: Participation, result_id: int, by_site: bool) -> list[Row]:
    refusal = p.refusal
    part = [a for a in answers_of(p) if a.refusal is not None]
    if refusal is None and part:
        refusal = part[0].refusal
    notes = [p.note] if p.note else []
    if part:
        notes.append(f"{len(part)} of {len(answers_of(p))} analyses refused")
    if by_site and p.disclosure is not None and not shows_own(p):
        notes.append("its policy does not let its own numbers be shown (per_site)")
    estimates: list[tuple[str, str, str]] = [
        ("status", "character", p.status),
        ("code", "character", refusal.code if refusal else ""),
        ("message", "character", _sentence(refusal.where, refusal.message) if refusal else ""),
        ("remedy", "character", refusal.remedy if refusal else ""),
        ("seconds", "numeric", f"{p.seconds:.2f}"),
        ("site_seconds", "numeric", f"{p.disclosure.seconds:.3f}" if p.disclosure else ""),
        ("bytes_sent", "integer", str(p.bytes_sent)),
        ("bytes_received", "integer", str(p.bytes_received)),
        ("version", "character", p.disclosure.version if p.disclosure else ""),
        ("epsilon_charged", "numeric", _epsilon(p, "charged")),
        ("epsilon_remaining", "numeric", _epsilon(p, "remaining")),
        ("epsilon_budget", "numeric", _dp_term(p, "budget_epsilon")),
        ("delta", "numeric", _dp_term(p, "delta")),
        ("budget_days", "integer", _dp_term(p, "budget_days")),
        ("note", "character", "; ".join(notes)),
    ]
    return [
        _plain(result_id, p.site, "participation", None, name, kind, value)
        for name, kind, value in estimates
        if value
    ]


def _epsilon(p: Participation, which: str) -> str:
    terms = p.disclosure.terms if p.disclosure else None
    if terms is None or terms.mode != "dp":
        return ""
    return f"{getattr(p.disclosure, which):.4g}"


def _dp_term(p: Participation, name: str) -> str:
    terms = p.disclosure.terms if p.disclosure else None
    return f"{getattr(terms, name):g}" if terms is not None and terms.mode == "dp" else ""


def _sentence(where: str, message: str) -> str:
    return f"{where}: {message}" if where else message


def suppression_rows(outcome: Outcome, p: Participation, result_id: int) -> list[Row]:
    """How many cells a site kept back, by analysis, population, feature and rule."""
    counts: dict[tuple[str, str, str, str], int] = {}
    for answer in answers_of(p):
        kind = outcome.study.analysis[answer.analysis].kind
        for place in answer.withheld:
            variable = place.key.variable or "other"
            key = (kind, answer.population, variable, place.rule)
            counts[key] = counts.get(key, 0) + 1
    rows = []
    for (kind, population, variable, rule), count in sorted(counts.items()):
        terms = terms_of(outcome, p.site)
        reason = REASONS.get(rule, rule).format(k=terms.min_count if terms else 1)
        additional = pair(["rule", "analysis", "population"], [rule, kind, population])
        for name, type_, value in (
            ("count_suppressed", "integer", str(count)),
            ("reason", "character", reason),
        ):
            rows.append(_plain(result_id, p.site, variable, None, name, type_, value, additional))
    return rows


def _plain(
    result_id: int,
    cdm_name: str,
    variable: str,
    level: str | None,
    name: str,
    kind: str,
    value: str,
    additional: tuple[str, str] = ("overall", "overall"),
) -> Row:
    return Row(
        result_id=result_id,
        cdm_name=cdm_name,
        group_name="overall",
        group_level="overall",
        strata_name="overall",
        strata_level="overall",
        variable_name=variable,
        variable_level=level,
        estimate_name=name,
        estimate_type=kind,
        estimate_value=value,
        additional_name=additional[0],
        additional_level=additional[1],
    )
