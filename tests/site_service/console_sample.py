"""A site's console with invented studies, as the tests and a developer's browser see it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from federated_analytics.privacy.approval import Approvals
from federated_analytics.privacy.asked import Asked
from federated_analytics.site_service.console.state import (
    AuditLine,
    Budget,
    Charge,
    ConsoleState,
    PolicyLine,
)

NOW = 1_790_000_000.0
SQL = """SELECT gender_concept_id AS sex,
       count(*) AS persons,
       avg(systolic_bp) AS mean,
       var_samp(systolic_bp) AS variance
FROM frame
WHERE systolic_bp BETWEEN 40 AND 300
GROUP BY gender_concept_id
ORDER BY gender_concept_id;"""
ASKED = Asked(
    study_name="Blood pressure of adults by sex",
    study='{"name": "Blood pressure of adults by sex", "population": "adults"}',
    digest="3f9a1c04" * 8,
    analyst="Ada Moreau, Inselspital",
    project="cardio-2026",
    question="How high is the systolic blood pressure of adults, by sex?\n"
    "Population: persons who are 18 or older at their first visit.",
    sql=SQL,
    leaves="For each sex: a count, a mean and a standard deviation. Groups under 5 are kept back.",
    cost="no privacy budget; the answer is exact",
    code_digest="77aa20be" * 8,
    asked_at=NOW,
)
MARKUP = '"><script>alert(1)</script><img src=x onerror=alert(1)>\u202egnp.exe {{7*7}}'
HOSTILE = replace(
    ASKED, study_name=MARKUP, question=MARKUP, sql=MARKUP, leaves=MARKUP, analyst=MARKUP,
    project=MARKUP, cost=MARKUP, study=MARKUP, digest=MARKUP, code_digest=MARKUP,
)  # fmt: skip


def sample(folder: Path, problems: tuple[str, ...] = ()) -> ConsoleState:
    """A console over an approvals file in `folder`, with a ledger and an audit of its own."""
    return ConsoleState(
        site="Hospital B",
        operator="olga",
        approvals=Approvals.open(folder),
        budgets=lambda: [
            Budget("Ada Moreau", "omop", 0.75, 2.0, "ε", NOW),
            Budget(MARKUP, "omop", 1.95, 2.0, "ε", NOW),
        ],
        charges=lambda limit: [
            Charge(NOW + i * 3_600, "Ada Moreau", "omop", 0.25, "ε", f"{i:032x}") for i in range(3)
        ][:limit],
        audit_lines=_audit_lines,
        audit_problems=lambda: problems,
        policy=lambda: [
            PolicyLine("min_count", "5", "5", "No number rests on 1 to 4 persons."),
            PolicyLine("approval", "manual", "none", "A person approves each study first."),
            PolicyLine("dominance", "0.8", "0.8", "No sum of which one person is over 80 %."),
        ],
        policy_text=lambda: 'preset = "strict"\napproval = "manual"\n',
    )


def _audit_lines(before: int | None, limit: int) -> list[AuditLine]:
    last = 250 if before is None else before - 1
    return [
        AuditLine(
            number,
            "2026-11-23T05:30:00Z",
            "Ada Moreau",
            "cardio-2026",
            MARKUP if number == 249 else ASKED.study_name,
            "refused" if number % 7 == 0 else "released",
            "R1" if number % 7 == 0 else "",
            f"{number:064x}",
        )
        for number in range(last, max(last - limit, 0), -1)
    ]
