"""`flame.aggregate`: what sites have released, sent to the aggregator and merged there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from federated_analytics.flame.errors import InvalidArgument, NotTheAggregator
from federated_analytics.flame.omop import Omop, SiteRelease, plain, refused, tables_of
from federated_analytics.flame.release_errors import NotARelease

if TYPE_CHECKING:
    from federated_analytics.flame.sdk import FlameCoreSDK
    from federated_analytics.report.result import Result


class Aggregate:
    """Releases of sites on their way to one result.

    Every analysis of the catalogue is a method that all nodes call alike:

        result = flame.aggregate.summary(features=["age"], by=["sex"])

    A data node asks its own site, sends the release to the aggregator and returns it; the
    aggregator waits for all and returns the `Result` that a study over these sites has.
    """

    def __init__(self, flame: FlameCoreSDK) -> None:
        self._flame = flame
        self._connection = flame._connection

    def send(self, release: SiteRelease, receivers: Sequence[str] | None = None) -> None:
        """Send what this node's site released; to the aggregator where nobody is named.

        Letters of this kind leave a site also where its policy lets no message of a script's
        own leave.

        Raises:
            NotARelease: the site has made no such release.
        """
        if not isinstance(release, SiteRelease):
            raise NotARelease(f"A {type(release).__name__} is no release of a site.")
        to = [self._flame.get_aggregator_id()] if receivers is None else list(receivers)
        self._connection.call("send_release", id=str(release.id), receivers=to)

    def await_releases(
        self, senders: Sequence[str] | None = None, timeout: float | None = None
    ) -> dict[str, list[SiteRelease] | None]:
        """For each sender its unread releases, oldest first; None where none came.

        Args:
            senders: every other node where left out.
            timeout: seconds; None waits until each has sent or is known to be gone.
        """
        return self._awaited(senders, timeout, None)

    def merge(
        self,
        releases: Iterable[SiteRelease],
        kind: str,
        *,
        min_sites: int = 2,
        **keys: Any,
    ) -> Result:
        """The result of one analysis from its sites' releases, as `run` would return it.

        Args:
            kind, keys: what the sites were asked, as for `flame.omop`.
            min_sites: fewest sites behind a number; a site's policy may ask for more.

        Raises:
            NoReleases, NotARelease: there is none; a value that no site has made.
            FlameError: `too_few_sites`, with what became of each.
        """
        return self.merge_study(releases, min_sites=min_sites, **tables_of(kind, keys))

    def merge_study(
        self, releases: Iterable[SiteRelease], *, min_sites: int = 2, **tables: Any
    ) -> Result:
        """The same of what `flame.omop.study` was asked."""
        ids: dict[str, str | None] = {}
        for release in releases:
            if not isinstance(release, SiteRelease):
                raise NotARelease(f"A {type(release).__name__} is no release of a site.")
            if ids.setdefault(release.node, release.id) != release.id:
                raise InvalidArgument(
                    f"Node {release.node!r} is given twice.",
                    where="releases",
                    remedy="Give one release of each node, such as the last one.",
                )
        return self._merged(ids, tables, min_sites)

    def mean(self, releases: Iterable[SiteRelease], feature: str, /, **keys: Any) -> float | None:
        """The mean of a feature over all persons, from the releases of `flame.omop.summary`.

        Args:
            keys: what the sites were asked, with `min_sites`; `features` where there were others.

        Returns: None where it is withheld.
        """
        return overall(self._summary(releases, feature, keys), feature, "mean")

    def total(self, releases: Iterable[SiteRelease], feature: str, /, **keys: Any) -> float | None:
        """The sum of a feature over all persons: count times mean; None where withheld."""
        result = self._summary(releases, feature, keys)
        count, mean = (overall(result, feature, name) for name in ("count", "mean"))
        return None if count is None or mean is None else count * mean

    def _summary(
        self, releases: Iterable[SiteRelease], feature: str, keys: Mapping[str, Any]
    ) -> Result:
        return self.merge(releases, "summary", **{"features": [feature], **keys})

    def study(
        self,
        analysis: Sequence[Mapping[str, Any]],
        *,
        min_sites: int = 2,
        timeout: float | None = None,
        **tables: Any,
    ) -> Result | SiteRelease:
        """Several analyses over the same population, called by all nodes alike."""
        return self._together({"analysis": list(analysis), **tables}, min_sites, timeout)

    def __getattr__(self, name: str) -> Callable[..., Result | SiteRelease]:
        if name.startswith("_"):
            raise AttributeError(name)

        def together(
            *, min_sites: int = 2, timeout: float | None = None, **keys: Any
        ) -> Result | SiteRelease:
            return self._together(tables_of(name, keys), min_sites, timeout)

        together.__name__ = name
        return together

    def __dir__(self) -> list[str]:
        own = {"send", "await_releases", "merge", "merge_study", "mean", "total", "study"}
        return sorted({*own, *self._connection.call("omop_analyses")})

    def _together(
        self, tables: dict[str, Any], min_sites: int, timeout: float | None
    ) -> Result | SiteRelease:
        """A data node asks and sends; the aggregator waits and merges."""
        if self._flame.get_role() == "aggregator":
            found = self._awaited(None, timeout, tables)
            ids = {node: held[-1].id if held else None for node, held in found.items()}
            return self._merged(ids, tables, min_sites)
        release = Omop(self._connection).ask(tables)
        self.send(release)  # a refusal too: the result names it
        if release.refusal:
            raise refused(release)
        return release

    def _awaited(
        self,
        senders: Sequence[str] | None,
        timeout: float | None,
        tables: Mapping[str, Any] | None,
    ) -> dict[str, list[SiteRelease] | None]:
        asked = self._flame.get_participant_ids() if senders is None else list(senders)
        found = self._connection.call(
            "await_releases",
            senders=asked,
            timeout=timeout,
            tables=None if tables is None else plain(tables),
        )
        return {node: [_received(one) for one in held] or None for node, held in found.items()}

    def _merged(
        self, ids: Mapping[str, str | None], tables: Mapping[str, Any], min_sites: int
    ) -> Result:
        from federated_analytics.report.formats import from_json

        if self._flame.get_role() != "aggregator":
            raise NotTheAggregator("Only the aggregator merges releases.")
        text = self._connection.call(
            "merge", ids=dict(ids), tables=plain(tables), min_sites=min_sites
        )
        return from_json(text)


def overall(result: Result, feature: str, estimate: str) -> float | None:
    """A feature's pooled estimate over all strata; None where it is withheld or not defined."""
    from federated_analytics.report.result import POOLED

    for row in result.rows:
        if (row.cdm_name, row.variable_name, row.estimate_name) == (POOLED, feature, estimate) and (
            not row.strata
        ):
            try:
                return float(row.estimate_value)
            except ValueError:
                return None
    return None


def _received(record: Mapping[str, Any]) -> SiteRelease:
    return SiteRelease(record["id"], record["node"], record["study"], record["refusal"] or {})
