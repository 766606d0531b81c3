"""The star pattern: analyzers at the data, an aggregator in the middle, rounds until it converges.

A script gives two classes and hands them to `StarModel`, on every node the same:

    class Sum(StarAnalyzer):
        def analysis_method(self, data, aggregator_results):
            return len(data[0]["cohort.csv"].splitlines())

    class Total(StarAggregator):
        def aggregation_method(self, analysis_results):
            return sum(analysis_results)

        def has_converged(self, result, last_result):
            return True

    StarModel(analyzer=Sum, aggregator=Total, data_type="s3", query="cohort.csv")
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from federated_analytics.flame.errors import InvalidArgument
from federated_analytics.flame.star_data import (
    DataType,
    NodeMissing,
    check_data_type,
    data_of,
    released_parts,
    send_release,
)

if TYPE_CHECKING:
    from federated_analytics.flame.sdk import FlameCoreSDK

OutputType = Literal["str", "bytes", "pickle"]
ANALYZED = "star_analyzed"
AGGREGATED = "star_aggregated"
"""Message categories of the pattern's own, so that a script's messages never mix with them."""


class StarNode:
    """What both kinds of node know.

    Fields:
        flame: the SDK of this node
        id, role: of this node
        partner_node_ids: the other nodes'
        latest_result: of the round before: at an analyzer the aggregator's result
        num_iterations: rounds that are complete; 0 in the first
        finished: whether this node's part is done
    """

    def __init__(self, flame: FlameCoreSDK) -> None:
        self.flame = flame
        self.id = flame.get_id()
        self.role = flame.get_role()
        self.partner_node_ids = flame.get_participant_ids()
        self.latest_result: Any = None
        self.num_iterations = 0
        self.finished = False


class StarAnalyzer(StarNode, ABC):
    """One site's part. Only what `analysis_method` returns leaves the site."""

    @abstractmethod
    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        """The site's part of one round.

        Args:
            data: a dictionary for each source of the node, from query (FHIR) or key (S3) to
                what it gave; None where a FHIR query is not given. Of "omop", `flame.omop`.
            aggregator_results: of the round before; None in the first.
        """

    def analyze(self, data: Any) -> Any:
        """Do one round."""
        result = self.analysis_method(data, self.latest_result)
        self.num_iterations += 1
        return result


class StarAggregator(StarNode, ABC):
    """The middle: makes one result of the sites' parts, and says when it is good."""

    @abstractmethod
    def aggregation_method(self, analysis_results: list[Any]) -> Any:
        """One result of the analyzers' parts, which come in the order of the nodes' names."""

    @abstractmethod
    def has_converged(self, result: Any, last_result: Any) -> bool:
        """Whether the result is the final one; asked from the second round on.

        A third parameter, where a script has one, is given the number of complete rounds.
        """

    def aggregate(self, node_results: list[Any], simple_analysis: bool = True) -> tuple[Any, bool]:
        """Do one round: its result, and whether it is the last."""
        result = self.aggregation_method(node_results)
        converged = simple_analysis or (
            self.num_iterations > 0 and self._converged(result, self.latest_result)
        )
        self.latest_result = result
        self.num_iterations += 1
        return result, converged

    def _converged(self, result: Any, last_result: Any) -> bool:
        wanted = len(inspect.signature(self.has_converged).parameters)
        given = (result, last_result, self.num_iterations)[: max(2, wanted)]
        return bool(self.has_converged(*given))


