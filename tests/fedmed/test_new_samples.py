"""New rows are shown once there are enough of them, also over a restart; which version is said."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from federated_analytics import wire
from federated_analytics.fedmed.config import Config
from federated_analytics.fedmed.expression import Column
from federated_analytics.fedmed.fragment_site import FragmentSite
from federated_analytics.fedmed.protocol import Ask, Asks
from federated_analytics.messages import Request


def config(k: int = 1, **params: object) -> Config:
    return Config.load(
        {
            "privacy": [
                {"policy": "fedmed.privacy.Anonymity", "params": {"k": k}},
                {"policy": "fedmed.privacy.NewSamples", "params": params},
            ]
        }
    )


def seen(site: FragmentSite) -> tuple[float, str]:
    """The sum of x as a client sees it, and the version that it stands on."""
    asks = Asks((Ask("t", "sum", (Column(("x",)),)),))
    body = wire.encode_request(Request(asks.to_json(), 1, "", 9.0, "fedmed"))
    [answer] = wire.decode_release(site.answer(body)).answers
    return answer.cells[0].value.total, answer.labels["version"]  # type: ignore[attr-defined]


def rows(*values: float) -> dict[str, list[float]]:
    return {"x": list(values)}


def test_rows_wait_until_there_are_enough(tmp_path: Path) -> None:
    site = FragmentSite(config(min=3), tmp_path)
    site["t"] = rows(1, 2)
    assert seen(site) == (3.0, "1")
    site.append("t", rows(10))
    site.append("t", rows(20))
    assert seen(site) == (3.0, "1")
    site.append("t", rows(30))
    assert seen(site) == (63.0, "2")


def test_a_changed_row_waits_with_them(tmp_path: Path) -> None:
    site = FragmentSite(config(min=2), tmp_path)
    site["t"] = rows(1, 2)
    site["t"] = rows(100, 2)
    assert seen(site) == (3.0, "1")
    site["t"] = rows(100, 2, 3)
    assert seen(site) == (3.0, "1")
    site["t"] = rows(100, 2, 3, 4)
    assert seen(site) == (109.0, "2")


def test_what_is_shown_and_what_waits_outlive_a_restart(tmp_path: Path) -> None:
    site = FragmentSite(config(min=3), tmp_path)
    site["t"] = rows(1, 2)
    site.append("t", rows(10, 20))
    again = FragmentSite(config(min=3), tmp_path)
    again["t"] = rows(1, 2, 10, 20)  # the owner's program starts with what it has now
    assert seen(again) == (3.0, "1")
    again["t"] = rows(1, 2, 10, 20, 30)
    assert seen(again) == (63.0, "2")


def test_several_rows_of_one_person_are_one_new_sample(tmp_path: Path) -> None:
    site = FragmentSite(config(min=2, person="id"), tmp_path)
    site["t"] = pd.DataFrame({"id": ["a", "b"], "x": [1.0, 2.0]})
    site.append("t", pd.DataFrame({"id": ["c", "c", "c"], "x": [5.0, 5.0, 5.0]}))
    assert seen(site) == (3.0, "1")
    site.append("t", pd.DataFrame({"id": ["d"], "x": [7.0]}))
    assert seen(site) == (25.0, "2")


def test_the_difference_of_two_sums_is_not_one_persons_value(tmp_path: Path) -> None:
    site = FragmentSite(config(k=5, min=10), tmp_path)
    site["t"] = {"x": [float(i % 50) for i in range(200)]}
    before, _ = seen(site)
    for _ in range(9):
        site.append("t", rows(41.92777))
        assert seen(site) == (before, "1")
    site.append("t", rows(3.0))
    after, version = seen(site)
    assert version == "2"
    assert abs(after - before - 41.92777) > 100  # ten persons' values together
