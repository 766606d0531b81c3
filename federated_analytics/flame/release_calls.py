"""The calls of `flame.omop` and `flame.aggregate` that a worker makes to its node."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from federated_analytics.flame.release_errors import NoOmopDatabase, NoReleases, NotARelease
from federated_analytics.flame.releases import disclosed

if TYPE_CHECKING:
    from federated_analytics.errors import FederatedAnalyticsError
    from federated_analytics.flame.node_host import NodeHost
    from federated_analytics.study import Study


class OwnSite(Protocol):
    """The site at which a node stands: `omop_site.ScriptStudies`."""

    def release(self, study: Study) -> bytes:
        """The site's release of a study, signed; a refusal is a release too. Never raises."""
        ...

    def note(self, error: FederatedAnalyticsError) -> None:
        """Write into the site's audit that a script was refused something."""
        ...


class ReleaseCalls:
    """Part of `NodeCalls`."""

    _host: NodeHost
    _own_site: OwnSite | None

    def call_omop_analyses(self) -> list[str]:
        from federated_analytics.analyses.base import analyses

        return list(analyses())

    def call_omop(self, tables: dict[str, Any]) -> dict[str, Any]:
        """Ask the node's own site: a handle, and the numbers or the refusal."""
        from federated_analytics.flame.omop_study import own_result, study_of
        from federated_analytics.report.formats import to_json

        study = study_of(tables)
        if self._own_site is None:
            raise self._without_database()
        body = self._own_site.release(study)
        said = disclosed(body)
        refusals = [answer.refusal for answer in said.answers]
        refusal = said.refusal or (refusals[0] if refusals and all(refusals) else None)
        answer: dict[str, Any] = {
            "id": self._host.keep_release(body),
            "node": self._host.settings.node,
            "study": study.digest,
            "refusal": None,
        }
        if refusal is not None:
            answer["refusal"] = {key: getattr(refusal, key) for key in _REFUSAL}
        if said.refusal is None:
            answer["result"] = to_json(own_result(study, self._host.settings.node, said))
        return answer

    def call_send_release(self, id: str, receivers: list[str]) -> None:
        self._host.check_nodes(receivers, "receivers")
        try:
            self._host.send_release(id, receivers)
        except NotARelease as error:
            if self._own_site is not None:
                self._own_site.note(error)
            raise

    def call_await_releases(
        self, senders: list[str], timeout: float | None, tables: dict[str, Any] | None
    ) -> dict[str, list[dict[str, Any]]]:
        """Handles of the releases of each sender, of one study where its tables are given."""
        from federated_analytics.flame.omop_study import study_of

        self._host.check_nodes(senders, "senders")
        study = None if tables is None else study_of(tables).digest
        deadline = None if timeout is None else time.monotonic() + timeout
        found = self._host.await_releases(senders, study, deadline)
        return {sender: [self._handle(id) for id in ids] for sender, ids in found.items()}

    def call_merge(
        self, ids: Mapping[str, str | None], tables: dict[str, Any], min_sites: int
    ) -> str:
        """The result of a study as JSON, from the releases of its sites.

        Args:
            ids: the handle of each node's release; None of a node that gave none.

        Raises:
            NotARelease: a handle that is none, or a node's other than the one named.
            NoReleases: there is none at all.
            TooFewSites: as of `omop_study.merged_result`.
        """
        from federated_analytics.flame.omop_study import merged_result, study_of
        from federated_analytics.report.formats import to_json

        study = study_of(tables)
        if not any(ids.values()):
            raise NoReleases("No node's site has released anything that could be merged.")
        bodies: dict[str, bytes | None] = dict.fromkeys(ids)
        for node, id in ids.items():
            if id is not None:
                owner, bodies[node] = self._host.release_of(id)
                if owner != node:
                    raise NotARelease("The release is another node's.", where=node[:60])
        return to_json(merged_result(study, bodies, min_sites))

    def _handle(self, id: str) -> dict[str, Any]:
        node, body = self._host.release_of(id)
        said = disclosed(body)
        refusal = said.refusal and {key: getattr(said.refusal, key) for key in _REFUSAL}
        return {"id": id, "node": node, "study": said.study, "refusal": refusal}

    def _without_database(self) -> NoOmopDatabase:
        settings = self._host.settings
        if settings.role == "aggregator":
            return NoOmopDatabase(
                "The aggregator has no OMOP database.",
                where=settings.node,
                remedy="Call flame.omop where get_role() returns 'default', and flame.aggregate "
                "at the aggregator.",
            )
        return NoOmopDatabase("This node has no OMOP database.", where=settings.node)


_REFUSAL: Sequence[str] = ("code", "where", "message", "remedy")
