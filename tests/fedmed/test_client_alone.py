"""The client by itself, against servers of pandas: what goes out, and what it makes of answers."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from federated_analytics import fedmed as fm
from federated_analytics.errors import WireError
from federated_analytics.fedmed.batch import Batch, Fault
from federated_analytics.fedmed.data import FedData
from federated_analytics.fedmed.errors import AskFailed, Mismatch, UnknownColumn, WrongKind
from federated_analytics.fedmed.expression import from_plain
from federated_analytics.fedmed.protocol import Ask, Asks
from tests.fedmed.fake_site import FakeSite, FakeSource

A = {"x": [1.0, 2.0, None, 4.0], "y": [5, 6, 7, 8], "sex": ["f", "m", "f", "f"]}
B = {"x": [10.0, -3.0], "y": [1, 2], "sex": ["m", "x"]}


@pytest.fixture
def sites() -> list[FakeSite]:
    return [FakeSite({"a": A, "a2": {"z": [1, 2, 3, 4]}, "a3": {"z": [1]}}), FakeSite({"b": B})]


@pytest.fixture
def data(sites: list[FakeSite]) -> FedData:
    return FedData([FakeSource(sites[0], "a", "one"), FakeSource(sites[1], "b", "two")])


def test_a_mean_is_one_request_a_server(data: FedData, sites: list[FakeSite]) -> None:
    mean = data["y"].sum() / data["y"].len()
    assert [len(site.asked) for site in sites] == [0, 0]
    assert float(mean) == pytest.approx(np.mean([5, 6, 7, 8, 1, 2]))
    assert [len(site.asked) for site in sites] == [1, 1]
    assert f"{mean:.3f}" == "4.833"
    assert int(mean) == 4
    assert mean > 4 < mean + 1
    assert [len(site.asked) for site in sites] == [1, 1]


def test_a_batch_is_one_request_a_server(data: FedData, sites: list[FakeSite]) -> None:
    with Batch():
        values = [((data["y"] + i) * 2).sum() for i in range(10)]
        values += [(data["y"] > i).sum() for i in range(10)]
    assert [len(site.asked) for site in sites] == [1, 1]
    expected = [sum((y + i) * 2 for y in A["y"] + B["y"]) for i in range(10)]
    expected += [sum(y > i for y in A["y"] + B["y"]) for i in range(10)]
    assert [float(v) for v in values] == pytest.approx(expected)
    assert [len(site.asked) for site in sites] == [1, 1]


def test_what_nobody_holds_any_more_is_not_sent(data: FedData, sites: list[FakeSite]) -> None:
    data["y"].sum()
    kept = data["x"].sum()
    assert float(kept) == 14.0
    assert [ask.op for ask in sites[0].asked[0].asks] == ["sum"]
    assert len(sites[0].asked[0].asks) == 1


def test_missing_values_are_told(data: FedData) -> None:
    assert data["x"].sum().missing == 1
    assert repr(data["x"].sum()) == "14.0 (1 missing)"
    assert str(data["x"].mean()) == "2.8"
    assert repr(data["x"].sum() / 2) == "7.0 (1 missing)"


def test_a_failed_server_fails_the_whole(data: FedData, sites: list[FakeSite]) -> None:
    sites[1].fault = Fault("server_down", "Nothing answers.")
    with pytest.raises(AskFailed) as caught:
        float(data["y"].sum())
    for text in ("two", "'b'", "data['y'].sum()", "server_down", "1 of 2"):
        assert text in str(caught.value)
    some = FedData(data._sources, partial=True)["y"].sum()
    assert float(some) == sum(A["y"])
    assert "partial: 1 of 2" in str(some)
    assert "two 'b': server_down" in repr(some)
    assert "partial" in repr(some / 2)
    sites[0].fault = sites[1].fault
    with pytest.raises(AskFailed, match="2 of 2"):
        float(FedData(data._sources, partial=True)["y"].sum())


def test_groups_that_a_server_may_hold_back_are_no_numbers(
    data: FedData, sites: list[FakeSite]
) -> None:
    assert dict(data["y"].groupby(data["sex"]).sum()) == {"f": 20.0, "m": 7.0, "x": 2.0}
    sites[1].withhold = 2
    table = data.groupby("sex")["y"].sum()
    assert dict(table) == {"f": None, "m": None}
    assert "not shown: what stands on too few persons at two" in repr(table)
    assert "-" in repr(table)
    sites[1].withhold = 3
    with pytest.raises(AskFailed, match="withheld"):
        float(data["y"].sum())


def test_groups_by_two_and_over_all_columns(data: FedData) -> None:
    table = data.groupby("sex", data["y"] > 5).len()
    assert table["f", False] == 1
    assert table["f", True] == 2
    frame = data.groupby("sex").mean().to_frame()
    assert list(frame.columns) == ["x", "y"]
    assert frame.loc["f", "x"] == pytest.approx(2.5)


def test_sets_counts_and_schema(data: FedData) -> None:
    assert data["sex"].set() == {"f", "m", "x"}
    assert data["y"].set() == {1, 2, 5, 6, 7, 8}
    assert list(data["sex"].counts()) == ["f", "m", "x"]
    assert data.columns == ["x", "y", "sex"]
    assert "text" in repr(data)
    assert "1" in repr(data)
    with pytest.raises(UnknownColumn, match="'x', 'y'"):
        data["zz"]


def test_kinds_are_checked_before_anything_is_sent(data: FedData, sites: list[FakeSite]) -> None:
    assert data.columns
    asked = len(sites[0].asked)
    for wrong in (
        lambda: data["y"] == "3",
        lambda: data["sex"] + 1,
        lambda: data["sex"].sum(),
        lambda: data[data["y"]],
        lambda: ~data["y"],
        lambda: data["y"] & (data["y"] > 3),
        lambda: (data["y"] > 3) == "true",
    ):
        with pytest.raises(WrongKind):
            wrong()
    assert len(sites[0].asked) == asked


def test_element_wise_with_another(data: FedData, sites: list[FakeSite]) -> None:
    one = FedData([FakeSource(sites[0], "a", "one")])
    two = FedData([FakeSource(sites[0], "a2", "one")])
    assert float((one["y"] * two["z"]).sum()) == 5 + 12 + 21 + 32
    assert float((two["z"] * one["y"]).sum()) == 5 + 12 + 21 + 32
    assert float(one["y"][two["z"] > 2].sum()) == 15
    assert float(two["z"][one["y"] > 6][two["z"] > 3].sum()) == 4
    three = FedData([FakeSource(sites[0], "a3", "one")])
    with pytest.raises(Mismatch, match=r"4 rows and .* has 1"):
        one["y"] + three["z"]
    with pytest.raises(Mismatch, match="2 fragments are not combined with 1"):
        data["y"] + one["y"]
    swapped = FedData(reversed(data._sources))
    with pytest.raises(Mismatch, match="one"):
        data["y"] + swapped["y"]
    with pytest.raises(Mismatch, match="masks"):
        one["y"][one["y"] > 5] + one["y"]


def test_histograms_on_given_edges(data: FedData) -> None:
    histogram = data["y"].hist([0, 2, 5, 8])
    counts, edges = np.histogram(A["y"] + B["y"], [0, 2, 5, 8])
    assert histogram.counts == tuple(counts)
    assert histogram.edges == tuple(edges)


def test_each_thread_sends_its_own(data: FedData, sites: list[FakeSite]) -> None:
    mine = data["y"].sum()
    theirs: list[float] = []
    thread = threading.Thread(target=lambda: theirs.append(float(data["y"].len())))
    thread.start()
    thread.join()
    assert theirs == [6.0]
    assert [len(asks.asks) for asks in sites[0].asked] == [1]
    assert float(mine) == 29


def test_rows_stay_where_they_are(data: FedData) -> None:
    with pytest.raises(TypeError):
        list(data)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="sum"):
        bool(data["y"] > 3)
    with pytest.raises(TypeError):
        data["y"] + object()  # type: ignore[operator]
    with pytest.raises(AttributeError, match="no method 'summ'"):
        data.summ()


def test_values_are_equal_whatever_their_text() -> None:
    """A server with missing values writes 1.0 where another writes 1."""
    sites = [FakeSite({"f": {"v": [1, 1, 2]}}), FakeSite({"f": {"v": [1.0, None, 3.0]}})]
    data = FedData([FakeSource(site, "f", str(i)) for i, site in enumerate(sites)])
    assert dict(data["v"].counts()) == {1: 3, 2: 1, 3: 1}
    assert data["v"].set() == {1, 2, 3}
    assert dict(data["v"].groupby(data["v"]).len()) == {1: 3, 2: 1, 3: 1}


def test_fragments_of_different_kinds_are_no_data_set() -> None:
    sites = [FakeSite({"f": {"v": [1]}}), FakeSite({"f": {"v": ["1"]}}), FakeSite({"f": {"v": []}})]
    sources = [FakeSource(site, "f", f"s{i}") for i, site in enumerate(sites)]
    data = FedData(sources)
    assert data.columns == ["v"]
    with pytest.raises(WrongKind, match="number at s0 and text at s1"):
        data["v"].sum()
    empty = FedData([sources[0], sources[2]])
    assert empty.columns == ["v"]
    assert empty["v"].sum() == 1


def test_a_long_list_of_values_is_no_deep_expression(data: FedData) -> None:
    from federated_analytics.fedmed.protocol import Asks

    query = data["y"].isin(range(6, 400))._query("sum", "sum")
    assert Asks.from_json(Asks(query.asks).to_json()).asks == query.asks
    assert data["y"].isin([5, 1, 77]).sum() == 2
    assert data["y"].isin([]).sum() == 0


def test_numbers_of_two_versions_say_so(data: FedData, sites: list[FakeSite]) -> None:
    total = data["y"].sum()
    assert "version" not in repr(total / 1)
    sites[1].version = "2"
    rows = data["y"].len()
    assert "more than one version of a fragment" in repr(total / rows)


def test_numbers_between_bounds_keep_them_through_arithmetic() -> None:
    from federated_analytics.fedmed.lazy import Outcome
    from federated_analytics.fedmed.values import Number

    number = Number([], lambda: Outcome(2.0, bounds=(1.0, 4.0)))
    assert (number * -3 + 1).bounds == (-11.0, -2.0)
    assert (8 / number).bounds == (2.0, 8.0)
    assert "known between bounds" in repr(1 / (number - 2))
    assert repr(number) == "2.0 (between 1 and 4)"
    assert round(number, 1) == 2.0
    assert float(abs(-number)) == 2.0
    assert np.isnan(float(Number([], lambda: Outcome(0)) / 0))
    with pytest.raises(TypeError):
        number + "x"


def test_what_a_notebook_shows_is_escaped() -> None:
    site = FakeSite({"<b>": {"<script>": ["<i>", "<i>"]}})
    data = FedData([FakeSource(site, "<b>", "<u>")])
    for shown in (data._repr_html_(), data["<script>"].counts()._repr_html_()):
        assert "<script>" not in shown
        assert "<i>" not in shown
        assert "&lt;" in shown


def test_what_is_pending_goes_out_with_the_first(data: FedData, sites: list[FakeSite]) -> None:
    first, second = data["y"].sum(), data["x"].mean()
    assert first == 29
    assert second == 2.8
    assert [len(site.asked) for site in sites] == [1, 1]


GROWING: dict[str, Callable[[FedData], FedData]] = {
    "one more": lambda x: x + 1,
    "reflected": lambda x: 1 - x,
    "twice itself": lambda x: x + x,
    "negated": lambda x: -x,
    "a mask": lambda x: (x > 0) | (x < 0),
    "filtered": lambda x: x[x > 0],
    "the owner's": lambda x: x.operator("mine"),
}


@pytest.mark.parametrize("name", GROWING)
def test_an_expression_does_not_grow_without_end(
    data: FedData, sites: list[FakeSite], name: str
) -> None:
    """5,000 steps in a loop: an error that says why, where one step is too many; nothing is sent.

    An expression that holds itself twice would have 2^5,000 parts.
    """
    grown = [data["y"]]

    def grow() -> None:
        for _ in range(5_000):
            grown.append(GROWING[name](grown[-1]))

    with pytest.raises(WireError, match=r"2000 parts, 100 deep") as caught:
        grow()
    assert "Ask for its parts one by one." in str(caught.value)
    assert all(len(site.asked) == 0 for site in sites)
    largest = grown[-1]
    assert hash(largest._rows) == hash(tuple(largest._rows))
    assert len(str(largest._final()[0])) + len(repr(largest._final()[0])) > 500
    assert largest._final() != grown[0]._final()
    asks = (Ask("a", "sum", (largest._final()[0],)),)
    assert Asks.from_json(Asks(asks).to_json()).asks == asks


def test_a_long_sum_of_numbers_is_no_recursion(data: FedData, sites: list[FakeSite]) -> None:
    total = data["y"].sum()
    for i in range(5_000):
        total = total + 1 if i % 2 else 1 + total
    assert total == 29 + 5_000
    assert [len(site.asked) for site in sites] == [1, 1]
    sums = [(data["y"] * i).sum() for i in range(400)]
    whole = sums[0]
    for one in sums[1:]:
        whole = whole + one
    assert whole == 29 * sum(range(400))
    assert [len(site.asked) for site in sites] == [2, 2]


@pytest.mark.parametrize("step", [0, -1, True, "1", 0.0, float("nan"), float("inf")])
def test_a_step_is_a_positive_number(data: FedData, step: Any) -> None:
    with pytest.raises((WireError, ValueError)):
        data["y"].operator("round", step)
    with pytest.raises(WireError, match="positive number"):
        data["y"].operator("round", data["x"])
    with pytest.raises(WireError):
        from_plain(["apply", "round", ["column", "", "y"], ["constant", step]])


KINDS: list[tuple[list[Any], list[Any]]] = [
    ([1, 2], ["1", "2"]),
    (["a"], [True]),
    ([pd.Timestamp("2020-01-01")], [1.5]),
    (["2020-01-01"], [pd.Timestamp("2020-01-01")]),
]
STATISTICS: dict[str, Callable[[FedData], Any]] = {
    "sum": lambda x: x.sum(),
    "mean": lambda x: x.mean(),
    "deviation": lambda x: x.std(),
    "smallest": lambda x: x.min(),
    "median": lambda x: x.median(),
    "values": lambda x: x.set(),
    "counts": lambda x: x.counts(),
    "histogram": lambda x: x.hist([0, 1, 2]),
    "groups": lambda x: x.groupby(x).len(),
    "a mask": lambda x: (x == x).sum(),
    "one and one": lambda x: (x + 1).mean(),
}


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("kinds", KINDS)
def test_no_statistic_of_two_kinds(kinds: tuple[list[Any], list[Any]], name: str) -> None:
    """Nothing is sent once they are known. Before, what was asked is no number of either server.

    The servers are of this project here: what tells of kinds is in their answers.
    """
    servers = [fm.Server({"privacy": []}, ["t"], name=one) for one in "ab"]
    sent: list[bytes] = []
    for server, values in zip(servers, kinds, strict=True):
        server["f"] = {"x": values}
        answer = server.answer
        server.answer = lambda body, answer=answer: (sent.append(body), answer(body))[1]  # type: ignore[method-assign, misc]
    sources = [fm.Simulation(server, "f") for server in servers]
    for partial in (False, True):
        data = FedData(sources, partial=partial)
        with pytest.raises(WrongKind):
            _ = STATISTICS[name](data["x"]).value
        known = FedData(sources, partial=partial)
        assert known.columns == ["x"]
        before = len(sent)
        with pytest.raises(WrongKind, match=r"'a'.* and .*'b'"):
            STATISTICS[name](known["x"])
        assert len(sent) == before


def test_kinds_that_differ_are_named_in_a_batch_too() -> None:
    servers = [fm.Server({"privacy": []}, ["t"], name=one) for one in "ab"]
    for server, values in zip(servers, ([1, 2], ["a", "b"]), strict=True):
        server["f"] = {"x": values}
    data = FedData([fm.Simulation(server, "f") for server in servers])
    with pytest.raises(WrongKind, match=r"number at .*'a' and text at .*'b'"), Batch():
        data["x"].sum()


def test_no_values_are_of_every_kind() -> None:
    servers = [fm.Server({"privacy": []}, ["t"]) for _ in range(3)]
    first = pd.Timestamp("2020-01-01")
    for server, values in zip(servers, ([], [first], [None, None]), strict=True):
        server["f"] = {"x": values}
    data = FedData([fm.Simulation(server, "f") for server in servers[:2]])
    assert data["x"].min() == first.date()
    assert data["x"].hist(["2019-01-01", "2021-01-01"]).counts == (1,)
    assert FedData([fm.Simulation(s, "f") for s in servers[1:]])["x"].set() == {first.date()}


BESIDE: dict[str, Callable[[FedData, FedData], Any]] = {
    "sum": lambda a, b: a["x"] + b["x"],
    "mask": lambda a, b: a["x"][b["x"] > 3],
    "comparison": lambda a, b: a["x"] == b["x"],
    "groups": lambda a, b: a["x"].groupby(b["x"]),
    "correlation": lambda a, b: fm.stats.corr(a["x"], b["x"]),
    "test": lambda a, b: fm.stats.test.Paired().result(a["x"], b["x"]),
}
EIGHT, FIVE = {"x": [1.0] * 8}, {"x": [1.0] * 5}


@pytest.mark.parametrize("name", BESIDE)
def test_element_wise_only_columns_are_asked_for(name: str) -> None:
    """Eight rows beside five, text beside numbers: whoever holds them told no more than that."""
    for other, error in ((FIVE, Mismatch), ({"x": ["a"] * 8}, (Mismatch, WrongKind))):
        site = FakeSite({"a": EIGHT, "b": other})
        a, b = (FedData([FakeSource(site, f, "one")]) for f in "ab")
        if name in ("groups", "mask") and error is not Mismatch:
            continue  # numbers are grouped by text, and a mask of it is an error of its own
        with pytest.raises(error):
            BESIDE[name](a, b)
        assert {ask.op for asks in site.asked for ask in asks.asks} == {"describe"}


@pytest.mark.parametrize("name", BESIDE)
def test_element_wise_of_other_servers_nothing_is_asked(name: str) -> None:
    """Three sources against two, and the same two the other way round."""
    sites = [FakeSite({"a": EIGHT, "b": EIGHT}) for _ in range(3)]
    sources = [FakeSource(site, "a", str(i)) for i, site in enumerate(sites)]
    beside = [FakeSource(site, "b", str(i)) for i, site in enumerate(sites)]
    for first, second in ((sources, beside[:2]), (sources[:2], beside[1::-1])):
        with pytest.raises(Mismatch):
            BESIDE[name](FedData(first), FedData(second))
    assert [site.asked for site in sites] == [[], [], []]


def test_lengths_that_a_policy_hides_are_compared_by_the_server() -> None:
    """It computes nothing of rows that do not fit, and no other server's number is shown."""
    servers = [fm.Server(tokens=["t"], name=one) for one in "ab"]
    for server, rows in zip(servers, (3, 40), strict=True):
        server["f"], server["g"] = {"x": [1.0] * 40}, {"x": [float(i) for i in range(rows)]}
    one, two = (FedData([fm.Simulation(s, f) for s in servers]) for f in "fg")
    with pytest.raises(AskFailed, match=r"(?s)1 of 2.*'a'.*other_rows") as caught:
        float((one["x"] + two["x"]).sum())
    # The servers of a process are numbered as they come; the three rows are not told.
    assert "3" not in re.sub(r"simulated server \d+|100", "", str(caught.value))
