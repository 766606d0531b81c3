"""Sites that answer without a database: honest, refusing and failing ones."""

from __future__ import annotations

from collections.abc import Callable

from federated_analytics import wire
from federated_analytics.messages import Refusal
from federated_analytics.privacy.policy import Policy, refuse
from federated_analytics.report.result import Result
from federated_analytics.study import Study

STUDY = Study.parse('[study]\nname = "Ages"\n[[analysis]]\nkind = "counts"\n')
OTHER = Study.parse('[study]\nname = "Other"\n[[analysis]]\nkind = "counts"\n')
Answer = Callable[[bytes], bytes]


def honest(name: str, study: Study = STUDY, database: str = "") -> Answer:
    """A site that releases nothing of anybody, in good form."""
    policy = Policy(min_sites=1)
    release = policy.release(
        [],
        site=name,
        study=study.digest,
        round=1,
        version="0",
        database=database,
        synthetic=True,
        seconds=0.1,
    )
    body = wire.encode_release(release)
    return lambda request: body


def refusing(name: str) -> Answer:
    refusal = Refusal("missing_table", "", "The database lacks a table.", "Set cdm-schema.")
    release = refuse(refusal, site=name, study="", round=1, version="0")
    return lambda request: wire.encode_release(release)


def failing(request: bytes) -> bytes:
    raise ValueError("secret password in postgresql://u:pw@h/db")


def participation(result: Result) -> dict[str, dict[str, str]]:
    """The estimates of a result's participation, by site."""
    found: dict[str, dict[str, str]] = {}
    for row in result.select(result_type="participation").rows:
        found.setdefault(row.cdm_name, {})[row.estimate_name] = row.estimate_value
    return found
