"""The star pattern: what each class is given, when it is asked, and how a round ends."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federated_analytics.flame import sdk
from federated_analytics.flame.errors import InvalidArgument
from federated_analytics.flame.local_run import LocalRun, RunOptions, RunResult
from federated_analytics.flame.serialisation import dump, load
from federated_analytics.flame.star import (
    NodeMissing,
    StarAggregator,
    StarAnalyzer,
    StarLocalDPModel,
    StarModel,
)

SITES = ("a", "b", "c")


class Federation:
    """Nodes as threads of this process: the SDK's methods that the pattern uses, and a record."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.sent: dict[tuple[str, str, str], list[bytes]] = {}
        self.changed = threading.Condition()
        self.over: set[str] = set()
        self.submitted: list[tuple[Any, ...]] = []
        self.fetched: list[Any] = []
        self.faults: dict[str, BaseException] = {}
        self.ended_by: list[str] = []

    def run(self, script: Any) -> Federation:
        threads = [threading.Thread(target=self._node, args=(n, script)) for n in (*SITES, "hub")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        return self

    def _node(self, name: str, script: Any) -> None:
        LOCAL.node = Node(self, name)
        try:
            script()
        except Exception as fault:
            self.faults[name] = fault
        with self.changed:
            self.over.add(name)
            self.changed.notify_all()


LOCAL = threading.local()


class Node:
    def __init__(self, federation: Federation, name: str) -> None:
        self.federation, self.name = federation, name

    def get_id(self) -> str:
        return self.name

    def get_role(self) -> str:
        return "aggregator" if self.name == "hub" else "default"

    def get_participant_ids(self) -> list[str]:
        return [name for name in ("hub", *reversed(SITES)) if name != self.name]

    def get_aggregator_id(self) -> str:
        return "hub"

    def ready_check(self, nodes: list[str]) -> dict[str, bool]:
        return dict.fromkeys(nodes, True)

    def get_s3_data(self, keys: list[str]) -> Any:
        self.federation.fetched.append(("s3", keys))
        return [{"x": self.federation.data[self.name]}]

    def get_fhir_data(self, queries: list[str]) -> Any:
        self.federation.fetched.append(("fhir", queries))
        return [{key: {"total": self.federation.data[self.name]} for key in queries}]

    def send_intermediate_data(self, receivers: list[str], data: Any, category: str) -> None:
        out = io.BytesIO()
        dump(data, out)
        with self.federation.changed:
            for each in receivers:
                key = (self.name, each, category)
                self.federation.sent.setdefault(key, []).append(out.getvalue())
            self.federation.changed.notify_all()

    def await_intermediate_data(self, senders: list[str], category: str) -> dict[str, Any]:
        found = {}
        for sender in senders:
            key = (sender, self.name, category)
            with self.federation.changed:
                self.federation.changed.wait_for(
                    lambda k=key, s=sender: (
                        self.federation.sent.get(k)  # type: ignore[misc]
                        or s in self.federation.over
                    )
                )
                waiting = self.federation.sent.get(key)
                found[sender] = load(io.BytesIO(waiting.pop(0))) if waiting else None
        return found

    def submit_final_result(self, *given: Any) -> None:
        self.federation.submitted.append(given)

    def analysis_finished(self) -> None:
        self.federation.ended_by.append(self.name)


@pytest.fixture
def federation(monkeypatch: pytest.MonkeyPatch) -> Federation:
    monkeypatch.setattr(sdk, "FlameCoreSDK", lambda: LOCAL.node)
    return Federation({"a": 1, "b": 20, "c": 300})


class Total(StarAnalyzer):
    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return data[0]["x"]


class Sum(StarAggregator):
    def aggregation_method(self, analysis_results: list[Any]) -> Any:
        return sum(analysis_results)

    def has_converged(self, result: Any, last_result: Any) -> bool:
        raise AssertionError("not asked in a simple analysis")


def test_one_round_sums_what_the_sites_send(federation: Federation) -> None:
    federation.run(lambda: StarModel(Total, Sum, "s3", query="cohort.csv"))
    assert federation.faults == {}
    assert federation.submitted == [(321, "str")]
    assert federation.fetched == [("s3", ["cohort.csv"])] * 3
    assert federation.ended_by == ["hub"]


def test_fhir_data_comes_by_query(federation: Federation) -> None:
    class Count(StarAnalyzer):
        def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
            return float(data[0]["Patient?_summary=count"]["total"])

    federation.run(
        lambda: StarModel(
            analyzer=Count,
            aggregator=Sum,
            data_type="fhir",
            query="Patient?_summary=count",
            simple_analysis=True,
            output_type="str",
            analyzer_kwargs=None,
            aggregator_kwargs=None,
        )
    )
    assert federation.submitted == [(321.0, "str")]


@pytest.mark.parametrize(
    ("query", "asked"), [(None, []), ("", []), ("k", ["k"]), (["k", "l"], ["k", "l"])]
)
def test_queries(federation: Federation, query: Any, asked: list[str]) -> None:
    federation.run(lambda: StarModel(Total, Sum, "s3", query))
    assert federation.fetched == [("s3", asked)] * 3


class Halving(StarAnalyzer):
    """Records what it is given in `seen`, and halves the distance to its own number."""

    seen: dict[str, list[Any]]

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        self.seen.setdefault(self.id, []).append((self.num_iterations, aggregator_results))
        now = 0.0 if aggregator_results is None else aggregator_results
        return now + (data[0]["x"] - now) / 2


class Mean(StarAggregator):
    seen: list[Any]

    def aggregation_method(self, analysis_results: list[Any]) -> Any:
        return sum(analysis_results) / len(analysis_results)

    def has_converged(self, result: Any, last_result: Any) -> bool:
        self.seen.append((self.num_iterations, result, last_result))
        return abs(result - last_result) < 1.0


def test_rounds_until_it_converges(federation: Federation) -> None:
    Halving.seen, Mean.seen = {}, []
    federation.run(lambda: StarModel(Halving, Mean, "s3", simple_analysis=False))
    # Each round halves the distance to the mean, 107: an oracle in three lines.
    path = [107 * (1 - 0.5**k) for k in range(1, 20)]
    rounds = next(k for k in range(1, 20) if path[k] - path[k - 1] < 1.0) + 1
    assert federation.faults == {}
    assert federation.submitted == [(pytest.approx(path[rounds - 1]), "str")]
    assert Mean.seen == [
        (k, pytest.approx(path[k]), pytest.approx(path[k - 1])) for k in range(1, rounds)
    ]
    for site in SITES:
        # After the last round an analyzer waits, and hears that the aggregator has ended.
        assert Halving.seen[site] == [
            (k, None if k == 0 else pytest.approx(path[k - 1])) for k in range(rounds)
        ]
    assert federation.fetched == [("s3", [])] * 3


def test_a_script_may_ask_for_the_number_of_rounds(federation: Federation) -> None:
    class Twice(Mean):
        def has_converged(  # type: ignore[override]
            self, result: Any, last_result: Any, num_iterations: int
        ) -> bool:
            return num_iterations >= 3

    Halving.seen, Mean.seen = {}, []
    federation.run(lambda: StarModel(Halving, Twice, "s3", simple_analysis=False))
    assert [k for k, _ in Halving.seen["a"]] == [0, 1, 2, 3]


def test_parts_come_in_the_order_of_the_nodes_and_none_is_a_part(federation: Federation) -> None:
    class Names(StarAnalyzer):
        def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
            return None if self.id == "b" else (self.id, np.array([1.5]))

    class Keep(Sum):
        def aggregation_method(self, analysis_results: list[Any]) -> Any:
            return analysis_results

    federation.run(lambda: StarModel(Names, Keep, "s3", output_type="pickle"))
    assert federation.submitted == [
        ([("a", np.array([1.5])), None, ("c", np.array([1.5]))], "pickle")
    ]


def test_the_classes_own_parameters(federation: Federation) -> None:
    class Times(Total):
        def __init__(self, flame: Any, factor: int) -> None:
            super().__init__(flame)
            self.factor = factor

        def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
            return self.factor * data[0]["x"]

    class Plus(Sum):
        def __init__(self, flame: Any, more: int = 0) -> None:
            super().__init__(flame)
            self.more = more

        def aggregation_method(self, analysis_results: list[Any]) -> Any:
            return sum(analysis_results) + self.more

    given: dict[str, Any] = {"analyzer_kwargs": {"factor": 2}, "aggregator_kwargs": {"more": 5}}
    federation.run(lambda: StarModel(Times, Plus, "s3", **given))
    assert federation.submitted == [(647, "str")]


class Several(Sum):
    def aggregation_method(self, analysis_results: list[Any]) -> Any:
        return ["summary", b"model"]


@pytest.mark.parametrize(
    ("output_type", "submitted"),
    [
        (["str", "bytes"], [("summary", "str"), (b"model", "bytes")]),
        ("pickle", [("summary", "pickle"), (b"model", "pickle")]),
    ],
)
def test_several_results(federation: Federation, output_type: Any, submitted: Any) -> None:
    federation.run(
        lambda: StarModel(Total, Several, "s3", output_type=output_type, multiple_results=True)
    )
    assert federation.submitted == submitted


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"aggregator": Several, "output_type": ["str"], "multiple_results": True}, "output_type"),
        ({"aggregator": Several, "output_type": ["str", "bytes"]}, "output_type"),
        ({"multiple_results": True}, "multiple_results"),
    ],
)
def test_results_that_do_not_fit_their_types(
    federation: Federation, given: dict[str, Any], place: str
) -> None:
    options = {"analyzer": Total, "aggregator": Sum, "data_type": "s3", **given}
    federation.run(lambda: StarModel(**options))
    fault = federation.faults["hub"]
    assert isinstance(fault, InvalidArgument)
    assert fault.where == place
    assert federation.submitted == []