class StarModel:
    """Runs this node's part from the first message to the last; making one is the analysis.

    Args:
        analyzer, aggregator: the script's classes.
        data_type: "fhir", "s3", or "omop": the parts are then releases of the nodes' own sites.
        query: FHIR queries or S3 keys; none: every key, and no FHIR data.
        simple_analysis: one round; False: rounds until `has_converged`.
        output_type: of the final result, or one for each of several.
        multiple_results: the final result is a list whose items are submitted one by one.
        analyzer_kwargs, aggregator_kwargs: for the classes' own parameters.

    Raises:
        InvalidArgument: a class or an option that cannot be used.
        NodeMissing: at the aggregator, when an analyzer ends without its part.
    """

    def __init__(
        self,
        analyzer: type[StarAnalyzer],
        aggregator: type[StarAggregator],
        data_type: DataType,
        query: str | list[str] | None = None,
        simple_analysis: bool = True,
        output_type: OutputType | list[OutputType] = "str",
        multiple_results: bool = False,
        analyzer_kwargs: Mapping[str, Any] | None = None,
        aggregator_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        from federated_analytics.flame.sdk import FlameCoreSDK

        _check_class("analyzer", analyzer, StarAnalyzer)
        _check_class("aggregator", aggregator, StarAggregator)
        check_data_type(data_type)
        self.data: Any = None
        self._data_type = data_type
        self._output_type = output_type
        self._multiple_results = multiple_results
        self._simple = simple_analysis
        self.flame = FlameCoreSDK()
        if self.flame.get_role() == "aggregator":
            self._aggregate(aggregator(self.flame, **(aggregator_kwargs or {})))
        else:
            one = analyzer(self.flame, **(analyzer_kwargs or {}))
            self._analyze(one, _queries(query))

    def _analyze(self, analyzer: StarAnalyzer, queries: list[str]) -> None:
        middle = self._ready([str(self.flame.get_aggregator_id())])
        self.data = data = data_of(self.flame, self._data_type, queries)
        while not analyzer.finished:
            part = analyzer.analyze(data)
            if self._data_type == "omop":
                send_release(self.flame, middle, part)
            else:
                self._send(middle, part, ANALYZED)
            if self._simple:
                analyzer.finished = True
                continue
            answer = self.flame.await_intermediate_data(middle, AGGREGATED)[middle[0]]
            if answer is None:  # the aggregator has ended the analysis
                analyzer.finished = True
            else:
                analyzer.latest_result = answer["result"]

    def _aggregate(self, aggregator: StarAggregator) -> None:
        analyzers = self._ready(sorted(aggregator.partner_node_ids))
        while not aggregator.finished:
            parts = self._parts(analyzers)
            result, aggregator.finished = aggregator.aggregate(parts, self._simple)
            if not aggregator.finished:
                self._send(analyzers, result, AGGREGATED)
        self._submit(aggregator.latest_result)
        self.flame.analysis_finished()

    def _parts(self, analyzers: list[str]) -> list[Any]:
        if self._data_type == "omop":
            return list(released_parts(self.flame, analyzers))
        answers = self.flame.await_intermediate_data(analyzers, ANALYZED)
        for node in analyzers:
            if answers[node] is None:
                raise NodeMissing(f"Node {node!r} ended before it sent its part.", where=node)
        return [answers[node]["result"] for node in analyzers]

    def _ready(self, nodes: list[str]) -> list[str]:
        ready = self.flame.ready_check(nodes)
        for node in nodes:
            if not ready[node]:
                raise NodeMissing(f"Node {node!r} did not come.", where=node)
        return nodes

    def _send(self, receivers: list[str], result: Any, category: str) -> None:
        # In a dictionary, as None is also what an analysis may return.
        self.flame.send_intermediate_data(receivers, {"result": result}, category)

    def _submit(self, result: Any) -> None:
        if not self._multiple_results:
            self._submit_one(result, _only(self._output_type))
            return
        if not isinstance(result, (list, tuple)):
            raise InvalidArgument(
                "multiple_results=True submits the items of a list.",
                where="multiple_results",
                remedy="Return a list from aggregation_method, or leave multiple_results out.",
            )
        for item, output_type in zip(result, _each(self._output_type, len(result)), strict=True):
            self._submit_one(item, output_type)

    def _submit_one(self, result: Any, output_type: OutputType) -> None:
        self.flame.submit_final_result(result, output_type)


class StarLocalDPModel(StarModel):
    """A `StarModel` whose final result, a number or an array, gets Laplace noise.

    Args:
        model, options: as for `StarModel`.
        epsilon, sensitivity: the noise has scale sensitivity / epsilon. Both are needed:
            a result without noise is never submitted by this class.
    """

    def __init__(
        self,
        *model: Any,
        epsilon: float | None = None,
        sensitivity: float | None = None,
        **options: Any,
    ) -> None:
        if epsilon is None or sensitivity is None:
            raise InvalidArgument(
                "StarLocalDPModel adds noise, and needs to know how much.",
                where="epsilon, sensitivity",
                remedy="Give both, such as epsilon=1.0, sensitivity=1.0, or use StarModel.",
            )
        self.epsilon = epsilon
        self.sensitivity = sensitivity
        super().__init__(*model, **options)

    def _submit_one(self, result: Any, output_type: OutputType) -> None:
        self.flame.submit_final_result(
            result, output_type, {"epsilon": self.epsilon, "sensitivity": self.sensitivity}
        )


def _check_class(name: str, given: Any, base: type[StarNode]) -> None:
    if not (isinstance(given, type) and issubclass(given, base)):
        raise InvalidArgument(
            f"{name} is a class that inherits from {base.__name__}.",
            where=name,
            remedy=f"Write class My{name.title()}({base.__name__}), and give the class itself.",
        )


def _queries(query: str | Sequence[str] | None) -> list[str]:
    if not query:
        return []
    return [query] if isinstance(query, str) else list(query)


def _only(output_type: OutputType | list[OutputType]) -> OutputType:
    if isinstance(output_type, str):
        return output_type
    raise InvalidArgument(
        "A list of output types is for several results.",
        where="output_type",
        remedy="Add multiple_results=True, or give one output type.",
    )


def _each(output_type: OutputType | list[OutputType], count: int) -> list[OutputType]:
    types = [output_type] * count if isinstance(output_type, str) else list(output_type)
    if len(types) != count:
        raise InvalidArgument(
            f"There are {count} results and {len(types)} output types.",
            where="output_type",
            remedy="Give one output type for all, or one for each result.",
        )
    return types
