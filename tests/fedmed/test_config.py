"""Configurations in the original's form, what their policies change, and what is none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from federated_analytics import fedmed as fm
from federated_analytics import wire
from federated_analytics.aggregates.co_moments import CoMoments
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.extremes import Extremes
from federated_analytics.aggregates.interval_counts import IntervalCounts
from federated_analytics.aggregates.moments import Moments
from federated_analytics.aggregates.records import Records
from federated_analytics.errors import ConfigError
from federated_analytics.fedmed.changes import Asked, Part
from federated_analytics.fedmed.client_config import Methods
from federated_analytics.fedmed.config import Config
from federated_analytics.fedmed.expression import Apply, Column, Constant, Expression, Filter
from federated_analytics.fedmed.fragment_site import FragmentSite
from federated_analytics.fedmed.privacy import Coarsening, Noise, Saturation
from federated_analytics.fedmed.protocol import Ask, Asks
from federated_analytics.messages import Answer, Request
from tests.fedmed.servers import served

ORIGINAL_FORM = """\
privacy:
  - policy: fedmed.privacy.Anonymity
    params: {k: 8}
  - policy: fedmed.privacy.CacheLimit
    params: {limit: 12}
  - policy: fedmed.privacy.ComplexityCap
    params: {cap: 25}
  - policy: fedmed.privacy.Noise
    params:
      value: 4
      type: int
      filter: ["*.len()"]
      reject: []
  - policy: fedmed.privacy.Noise
    params: {value: 0.25, type: float, filter: ["*"], reject: ["*.max()", "*.min()"]}
  - policy: fedmed.privacy.Saturation
    params: {min: 0, type: int, filter: ["*.len()"], reject: []}
  - policy: fedmed.privacy.Coarsening
    params: {value: 5, type: int, filter: ["*"], reject: []}
  - policy: fedmed.privacy.Coarsening
    params: {value: 0.5, type: float, filter: ["*"], reject: []}
  - policy: fedmed.privacy.Trustful

methods:
  __add__: fedmed.ops.binary.add
  __mul__: fedmed.ops.binary.mul
  __sub__: fedmed.ops.binary.sub
  __pow__: fedmed.ops.binary.pow
  __rpow__: fedmed.ops.binary.pow
  __eq__: fedmed.ops.binary.eq
  __ne__: fedmed.ops.binary.ne
  __lt__: fedmed.ops.binary.lt
  __le__: fedmed.ops.binary.le
  __gt__: fedmed.ops.binary.gt
  __ge__: fedmed.ops.binary.ge
  __abs__: fedmed.ops.binary.abs
  round: fedmed.ops.binary.round
  max: {map: fedmed.ops.private.max, reduce: fedmed.ops.public.max}
  min: {map: fedmed.ops.private.min, reduce: fedmed.ops.public.min}
  sum: {map: fedmed.ops.private.sum, reduce: fedmed.ops.public.sum}
  sqsum: {map: fedmed.ops.private.sqsum, reduce: fedmed.ops.public.sum}
  len: {map: fedmed.ops.private.num, reduce: fedmed.ops.public.sum}
  set: {map: fedmed.ops.private.unique, reduce: fedmed.ops.public.union}
