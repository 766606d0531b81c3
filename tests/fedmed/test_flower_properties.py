"""Random expressions over a real federation: all in one run, equal to pandas and to HTTP.

`test_properties` draws more of them, over HTTP, in process and in a database.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from federated_analytics import fedmed as fm
from federated_analytics import submit
from federated_analytics.fedmed.protocol import MAX_ASKS
from federated_analytics.local.processes import CONNECTION, LocalFederation, local_federation
from tests.fedmed.expressions import Expression, dates, frame, masks, row, rows_of, values
from tests.fedmed.servers import EXACT, served

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("flower")]
Pieces = dict[tuple[str, str], pd.DataFrame]
"""Fragments by site and name."""
FULL = [("hospital-a", "people 1/2"), ("hospital-b", "people 2/2")]
EMPTY = ("hospital-b", "nobody")


def drawn(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
    """So many draws, the same each time."""
    found: list[Any] = []

    @settings(
        max_examples=count, derandomize=True, database=None, deadline=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def take(one: Any) -> None:
        found.append(one)

    take()
    return found[:count]


@pytest.fixture(scope="module")
def pieces() -> Pieces:
    """Numbers, text and dates, some missing; of different lengths, and one of none."""
    rows = drawn(row, 90)
    return {FULL[0]: frame(rows[:25]), FULL[1]: frame(rows[25:]), EMPTY: frame([])}


@pytest.fixture(scope="module")
def federation(
    tmp_path_factory: pytest.TempPathFactory, pieces: Pieces
) -> Iterator[LocalFederation]:
    """Two sites that have switched their policies off, so that their numbers are exact."""
    configs = []
    for site in ("hospital-a", "hospital-b"):
        folder = tmp_path_factory.mktemp(site)
        own = {name: piece for (at, name), piece in pieces.items() if at == site}
        for i, piece in enumerate(own.values()):
            piece.to_parquet(folder / f"{i}.parquet")
        (folder / "config.yaml").write_text("privacy: []\n")
        lines = ["config: config.yaml", "state: state", "fragments:"]
        lines += [f"  {name}: {i}.parquet" for i, name in enumerate(own)]
        (folder / "fragments.yaml").write_text("\n".join(lines))
        configs.append({"site": site, "fragments": str(folder / "fragments.yaml")})
    folder = tmp_path_factory.mktemp("federation")
    before = Path.cwd()
    os.chdir(folder)
    try:
        with local_federation(configs, folder) as running:
            yield running
    finally:
        os.chdir(before)


@pytest.fixture
def runs(federation: LocalFederation, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One item a run that was submitted."""
    monkeypatch.setenv("FLWR_HOME", federation.environment["FLWR_HOME"])
    found: list[int] = []
    run_app = submit.run_app
    monkeypatch.setattr(submit, "run_app", lambda *given: found.append(1) or run_app(*given))
    return found


Reduction = tuple[Callable[[Any], Any], Callable[[pd.Series], Any]]
EDGES = [-60.0, -9.0, 0.0, 0.5, 30.0, 4_000.0]
NUMBERS: dict[str, Reduction] = {
    "sum": (lambda x: x.sum(), lambda s: s.sum()),
    "len": (lambda x: x.len(), len),
    "mean": (lambda x: x.mean(), lambda s: s.mean()),
    "var": (lambda x: x.var(), lambda s: s.var()),
    "min": (lambda x: x.min(), lambda s: s.min()),
    "max": (lambda x: x.max(), lambda s: s.max()),
    "sqsum": (lambda x: x.sqsum(), lambda s: (s**2).sum()),
    "missing": (lambda x: x.count_missing(), lambda s: s.isna().sum()),
    "median": (lambda x: x.median(), lambda s: s.median()),
    "quantile": (lambda x: x.quantile(0.9), lambda s: s.quantile(0.9)),
    "hist": (lambda x: x.hist(EDGES), lambda s: np.histogram(s.dropna(), EDGES)[0]),
    "counts": (lambda x: x.counts(), lambda s: s.value_counts().to_dict()),
}
OF_DATES = ("len", "min", "max", "mean", "missing", "median", "quantile")
Asked = tuple[str, Expression, list[Expression]]


Chosen = tuple[Expression, list[Expression]]
"""An expression, and the masks of its rows."""


def different(of: st.SearchStrategy[Expression], key: Callable[[Chosen], Any]) -> list[Chosen]:
    """Random expressions, one of each key."""
    found = drawn(st.tuples(of, st.lists(masks, max_size=2)), 400)
    return list({key(one): one for one in found}.values())


