"""Masks against constants, at the ends of what whole numbers and texts are stored in."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from federated_analytics.fedmed.data import FedData
from federated_analytics.fedmed.local import Local
from federated_analytics.fedmed.server import Server
from federated_analytics.fedmed.simulation import Simulation

OPERATORS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]
WHOLE = [0, -3, 50, 50.0, 50.5, -0.0, 127, 128, -129, 300, 2**31, 1e18, -1e300, 2**53, 2**53 + 1]
"""Within and beyond 8, 16, 32 and 53 bits; some of which are no whole numbers."""


def columns() -> dict[str, list[int]]:
    draw = np.random.default_rng(5)
    near = [0, -3, 49, 50, 51, 127, -128]
    return {
        "few bits": [*near, *draw.integers(-128, 128, 50).tolist()],
        "one more bit": [*near, 200],
        "sixteen": [*near, 300, -129, *draw.integers(-(2**15), 2**15, 50).tolist()],
        "more": [*near, 2**31, 2**53, 2**53 + 1, -(2**62)],
    }


@pytest.mark.parametrize("constant", WHOLE)
@pytest.mark.parametrize("name", columns())
def test_whole_numbers_against_a_constant_are_as_in_pandas(name: str, constant: float) -> None:
    values = pd.Series(columns()[name])
    data = FedData([Local(values)])
    for compare in OPERATORS:
        # A float beside whole numbers: as the whole number that it is.
        exact = int(constant) if float(constant).is_integer() else constant
        expected = int(compare(values, exact).sum())
        assert float(compare(data, constant).sum()) == expected, (compare, constant)


@pytest.mark.parametrize("whose", ["rows", "a column's"])
def test_masks_of_columns_of_other_lengths(whose: str, tmp_path: Path) -> None:
    """Under a policy that looks at the persons of both sides."""
    by_column = {"policy": "fedmed.privacy.NewSamples", "params": {"min": 10, "person": "long"}}
    anonymity = {"policy": "fedmed.privacy.Anonymity", "params": {"k": 5}}
    policies = [anonymity, *([by_column] if whose == "a column's" else [])]
    server = Server(config={"privacy": policies}, tokens=["t"], state=tmp_path)
    server["f"] = {"long": list(range(100)), "short": list(range(60)), "holes": [1.0, None] * 15}
    data = FedData([Simulation(server, "f")])
    assert float((data["short"] > 20).sum()) == 39
    assert float((data["long"] > 20).sum()) == 79
    assert float((data["holes"] > 0).sum()) == 15
    assert float(data["holes"].sum()) == 15
    assert float(data["short"][data["short"] > 20].mean()) == 40
    assert float(data["short"][data["short"] > 20].std(df=0)) > 0


TEXTS: list[Any] = ["b", "a", None, "", "b", "é", None, "ab", "\ud800", "B", "b"]


@pytest.mark.parametrize("constant", ["b", "", "aa", "zz", "é", "\ud800", "c"])
@pytest.mark.parametrize("is_grouped", [False, True], ids=["as they are", "with their levels"])
def test_texts_against_a_constant_are_as_in_pandas(constant: str, is_grouped: bool) -> None:
    texts = TEXTS + (["many"] + [f"t{i}" for i in range(200)] if not is_grouped else [])
    there = pd.Series(texts, dtype=object)
    data = FedData([Local({"x": there})])
    for compare in OPERATORS:
        present = there.dropna()
        expected = int(compare(present, constant).sum())
        if compare is operator.ne:
            expected += int(there.isna().sum())
        assert float(compare(data["x"], constant).sum()) == expected, compare
