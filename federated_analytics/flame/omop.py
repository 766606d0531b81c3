"""`flame.omop`: studies of the OMOP database at a script's own node, through the site's policy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from federated_analytics.flame.errors import InvalidArgument
from federated_analytics.flame.node_connection import NodeConnection
from federated_analytics.flame.release_errors import RefusedBySite

if TYPE_CHECKING:
    import pandas as pd

    from federated_analytics.report.result import Result, Row

OF_THE_STUDY = ("population", "feature", "strata")
"""Arguments that are tables of the study; all others are keys of the analysis."""


@dataclass(frozen=True)
class SiteRelease:
    """What a node's site has released, by its handle; the numbers are to look at.

    `flame.aggregate.send` sends what the site made, whatever became of this object.

    Fields:
        id: the handle
        node: whose site made it
        study: SHA-256 of the study
        refusal: code, where, message and remedy where the site released nothing; else empty
        result: the site's own numbers; None of a release that came from another node
    """

    id: str
    node: str
    study: str
    refusal: Mapping[str, str] = field(default_factory=dict)
    result: Result | None = field(default=None, repr=False)

    @property
    def rows(self) -> tuple[Row, ...]:
        """The estimates, in the rows of a summarised result."""
        return self._shown().rows

    def to_frame(self) -> pd.DataFrame:
        """The 13 columns of a summarised result, text but for result_id."""
        return self._shown().to_pandas()

    def _shown(self) -> Result:
        if self.result is None:
            raise InvalidArgument(
                "One site's numbers are shown at its own node.",
                where="release",
                remedy="Merge it with the others': flame.aggregate.merge(releases, kind, …).",
            )
        return self.result


class Omop:
    """The analyses of the catalogue, each a method: `flame.omop.summary(features=["age"])`.

    Keyword arguments are the keys of a study file: `population`, `feature` and `strata` are its
    tables, all others are keys of the one `[[analysis]]`. Each returns a `SiteRelease`.

    Raises:
        NoOmopDatabase: the node has none.
        UnknownOmopAnalysis: no analysis has the name; the remedy lists all.
        RefusedBySite: the policy, the ledger or the operator refused, with their code and remedy.
        FlameError: a key that cannot be used, by its place.
    """

    def __init__(self, connection: NodeConnection) -> None:
        self._connection = connection

    def analyses(self) -> list[str]:
        """The names of the catalogue."""
        return list(self._connection.call("omop_analyses"))

    def study(self, analysis: Sequence[Mapping[str, Any]], **tables: Any) -> SiteRelease:
        """Several analyses over the same population, in one release.

        Args:
            analysis: the `[[analysis]]` tables, each with its `kind`.
            tables: population, feature, strata.
        """
        release = self.ask({"analysis": list(analysis), **tables})
        if release.refusal:
            raise refused(release)
        return release

    def ask(self, tables: Mapping[str, Any]) -> SiteRelease:
        """The release of a study, which may be a refusal."""
        from federated_analytics.report.formats import from_json

        answer = self._connection.call("omop", tables=plain(tables))
        text = answer.pop("result", None)
        answer["refusal"] = answer["refusal"] or {}
        return SiteRelease(**answer, result=from_json(text) if text else None)

    def __getattr__(self, name: str) -> Callable[..., SiteRelease]:
        if name.startswith("_"):
            raise AttributeError(name)

        def asked(**keys: Any) -> SiteRelease:
            release = self.ask(tables_of(name, keys))
            if release.refusal:
                raise refused(release)
            return release

        asked.__name__ = name
        return asked

    def __dir__(self) -> list[str]:
        return sorted({"analyses", "study", *self.analyses()})


def tables_of(kind: str, keys: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of a study of one analysis."""
    of_study = {name: keys[name] for name in OF_THE_STUDY if name in keys}
    own = {name: value for name, value in keys.items() if name not in OF_THE_STUDY}
    return {**of_study, "analysis": [{**own, "kind": kind}]}


def plain(tables: Mapping[str, Any]) -> Any:
    """Tables as JSON has them; dates as a study file writes them."""
    from datetime import date

    def as_text(value: Any) -> str:
        if isinstance(value, date):
            return value.isoformat()
        raise InvalidArgument(
            f"A {type(value).__name__} cannot stand in a study.",
            where="flame.omop",
            remedy="Give text, numbers, booleans, dates, lists and dictionaries.",
        )

    return json.loads(json.dumps(tables, default=as_text))


def refused(release: SiteRelease) -> RefusedBySite:
    """The site's refusal as an exception of the script's."""
    said = release.refusal
    return RefusedBySite(
        said["message"], where=said["where"], remedy=said["remedy"], code=said["code"]
    )