def asked() -> list[list[Asked]]:
    """Reductions of random expressions: four of each of numbers, all of those of dates.

    The first are for fragments that have rows, the others also for one without.
    """
    draw = random.Random(20261130)
    some = draw.sample(different(values, lambda one: one[0][0]), 84)
    of_dates = draw.sample(different(dates, lambda one: tuple(m[0] for m in one[1])), 8)
    each = [(draw.sample(sorted(NUMBERS), 4), *one) for one in some]
    each += [(list(OF_DATES), *one) for one in of_dates]
    parts = [[*each[:64], *each[84:90]], [*each[64:84], *each[90:]]]
    return [
        [(name, value, chosen) for names, value, chosen in part for name in names] for part in parts
    ]


def told(sources: dict[tuple[str, str], fm.Remote], asks: list[list[Asked]]) -> list[list[Any]]:
    """Every number with its bounds, asked in one batch: without the empty fragment, and with."""
    full = fm.FedData([sources[place] for place in FULL])
    with_empty = fm.FedData([sources[place] for place in (FULL[0], EMPTY, FULL[1])])
    with fm.Batch():
        lazy = [
            [NUMBERS[name][0](rows_of(data, value, chosen)) for name, value, chosen in some]
            for data, some in zip((full, with_empty), asks, strict=True)
        ]
    return [[(one.outcome.value, one.outcome.bounds, one.missing) for one in some] for some in lazy]


def plain(value: Any) -> Any:
    """As it can be compared bit for bit: NaN is equal to itself."""
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, tuple | list):
        return tuple(map(plain, value))
    if isinstance(value, Mapping):
        return {plain(k): plain(v) for k, v in value.items()}
    return plain(value.rows) if hasattr(value, "rows") else value


def fits(name: str, found: Any, bounds: Any, series: pd.Series) -> bool:
    expected = NUMBERS[name][1](series)
    if name == "hist":
        return tuple(found[1]) == tuple(expected)
    if name == "counts":
        counted = {key[0]: n[0] for key, n in found.rows.items()}
        if counted == expected:
            return True
        pairs = zip(sorted(counted.items()), sorted(expected.items()), strict=True)
        return all(n == m and math.isclose(a, b, rel_tol=1e-12) for (a, n), (b, m) in pairs)
    if pd.isna(expected):
        return bool(pd.isna(found))
    if isinstance(expected, pd.Timestamp):
        ends = map(pd.Timestamp, bounds or (found, found))
        near = pd.Timedelta(microseconds=2)
        low, high = ends
        return bool(low - near <= expected <= high + near)
    scale = max(1.0, float((series.dropna() ** 2).sum())) if series.dtype == "float64" else 1.0
    low, high = bounds or (found, found)
    slack = 1e-9 * max(abs(expected), scale if name in ("sum", "var", "sqsum", "mean") else 1.0)
    return bool(low - slack <= expected <= high + slack)


def test_random_expressions_in_one_run_equal_pandas_and_http(
    federation: LocalFederation, pieces: Pieces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLWR_HOME", federation.environment["FLWR_HOME"])
    runs: list[int] = []
    run_app = submit.run_app
    monkeypatch.setattr(submit, "run_app", lambda *given: runs.append(1) or run_app(*given))
    asks = asked()
    assert len(asks[0]) + 2 * len(asks[1]) <= MAX_ASKS  # of hospital-b, in one request
    by_site = {
        (site, name): fm.Remote(site=site, fragment=name, superlink=CONNECTION)
        for site, name in pieces
    }
    over_flower = told(by_site, asks)
    assert len(runs) == 1
    pooled = pd.concat([pieces[place] for place in FULL], ignore_index=True)
    wrong = [
        (name, value[0], [mask[0] for mask in chosen], found)
        for some, answers in zip(asks, over_flower, strict=True)
        for (name, value, chosen), (found, bounds, _) in zip(some, answers, strict=True)
        if not fits(name, found, bounds, rows_of(pooled, value, chosen))
    ]
    assert not wrong
    with ExitStack() as stack:
        over_http = told(dict(published(pieces, stack)), asks)
    assert plain(over_http) == plain(over_flower)
    assert len(runs) == 1


def published(pieces: Pieces, stack: ExitStack) -> Iterator[tuple[tuple[str, str], fm.Remote]]:
    """The same fragments at a server of its own for each site."""
    for site in ("hospital-a", "hospital-b"):
        server = fm.Server(config=EXACT, tokens=["t"])
        address = stack.enter_context(served(server))
        for place, piece in pieces.items():
            if place[0] == site:
                server[place[1]] = piece
                yield place, fm.Remote(address, place[1], token="t")
