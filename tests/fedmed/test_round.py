"""`round` to a step or to digits: halves up, and the same doubles in memory and in a database."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from federated_analytics import fedmed as fm
from federated_analytics.fedmed.errors import WrongKind
from federated_analytics.omop.database import database_url
from tests.fedmed.servers import exact_servers

VALUES = [-2.5, -1.5, -0.5, -0.0, 0.5, 1.5, 2.5, 0.1, 0.3, -0.3, 1.005, 2.675, 1e15 + 0.5, 1e-9]
VALUES += [*np.random.default_rng(9).normal(0, 50, 200), math.nan, math.inf, 123456.789, 1e145]
FRAME = pd.DataFrame({"x": VALUES, "n": np.arange(len(VALUES)) - 100, "t": "a"})


@pytest.fixture(params=["in process", "http", "database"])
def data(request: pytest.FixtureRequest) -> Any:
    if request.param == "in process":
        yield fm.FedData([fm.Local(FRAME)])
    elif request.param == "http":
        with exact_servers(1) as served:
            yield fm.FedData(served([FRAME]))
    else:
        engine = sa.create_engine(database_url(request.getfixturevalue("database")))
        FRAME.to_sql("rounded", engine, index=False, if_exists="replace")
        yield fm.FedData([fm.Local(fm.SQLTable(engine, "rounded"))])
        engine.dispose()


def nearest(values: Any, step: float) -> Any:
    return np.floor(values / step + 0.5) * step


ROUNDED: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "whole": (round, lambda x: nearest(x, 1)),
    "step 0.5": (lambda x: x.operator("round", 0.5), lambda x: nearest(x, 0.5)),
    "step 0.1": (lambda x: fm.stats.round(x, 0.1), lambda x: nearest(x, 0.1)),
    "step 7": (lambda x: fm.stats.round(x, 7), lambda x: nearest(x, 7)),
    "one digit": (lambda x: round(x, 1), lambda x: np.floor(x * 10 + 0.5) / 10),
    "two digits": (lambda x: round(x, 2), lambda x: np.floor(x * 100 + 0.5) / 100),
    "hundreds": (lambda x: round(x, -2), lambda x: nearest(x, 100)),
    "no digits": (lambda x: round(x, 0), lambda x: nearest(x, 1)),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_the_same_doubles_as_numpy(data: fm.FedData, name: str) -> None:
    ask, oracle = ROUNDED[name]
    inside = data["x"][abs(data["x"]) < 1e100]  # in a database nothing is beyond 1e140
    values = FRAME["x"][FRAME["x"].abs() < 1e100].to_numpy()
    counts = pd.Series(oracle(values)).value_counts()
    assert dict(ask(inside).counts()) == counts.to_dict()
    whole = pd.Series(oracle(FRAME["n"].to_numpy(dtype=float))).value_counts()
    assert dict(ask(data["n"]).counts()) == whole.to_dict()


def test_what_is_missing_stays_and_text_is_not_rounded(data: fm.FedData) -> None:
    assert data["x"].operator("round", 3).count_missing() in (2, 3)  # 1e145 is one in a database
    assert (data["n"] > 0).operator("round", 2).sum() == 2 * (FRAME["n"] > 0).sum()
    with pytest.raises(WrongKind):
        _ = round(data["t"]).sum().value
    assert data.columns
    with pytest.raises(WrongKind):
        round(data["t"], 1)


def test_a_digit_is_the_nearest_double(data: fm.FedData) -> None:
    """0.1 and 0.3 themselves, where a step of 0.1 has 0.30000000000000004."""
    few = data["x"][(data["x"] > 0.05) & (data["x"] < 0.35)]
    assert {0.1, 0.3} <= few.set()
    assert round(few, 1).set() <= {0.1, 0.2, 0.3, 0.4}
    assert math.nextafter(0.3, 1) in few.operator("round", 0.1).set()


def test_differences_that_repeat_are_tested() -> None:
    """What Wilcoxon's test advises: rounded values stand on enough rows each."""
    random = np.random.default_rng(4)
    before, after = random.uniform(0, 12, 4_000), random.uniform(1, 13, 4_000)
    server = fm.Server(tokens=["t"])
    server["f"] = {"before": before, "after": after}
    held = fm.FedData([fm.Simulation(server, "f")])
    rounded = fm.stats.round(held["before"], 4), fm.stats.round(held["after"], 4)
    result = fm.stats.wilcoxon(*rounded)
    import scipy.stats

    expected = scipy.stats.wilcoxon(nearest(before, 4), nearest(after, 4), method="asymptotic")
    assert result.statistic == pytest.approx(expected.statistic)
    assert result.pvalue == pytest.approx(expected.pvalue, rel=1e-9)