def test_a_site_that_fails_fails_the_analysis_at_once(federation: Federation) -> None:
    class Bad(Total):
        def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
            return 1 / (0 if self.id == "b" else 1)

    federation.run(lambda: StarModel(Bad, Sum, "s3"))
    assert isinstance(federation.faults["b"], ZeroDivisionError)
    fault = federation.faults["hub"]
    assert isinstance(fault, NodeMissing)
    assert fault.where == "b"
    assert federation.submitted == []


def test_an_aggregator_that_fails_ends_the_analyzers(federation: Federation) -> None:
    class Bad(Mean):
        def aggregation_method(self, analysis_results: list[Any]) -> Any:
            return 1 / 0

    Halving.seen = {}
    federation.run(lambda: StarModel(Halving, Bad, "s3", simple_analysis=False))
    assert list(federation.faults) == ["hub"]


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"analyzer": Sum}, "analyzer"),
        ({"aggregator": Total}, "aggregator"),
        ({"analyzer": "Total"}, "analyzer"),
        ({"data_type": "csv"}, "data_type"),
    ],
)
def test_wrong_classes_and_types_are_named(given: dict[str, Any], place: str) -> None:
    options = {"analyzer": Total, "aggregator": Sum, "data_type": "s3", **given}
    with pytest.raises(InvalidArgument) as caught:
        StarModel(**options)
    assert caught.value.where == place
    assert caught.value.remedy