"""
ROWS = 400
X, FLAG = Column(("x",)), Column(("flag",))
LARGE = Apply("gt", (X, Constant(50.0)))


def frame(rows: int = ROWS) -> pd.DataFrame:
    draw = np.random.default_rng(3)
    x = draw.normal(50, 9, rows)
    ward = draw.choice(["a", "b", "c"], rows)
    return pd.DataFrame({"x": x, "y": draw.normal(5, 2, rows), "flag": x > 48, "ward": ward})


def policy(name: str, **params: Any) -> dict[str, Any]:
    return {"policy": f"fedmed.privacy.{name}", "params": params}


def site(*policies: Mapping[str, Any], **methods: Any) -> FragmentSite:
    content = {"privacy": list(policies), **({"methods": methods} if methods else {})}
    found = FragmentSite(Config.load(content))
    found._secret = bytes(32)  # the same draws in every run
    found["rows"] = frame()
    return found


def ask(of: FragmentSite, op: str, *rows: Expression, **more: Any) -> Answer:
    asks = Asks((Ask("rows", op, rows or (X,), **more),))
    body = wire.encode_request(Request(asks.to_json(), 1, "", 9.0, "fedmed"))
    said = wire.decode_release(of.answer(body))
    assert said.refusal is None, said.refusal
    assert said.answers[0].refusal is None, said.answers[0].refusal
    return said.answers[0]


def one(of: FragmentSite, op: str, *rows: Expression, **more: Any) -> Any:
    return ask(of, op, *rows, **more).cells[0].value


# The original's form


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(ORIGINAL_FORM)
    return tmp_path / "config.yaml"


def test_the_originals_form_is_loaded_as_it_is(file: Path) -> None:
    config = Config.load(file)
    assert config.policy.min_count == 8
    assert config.complexity_cap == 25
    found = [type(one).__name__ for one in config.changes]
    assert found == ["Noise", "Noise", "Saturation", "Coarsening", "Coarsening"]
    assert Methods.load(file).element_wise >= {"__add__", "round"}


def test_it_answers_near_to_pandas_and_coarsely(file: Path) -> None:
    """Noise of variances 4 and 0.25, then multiples of 5 and 0.5."""
    server = fm.Server(file, tokens=["t"])
    server["rows"] = rows = frame()
    with served(server) as address:
        data = fm.FedData([fm.Remote(address, "rows", token="t")], file)
        with fm.Batch():
            total, length, mean = data["x"].sum(), data["x"].len(), data["x"].mean()
            rounded = data["x"].round(1).sum()
        assert float(total) % 0.5 == 0
        assert abs(float(total) - rows["x"].sum()) < 5 * 0.5 + 0.25
        assert int(length) % 5 == 0
        assert abs(int(length) - ROWS) < 5 * 2 + 2.5
        assert float(mean) == pytest.approx(rows["x"].mean(), rel=0.05)
        assert float(rounded) == pytest.approx(rows["x"].round(0).sum(), abs=3)
        with pytest.raises(fm.AskFailed, match="too_complex"):
            float(sum([data["x"]] * 30, data["x"]).sum())


def test_policies_change_results_in_their_order() -> None:
    step, end = policy("Coarsening", value=300), policy("Saturation", max=1_000)
    assert one(site(policy("Anonymity"), step, end), "sum").total == 1_000
    assert one(site(policy("Anonymity"), end, step), "sum").total == 900


def test_of_several_minimum_counts_the_largest_holds() -> None:
    found = Config.load({"privacy": [policy("Anonymity", k=3), policy("Anonymity", k=20)]})
    assert found.policy.min_count == 20
    assert Config.load({"privacy": [policy("Trustful")]}).policy == Config().policy.model_copy(
        update={"min_sites": 1}
    )


# What a policy is meant for


def changed(of: FragmentSite, op: str, *rows: Expression, **more: Any) -> set[str]:
    """Which parts of an answer are not those of the rows themselves."""
    exact = one(site(policy("Anonymity")), op, *rows, **more)
    found = one(of, op, *rows, **more)
    if isinstance(found, Count):
        return {"rows"} if found != exact else set()
    if isinstance(found, IntervalCounts):
        return {"rows"} if found.intervals != exact.intervals else set()
    if isinstance(found, Records):
        return {"rows"} if found.records != exact.records else set()
    parts = set()
    if isinstance(found, CoMoments):
        sums = [m * found.n for m in found.means], [m * exact.n for m in exact.means]
        parts |= {"sum"} if not np.allclose(*sums, rtol=1e-9) else set()
        parts |= {"squares"} if not np.allclose(found.products, exact.products) else set()
    if isinstance(found, Moments):
        parts |= {"sum"} if found.total != pytest.approx(exact.total, rel=1e-12) else set()
        parts |= {"squares"} if found.m2 != pytest.approx(exact.m2, rel=1e-12) else set()
    return parts | ({"rows"} if found.n != exact.n else set())


SUM, ROWS_ONLY, ALL = {"sum", "squares"}, {"rows"}, {"sum", "squares", "rows"}
MEANT: dict[str, tuple[dict[str, Any], str, set[str]]] = {
    "everything": ({}, "sum", ALL),
    "everything, a count": ({}, "len", ROWS_ONLY),
    "floats, a sum": ({"type": "float"}, "sum", SUM),
    "floats, a count": ({"type": "float"}, "len", set()),
    "counts, a sum's rows": ({"type": "int"}, "sum", ROWS_ONLY),
    "counts, the columns": ({"type": "int"}, "describe", ROWS_ONLY),
    "counts, a histogram": ({"type": "int"}, "hist", ROWS_ONLY),
    "counts, quantiles": ({"type": "int"}, "quantiles", ROWS_ONLY),
    "len is told by sums": ({"filter": ["*.len()"]}, "sum", ROWS_ONLY),
    "len is told by moments": ({"filter": ["*.len()"]}, "moments", ROWS_ONLY),
    "len is told by histograms": ({"filter": ["*.len()"]}, "hist", ROWS_ONLY),
    "len is told by columns": ({"filter": ["*.len()"]}, "describe", ROWS_ONLY),
    "sum is told by moments": ({"filter": ["*.sum()"]}, "moments", SUM),
    "sum is told by co-moments": ({"filter": ["*.sum()"]}, "comoments", SUM),
    "mean is told by sums": ({"filter": ["*.mean()"]}, "sum", SUM),
    "mean is told by moments": ({"filter": "*.mean()"}, "moments", SUM),
    "squares are told by sums": ({"filter": ["*.sqsum()"]}, "sum", {"squares"}),
    "another fragment": ({"filter": ["other.*"]}, "sum", set()),
    "this fragment": ({"filter": ["rows.*"]}, "sum", ALL),
    "all but sums": ({"reject": ["*.sum()"]}, "moments", {"rows", "squares"}),
    "all but len": ({"reject": ["*.len()"]}, "len", set()),
    "what follows from sums": ({"reject": ["*.mean()"]}, "moments", ALL),
    "all but this fragment": ({"reject": ["rows.*"]}, "moments", set()),
}


@pytest.mark.parametrize("name", MEANT)
def test_noise_reaches_what_tells_the_named_result(name: str) -> None:
    params, op, parts = MEANT[name]
    more: dict[str, Any] = {"params": {"edges": [0, 40, 50, 60, 99]}} if op == "hist" else {}
    rows = (X, Column(("y",))) if op == "comoments" else (X,)
    noisy = site(policy("Anonymity"), policy("Noise", value=2_500, **params))
    assert changed(noisy, op, *rows, **more) == parts


@pytest.mark.parametrize("mask", [LARGE, FLAG, Apply("mul", (LARGE, Constant(1)))])
def test_noise_of_counts_reaches_a_masks_sum(mask: Expression) -> None:
    noisy = site(policy("Anonymity"), policy("Noise", value=2_500, type="int"))
    assert "sum" in changed(noisy, "sum", mask)


def test_missing_rows_are_told_with_the_counts_noise() -> None:
    rows = frame()
    rows.loc[:60, "x"] = np.nan
    noisy = site(policy("Anonymity"), policy("Noise", value=10_000, type="int"))
    noisy["rows"] = rows
    told = ask(noisy, "moments").labels["missing"]
    assert told != "61"
    assert told == ask(noisy, "moments").labels["missing"]


def test_columns_of_one_length_keep_one_length_under_noise() -> None:
    noisy = site(policy("Anonymity"), policy("Noise", value=10_000))
    lengths = {cell.value.records for cell in ask(noisy, "describe", Column()).cells}
    assert len(lengths) == 1
    assert lengths != {ROWS}
    noisy["twin"] = frame()
    x = Apply("add", (X, Column(("x",), "twin")))
    assert one(noisy, "sum", x).n > 0


# What noise is


@pytest.mark.parametrize(("distribution", "named"), [("normal", "norm"), ("laplace", "laplace")])
def test_value_is_the_variance(distribution: Any, named: str) -> None:
    """3,000 questions' draws against SciPy's distribution of that variance."""
    noise = Noise(value=9.0, distribution=distribution)
    draws = []
    for i in range(3_000):
        asked = Asked("f", "sum", "sum", f"{i}".encode(), b"secret")
        draws.append(noise.applied(Moments(100, 2.0, 50.0), asked).total - 200)  # type: ignore[attr-defined]
    scale = 3.0 if distribution == "normal" else 3.0 / np.sqrt(2)
    assert stats.kstest(draws, named, args=(0, scale)).pvalue > 1e-3
    assert np.var(draws) == pytest.approx(9.0, rel=0.15)


def test_two_entries_draw_apart_and_a_restart_draws_the_same(tmp_path: Path) -> None:
    twice = [policy("Anonymity"), policy("Noise", value=1.0), policy("Noise", value=1.0)]
    once = one(site(*twice[:2]), "sum").total
    assert one(site(*twice), "sum").total != once
    totals = set()
    for _ in range(2):
        held = FragmentSite(Config.load({"privacy": twice}), tmp_path)
        held["rows"] = frame()
        totals.add(one(held, "sum").total)
    assert len(totals) == 1


@pytest.mark.parametrize("change", [Noise(value=400.0), Coarsening(value=64.0)])
@pytest.mark.parametrize("factor", [1.0, 2.5])
def test_a_masks_variance_tells_no_more_than_its_sum(change: Any, factor: float) -> None:
    """The squares of two values follow from their sum: also after it was changed."""
    values = (frame()["x"] > 51).to_numpy() * factor
    state = Moments(
        len(values),
        values.mean(),
        values.var() * len(values),
        least=0.0,
        greatest=factor,
        extreme=factor,
    )
    asked = Asked("f", "sum", "sum", b"seed", b"secret")
    found = change.applied(state, asked)
    assert found.total != pytest.approx(values.sum())
    assert found.m2 != pytest.approx(state.m2)
    follows = found.total * (factor * found.n - found.total) / found.n
    assert found.m2 == pytest.approx(max(0.0, follows))


def test_squares_have_noise_of_the_values_range() -> None:
    values = frame()["x"].to_numpy()
    span = float(np.ptp(values))
    ends = {"least": float(values.min()), "greatest": float(values.max())}
    state = Moments(ROWS, values.mean(), values.var() * ROWS, **ends)
    noise = Noise(value=4.0)
    moved = [
        noise.applied(state, Asked("f", "sum", "sum", bytes([i, j]), b"s")).m2 - state.m2  # type: ignore[attr-defined]
        for i in range(50)
        for j in range(20)
    ]
    assert np.std(moved) == pytest.approx(2.0 * span, rel=0.1)
    assert abs(np.mean(moved)) < 0.3 * span


# What ranges and steps are


@pytest.mark.parametrize("value", ["0.25", "0.35", "2.5", "-2.5", "-0.35", "7.4", "0.1"])
@pytest.mark.parametrize("step", ["0.1", "0.5", "1", "5"])
def test_coarsening_is_to_the_nearest_multiple_halves_up(value: str, step: str) -> None:
    n = Decimal(value) / Decimal(step)
    expected = (n + 1_000).quantize(Decimal(1), ROUND_HALF_UP) - 1_000
    part = Asked("f", "sum", "sum", b"", b"").part("sum", False, "sum")
    from fractions import Fraction

    found = Coarsening(value=float(step)).number(Fraction(value), part)
    assert found == Fraction(str(expected * Decimal(step)))


def test_a_coarsened_sum_is_unbiased_and_printed_as_a_multiple() -> None:
    draw = np.random.default_rng(2)
    sums = draw.normal(0, 40, 4_000)
    coarse = Coarsening(value=10.0)
    found = [
        coarse.applied(Moments(7, s / 7, 1.0), Asked("f", "sum", "sum", b"", b"")).total  # type: ignore[attr-defined]
        for s in sums
    ]
    assert abs(np.mean(found - sums)) < 0.2  # a cut toward zero is off by 5 on either side
    assert all(value == round(value / 10) * 10 for value in found)


def test_results_and_rows_are_held_to_ranges() -> None:
    few = site(policy("Anonymity"), policy("Saturation", max=100, type="int"))
    assert one(few, "len") == Count(100)
    assert one(few, "sum").total == pytest.approx(frame()["x"].sum())
    held = site(policy("Anonymity"), policy("Saturation", low=45, high=55))
    assert one(held, "sum").total == pytest.approx(frame()["x"].clip(45, 55).sum())
    own = site(
        policy("Anonymity"),
        policy("Saturation", low=45, high=55),
        mine={"map": "tests.fedmed.own_functions.total"},
    )
    assert one(own, "mine").total == pytest.approx(frame()["x"].clip(45, 55).sum())


def test_noise_of_a_count_is_not_below_zero() -> None:
    part_of = Asked("f", "len", "len", b"1", b"2")
    counts = {Noise(value=1e6).applied(Count(6), part_of.entry(i)).persons for i in range(40)}  # type: ignore[attr-defined]
    assert min(counts) == 0
    assert isinstance(part_of.part("x", True, "len"), Part)


# Exact smallest and largest values


def test_an_exact_extreme_leaves_alone_and_only_where_the_owner_says() -> None:
    exact = {"map": "fedmed.ops.private.max", "reduce": "fedmed.ops.public.max", "exact": True}
    least = {"map": "fedmed.ops.private.min", "reduce": "fedmed.ops.public.min"}
    of = site(policy("Anonymity"), max=exact, min=least)
    rows = frame()["x"]
    found = one(of, "max")
    assert isinstance(found, Extremes)
    assert (found.low, found.high) == (rows.max(), rows.max())
    assert isinstance(one(of, "min"), IntervalCounts)
    assert isinstance(one(site(policy("Anonymity")), "max"), IntervalCounts)
    assert of.config.warnings


def test_an_exact_extreme_of_few_persons_stays() -> None:
    exact = {"map": "fedmed.ops.private.max", "exact": True}
    of = site(policy("Anonymity"), max=exact)
    rows = frame()
    rows.loc[0, "ward"] = "rare"
    of["rows"] = rows
    answer = ask(of, "max", X, by=(Column(("ward",)),))
    wards = {cell.key.strata[0][1] for cell in answer.cells if cell.key.name == "max"}
    assert wards
    assert "rare" not in wards
    asks = Asks((Ask("rows", "max", (Filter(X, Apply("eq", (X, Constant(rows["x"][3])))),)),))
    body = wire.encode_request(Request(asks.to_json(), 1, "", 9.0, "fedmed"))
    [refused] = wire.decode_release(of.answer(body)).answers
    assert refused.refusal is not None


def test_an_exact_extreme_has_the_owners_noise() -> None:
    exact = {"map": "fedmed.ops.private.max", "exact": True}
    of = site(policy("Anonymity"), policy("Noise", value=100, filter=["*.max()"]), max=exact)
    assert one(of, "max").high != frame()["x"].max()


# Names and reduces


def test_a_method_of_another_name_does_what_its_map_does() -> None:
    total = {"map": "fedmed.ops.private.sum", "reduce": "tests.fedmed.own_functions.spread_of"}
    content = {"privacy": [policy("Noise", value=100, filter=["*.total()"])], "methods": {}}
    content["methods"] = {"total": total}
    server = fm.Server(content, tokens=["t"])
    server["rows"] = frame()
    with served(server) as address:
        data = fm.FedData([fm.Remote(address, "rows", token="t")] * 2, content)
        parts, total_of_first = data["x"].total().value
        assert parts == 2
        assert total_of_first != pytest.approx(frame()["x"].sum(), rel=1e-9)
        assert total_of_first == pytest.approx(frame()["x"].sum(), rel=0.01)


# What is no configuration

NOT_SO: dict[str, tuple[str, int, str]] = {
    "unknown policy": ("privacy:\n  - policy: fedmed.privacy.Noize", 2, "Noise"),
    "the third entry": (
        "privacy:\n  - policy: fedmed.privacy.Noise\n    params: {value: 1}\n"
        "  - policy: fedmed.privacy.Noise\n    params: {value: 0}",
        4,
        "value",
    ),
    "a type that is none": (
        "privacy:\n  - policy: fedmed.privacy.Noise\n    params: {value: 1, type: laplace}",
        2,
        "int",
    ),
    "Anonymity filter": (
        "privacy:\n  - policy: fedmed.privacy.Anonymity\n    params: {k: 9, filter: ['*']}",
        2,
        r"every result.*Write params: \{k: 9\}",
    ),
    "ComplexityCap reject": (
        "privacy:\n  - policy: fedmed.privacy.ComplexityCap\n    params: {cap: 9, reject: ['*']}",
        2,
        "every expression",
    ),
    "CacheLimit filter": (
        "privacy:\n  - policy: fedmed.privacy.CacheLimit\n    params: {limit: 9, filter: ['*']}",
        2,
        "whole server",
    ),
    "NewSamples filter": (
        "privacy:\n  - policy: fedmed.privacy.NewSamples\n    params: {min: 9, filter: ['*']}",
        2,
        "every operation",
    ),
    "both ranges": (
        "privacy:\n  - policy: fedmed.privacy.Saturation\n    params: {min: 1, low: 1, high: 2}",
        2,
        "min or max for results",
    ),
    "half a range": (
        "privacy:\n  - policy: fedmed.privacy.Saturation\n    params: {low: 1}",
        2,
        "both low and high",
    ),
    "a range for some": (
        "privacy:\n  - policy: fedmed.privacy.Saturation\n"
        "    params: {low: 1, high: 2, filter: ['*']}",
        2,
        "every operation",
    ),
    "a range backwards": (
        "privacy:\n  - policy: fedmed.privacy.Saturation\n    params: {min: 3, max: 2}",
        2,
        "ends before",
    ),
    "NewSamples twice": (
        "privacy:\n  - policy: fedmed.privacy.NewSamples\n  - policy: fedmed.privacy.NewSamples",
        3,
        "twice",
    ),
    "a key twice": ("methods:\n  len: fedmed.ops.private.num\n  len: x.y", 3, "twice"),
    "another arithmetic": ("methods:\n  __add__: fedmed.ops.binary.sub", 2, "binary.add"),
    "an operation that is none": ("methods:\n  __mul__: fedmed.ops.binary.mull", 2, "mul"),
    "a map that is none": ("methods:\n  sum: {map: fedmed.ops.private.summ}", 2, "sum"),
    "no map": ("methods:\n  sum: {reduce: fedmed.ops.public.sum}", 2, "no map"),
    "another reduce": (
        "methods:\n  sum: {map: fedmed.ops.private.sum, reduce: fedmed.ops.public.max}",
        2,
        r"reduce: fedmed\.ops\.public\.sum",
    ),
    "another map": ("methods:\n  sum: {map: fedmed.ops.private.num}", 2, "Count"),
    "another sum": ("methods:\n  sum: {map: fedmed.ops.private.sqsum}", 2, "sqsum"),
    "a derived name": ("methods:\n  mean: {map: fedmed.ops.private.moments}", 2, "another name"),
    "exact sums": ("methods:\n  sum: {map: fedmed.ops.private.sum, exact: true}", 2, "min and max"),
    "exact maybe": ("methods:\n  max: {map: fedmed.ops.private.max, exact: 1}", 2, "true or false"),
    "own, unstated": ("methods:\n  a: {map: tests.fedmed.own_functions.plain}", 2, "releases"),
    "own rows, unstated": ("methods:\n  a: tests.fedmed.own_functions.plain", 2, "element_wise"),
    "own reduction as rows": ("methods:\n  a: tests.fedmed.own_functions.total", 2, "map: tests"),
    "own rows as reduction": (
        "methods:\n  a: {map: tests.fedmed.own_functions.squared}",
        2,
        "alone, without map",
    ),
    "own arithmetic": ("methods:\n  __add__: tests.fedmed.own_functions.squared", 2, "a name of"),
    "own of another kind": ("methods:\n  sum: {map: tests.fedmed.own_functions.adults}", 2, "Mom"),
    "own module": ("methods:\n  a: {map: nowhere.at.all}", 2, "no function"),
    "noise on a model": (
        "privacy:\n  - policy: fedmed.privacy.Noise\n    params: {value: 1}\n"
        "methods:\n  a: {map: tests.fedmed.own_functions.model}",
        5,
        "NormalEquations",
    ),
}


@pytest.mark.parametrize("name", NOT_SO)
def test_what_is_no_configuration_says_the_line_and_the_remedy(name: str, tmp_path: Path) -> None:
    text, line, said = NOT_SO[name]
    (tmp_path / "config.yaml").write_text(text + "\n")
    with pytest.raises(ConfigError) as caught:
        fm.Server(tmp_path / "config.yaml", tokens=["t"], state=tmp_path / "state")
    assert str(caught.value).startswith(f"config.yaml:{line}: ")
    assert re.search(said, str(caught.value), re.DOTALL), str(caught.value)


def test_a_client_needs_no_servers_module_and_a_server_no_clients(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("methods:\n  a: {map: hospital.only_there}\n  b: hospital.row_by_row\n")
    assert Methods.load(file).names == {"a", "b"}
    with pytest.raises(ConfigError, match="no function"):
        Config.load(file)
    file.write_text(
        "methods:\n  a: {map: tests.fedmed.own_functions.total, reduce: notebook.only_there}\n"
    )
    assert Config.load(file).owner_operation("a") is not None
    with pytest.raises(ConfigError, match=r"config\.yaml:2.*notebook"):
        Methods.load(file)


def test_a_sum_is_not_put_together_by_the_clients_own(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "methods:\n  sum: {map: fedmed.ops.private.sum, reduce: tests.fedmed.own_functions.plain}\n"
    )
    with pytest.raises(ConfigError, match="another name"):
        Methods.load(file)


def test_saturation_of_whole_results_ends_at_whole_numbers() -> None:
    part = Asked("f", "len", "len", b"", b"").part("n", True, "len")
    from fractions import Fraction

    held = Saturation(min=1.5, max=3.5)
    assert [held.number(Fraction(n), part) for n in (0, 2, 9)] == [2, 2, 3]
