"""A study as the site operator sees it before it runs: in words, in SQL, and what would leave."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from federated_analytics.code_digest import code_digest
from federated_analytics.preview import leaving, statements
from federated_analytics.privacy.asked import Asked

if TYPE_CHECKING:
    from federated_analytics.guarded_answer import Asker
    from federated_analytics.site import Site
    from federated_analytics.study import Study

SECONDS = 30.0


def approval_request(site: Site, asker: Asker, study: Study) -> Asked:
    """Everything that a person needs to decide; the database is asked for its grants alone."""
    with site.snapshot(SECONDS) as connection:
        sql = statements(study, connection, site.cdm)
    return Asked(
        study_name=study.study.name,
        study=study.to_json(),
        digest=study.digest,
        analyst=asker.name,
        project=asker.project,
        question=_in_words(study),
        sql=sql,
        leaves="\n".join(leaving(study)),
        cost=_cost(site),
        # Of her code and of the site's own, which is what reads the database.
        code_digest=hashlib.sha256(f"{asker.code}/{code_digest()}".encode()).hexdigest(),
        asked_at=time.time(),
    )


def _in_words(study: Study) -> str:
    parts = [study.study.description.strip()] if study.study.description else []
    for query in study.analysis:
        names = ", ".join(p.name for p in study.populations_of(query))
        features = f" of {', '.join(query.features)}" if query.features else ""
        by = f", by {', '.join(query.by)}" if query.by else ""
        parts.append(f"{query.kind}{features}, among {names}{by}")
    return "\n".join(parts)


def _cost(site: Site) -> str:
    policy = site.policy
    if policy.mode != "dp":
        return "Nothing: exact numbers under the policy's rules."
    return (
        f"ε = {policy.epsilon:g} of {policy.budget_epsilon:g} in {policy.budget_days} days, "
        f"at δ = {policy.delta:g}."
    )
