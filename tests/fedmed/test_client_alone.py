"""The client by itself, against servers of pandas: what goes out, and what it makes of answers."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from federated_analytics.fedmed.batch import Batch, Fault
from federated_analytics.fedmed.data import FedData
from federated_analytics.fedmed.errors import AskFailed, Mismatch, UnknownColumn, WrongKind
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