def test_a_class_without_its_method_cannot_be_made() -> None:
    class Empty(StarAnalyzer):
        pass

    with pytest.raises(TypeError, match="analysis_method"):
        Empty(LOCAL)  # type: ignore[abstract,arg-type]


def test_local_dp_passes_its_parameters_and_never_goes_without(federation: Federation) -> None:
    federation.run(lambda: StarLocalDPModel(Total, Sum, "s3", epsilon=0.5, sensitivity=2.0))
    assert federation.submitted == [(321, "str", {"epsilon": 0.5, "sensitivity": 2.0})]
    missing: list[dict[str, float]] = [{}, {"epsilon": 1.0}, {"sensitivity": 1.0}]
    for given in missing:
        with pytest.raises(InvalidArgument, match="noise"):
            StarLocalDPModel(Total, Sum, "s3", **given)


# With real worker processes

SCRIPT = """
import numpy as np
from {module} import StarAggregator, StarAnalyzer, {model}

class Site(StarAnalyzer):
    def analysis_method(self, data, aggregator_results):
        numbers = np.array([float(line) for line in data[0]["x.txt"].split()])
        return {{"n": len(numbers), "sum": numbers.sum()}}

class Middle(StarAggregator):
    def aggregation_method(self, parts):
        return float(sum(part["sum"] for part in parts) / sum(part["n"] for part in parts))
    def has_converged(self, result, last_result):
        return result == last_result

if __name__ == "__main__":
    {model}(Site, Middle, "s3", "x.txt", simple_analysis={simple}{more})
"""
NUMBERS = {"a": [1.0, 2.0, 3.5], "b": [10.0], "c": [-4.0, 0.25]}
MEAN = 12.75 / 6


def run(folder: Path, script: str) -> RunResult:
    for site, numbers in NUMBERS.items():
        (folder / "data" / site).mkdir(parents=True)
        (folder / "data" / site / "x.txt").write_text("\n".join(map(str, numbers)))
    (folder / "script.py").write_text(script)
    options = RunOptions(
        folder / "script.py",
        [*SITES, "hub"],
        "hub",
        folder / "out",
        data=folder / "data",
        store=folder / "store",
        limit=60,
    )
    return LocalRun(options).run()


def submitted(result: RunResult) -> float:
    [line] = (result.out / "submissions.jsonl").read_text().splitlines()
    return float(json.loads(line)["text"])


@pytest.mark.parametrize(
    ("module", "simple"), [("flame.star", True), ("flamesdk", False), ("flamesdk.star", True)]
)
def test_a_script_with_the_pattern_runs_unchanged(
    tmp_path: Path, module: str, simple: bool
) -> None:
    script = SCRIPT.format(module=module, model="StarModel", simple=simple, more="")
    result = run(tmp_path, script)
    assert result.succeeded, result
    assert submitted(result) == pytest.approx(MEAN, rel=1e-15)
    assert {node["status"] for node in result.nodes.values()} == {"finished"}


def test_a_script_with_local_dp_submits_a_noisy_number(tmp_path: Path) -> None:
    more = ", epsilon=1e4, sensitivity=1.0"
    result = run(
        tmp_path, SCRIPT.format(module="flame", model="StarLocalDPModel", simple=True, more=more)
    )
    assert result.succeeded, result
    assert submitted(result) == pytest.approx(MEAN, abs=0.01)
    assert submitted(result) != MEAN


def test_a_site_that_fails_is_named_in_the_end(tmp_path: Path) -> None:
    script = SCRIPT.format(module="flame.star", model="StarModel", simple=True, more="")
    failing = script.replace("numbers.sum()", "numbers.sum() if self.id != 'b' else 1 / 0")
    result = run(tmp_path, failing)
    assert not result.succeeded
    assert result.nodes["b"]["status"] == "failed"
    assert result.nodes["hub"]["status"] == "failed"
    assert "'b'" in result.nodes["hub"]["reason"]
