"""What a script asks of an OMOP database, as a study; and its numbers, as a result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from federated_analytics.flame.errors import InvalidArgument
from federated_analytics.flame.release_errors import UnknownOmopAnalysis

if TYPE_CHECKING:
    from federated_analytics.couriers import Reply
    from federated_analytics.messages import Disclosure
    from federated_analytics.report.result import Result
    from federated_analytics.study import Study

STUDY_NAME = "flame.omop"
"""Of every study that a script asks: a name of its own choice would carry its text out."""
TABLES = ("population", "feature", "strata", "analysis")


def study_of(tables: Mapping[str, Any]) -> Study:
    """The study that a script asks, from the tables of a study file.

    Raises:
        UnknownOmopAnalysis: it names one that is not there; the remedy lists those that are.
        StudyError: with the key's place and a remedy.
    """
    from federated_analytics.analyses.base import analyses
    from federated_analytics.errors import UnknownAnalysis
    from federated_analytics.study import Study

    for name in tables:
        if name not in TABLES:
            raise InvalidArgument(
                f"There is no table {str(name)[:60]!r}.",
                where=STUDY_NAME,
                remedy=f"The tables of a study are: {', '.join(TABLES)}.",
            )
    try:
        return Study.from_data({"study": {"name": STUDY_NAME}, **tables}, where=STUDY_NAME)
    except UnknownAnalysis as error:
        near = "" if error.remedy.startswith("There are") else f"{error.remedy} "
        listed = f"{near}There are: {', '.join(analyses())}."
        raise UnknownOmopAnalysis(error.message, where=error.where, remedy=listed) from error


def own_result(study: Study, node: str, disclosure: Disclosure) -> Result:
    """What one site's release says, by the formulas of a result; every row is the node's own."""
    from federated_analytics.federation import Outcome
    from federated_analytics.participation import ANSWERED, Participation
    from federated_analytics.report.result import POOLED
    from federated_analytics.results import result_of

    terms = disclosure.terms and replace(disclosure.terms, per_site=False)
    alone = replace(disclosure, terms=terms)
    part = Participation(node, ANSWERED, disclosure.seconds, 0, 0, alone)
    result = result_of(Outcome(study, (part,), 1, 1, datetime.now(UTC), disclosure.seconds))
    rows = (replace(r, cdm_name=node) if r.cdm_name == POOLED else r for r in result.rows)
    return replace(result, rows=tuple(rows))


def merged_result(study: Study, releases: Mapping[str, bytes | None], min_sites: int) -> Result:
    """The result of a study from the releases of its sites: the one that `run` would return.

    Args:
        releases: of each node that was asked; None where none came.

    Raises:
        TooFewSites: fewer sites released it than `min_sites` or a site's policy ask.
    """
    from federated_analytics.federation import Terms, run_study

    return run_study(study, _Kept(releases), Terms(min_sites, 60.0))


@dataclass(frozen=True)
class _Kept:
    """A courier of releases that are here already."""

    releases: Mapping[str, bytes | None]

    def addresses(self) -> list[str]:
        return list(self.releases)

    def exchange(self, requests: Mapping[str, bytes], deadline: float) -> Iterator[Reply]:
        from federated_analytics.couriers import Reply

        for node in requests:
            if (body := self.releases[node]) is not None:
                yield Reply(node, body)
