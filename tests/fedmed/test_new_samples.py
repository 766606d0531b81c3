"""New rows are shown once there are enough of them, also over a restart; which version is said."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from federated_analytics import fedmed as fm
from federated_analytics import wire
from federated_analytics.errors import ConfigError
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


def test_without_a_folder_that_outlives_a_restart_it_is_no_configuration() -> None:
    """A restart with one more row would show that row's value: the rule would be one in name."""
    with pytest.raises(ConfigError, match=r'NewSamples.*fm\.Server\(config, state="state"\)'):
        fm.Server({"privacy": [{"policy": "fedmed.privacy.NewSamples"}]}, tokens=["t"])


PROGRAM = """
import sys
from pathlib import Path
from tests.fedmed.test_new_samples import config, rows, seen
from federated_analytics.fedmed.fragment_site import FragmentSite

site = FragmentSite(config(k=5, min=10), Path(sys.argv[1]))
site["t"] = {"x": [float(i % 50) for i in range(200)]}
for value in map(float, sys.argv[2:]):
    site.append("t", rows(value))
print(*seen(site), 0 if site.waiting("t") is None else site.waiting("t").rows)
"""


def started(root: Path, state: Path, *added: float) -> list[str]:
    """What the owner's program shows in a process of its own, with rows that came while it ran."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(state), *map(str, added)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.split()


def test_another_process_shows_what_was_shown_and_keeps_what_waits(
    tmp_path: Path, root: Path
) -> None:
    """The differencing attack: a sum before and after one patient, with restarts between."""
    first, _, _ = started(root, tmp_path)
    assert started(root, tmp_path, 41.92777) == [first, "1", "201"]
    assert started(root, tmp_path) == [first, "1", "201"]
    assert started(root, tmp_path, *[2.0] * 8) == [first, "1", "209"]
    total, version, waiting = started(root, tmp_path, 3.0)
    assert (version, waiting) == ("2", "0")
    assert float(total) == pytest.approx(float(first) + 41.92777 + 16 + 3)
    assert started(root, tmp_path) == [total, "2", "0"]


@pytest.mark.parametrize("publishes", [False, True])
def test_a_server_that_is_killed_at_any_write_leaves_the_state_before_or_after(
    tmp_path: Path, publishes: bool
) -> None:
    """The process ends, as by kill -9, at its n-th call to the system, for every n."""
    added = [30.0, 40.0] if publishes else [30.0]
    before, after = (6.0, "1"), ((106.0, "2") if publishes else (6.0, "1"))
    ends = set()
    for n in range(1, 60):
        folder = tmp_path / str(n)
        made = FragmentSite(config(min=3), folder)
        made["t"] = rows(1, 5)
        made.append("t", rows(30.0))
        status = _killed_at(n, lambda made=made: made.append("t", rows(*added)))  # type: ignore[misc]
        again = FragmentSite(config(min=3), folder)
        again["t"] = rows(1, 5)
        waiting = again.waiting("t")
        found = seen(again), waiting.rows if waiting is not None else 0
        assert found in ((before, 3), (after, 0 if publishes else 4))
        ends.add(found)
        again.append("t", rows(7.0))
        if status == 0:
            break
    assert status == 0
    assert len(ends) == 2
    left = {path.suffix for path in (folder / "versions").iterdir()}
    assert left <= {".json", ".rows", ""}


def _killed_at(n: int, action: Callable[[], None]) -> int:
    """Run in a child that ends at its n-th write, flush, rename or removal; 0 where it did not."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = [n]

    def ending(call: Any) -> Any:
        def ended(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **named)

        return ended

    for name in ("open", "fsync", "replace", "rename", "unlink", "link"):
        setattr(os, name, ending(getattr(os, name)))
    code = 1
    with contextlib.suppress(BaseException):
        action()
        code = 0
    os._exit(code)


def test_an_unreadable_state_is_not_begun_anew(tmp_path: Path) -> None:
    FragmentSite(config(min=3), tmp_path)["t"] = rows(1, 2)
    [about] = (tmp_path / "versions").glob("*.json")
    about.write_text("{")
    again = FragmentSite(config(min=3), tmp_path)
    with pytest.raises(ConfigError, match=r"state folder"):
        again["t"] = rows(1, 2, 3)


def test_one_process_shows_what_another_has_published(tmp_path: Path) -> None:
    sites = [FragmentSite(config(min=2), tmp_path) for _ in range(2)]
    for site in sites:
        site["t"] = rows(1, 2)
    sites[0].append("t", rows(10))
    sites[1].append("t", rows(20))
    assert [seen(site) for site in sites] == [(33.0, "2")] * 2
    sites[1].append("t", rows(40))
    assert [site.waiting("t").rows for site in sites] == [5, 5]  # type: ignore[union-attr]
    assert [seen(site) for site in sites] == [(33.0, "2")] * 2


def test_the_owner_adds_through_the_fragment(tmp_path: Path) -> None:
    server = fm.Server(
        {"privacy": [{"policy": "fedmed.privacy.NewSamples", "params": {"min": 3}}]},
        tokens=["t"],
        state=tmp_path,
    )
    server["t"] = pd.DataFrame({"x": [1.0, 2.0], "who": ["a", "b"]})
    held = server["t"]
    held.append({"x": [3.0], "who": ["c"]})
    assert (held.rows, held.waiting, held.version, held.is_waiting) == (2, 1, 1, True)
    assert held.columns == ["x", "who"]
    assert held.kinds["x",] == "number"
    assert repr(held) == "<fragment 't': 2 rows of ['x', 'who'], version 1, 1 rows wait>"
    held.append({"x": [3.0, 4.0], "who": ["c", "d"]})
    assert (held.rows, held.waiting, held.version, held.is_waiting) == (5, 0, 2, False)
    with pytest.raises(KeyError):
        server["u"].append([1])
    assert not hasattr(server, "append")
