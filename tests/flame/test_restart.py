"""A site's service, killed in the middle of an analysis: real processes, and a hub in this one."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from federated_analytics import desk, wire
from federated_analytics.code_digest import code_digest
from federated_analytics.couriers import InProcessCourier
from federated_analytics.flame.federation_run import FederationOptions, run_on_federation
from federated_analytics.flame.hub_objects import FolderHub
from federated_analytics.flame.local_run import RunResult
from federated_analytics.flame.local_storage import LocalStorage
from federated_analytics.flame.node_host import NodeHost, NodeSettings
from federated_analytics.flame.node_place import LocalNode, Place
from federated_analytics.flame.order import ScriptOrder
from federated_analytics.flame.over_flower import Ended, run_script
from federated_analytics.flame.testbed import read
from federated_analytics.flame.worker_process import Limits
from federated_analytics.local.guarded import PROJECT, GuardedHospital
from federated_analytics.local.processes import local_federation
from federated_analytics.messages import Request
from federated_analytics.signing import SigningKey, sign

LONG = bool(os.environ.get("FEDERATED_ANALYTICS_FEDERATION"))
pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("flower" if LONG else "flame")]
NODES = {"hospital-a": "default", "server": "aggregator"}
KEY = SigningKey.new()
ROUNDS = 30
SCRIPT = f"""
import time
from flame import FlameCoreSDK
flame = FlameCoreSDK(silent=True)
rounds = flame.get_parameters().get("rounds", {ROUNDS})
if flame.get_role() == "aggregator":
    got, data = [], []
    while len(got) < rounds:
        for message in flame.await_messages(["hospital-a"], "ping")["hospital-a"]:
            got.append(message.body["n"])
            flame.send_message(["hospital-a"], "pong", {{"n": message.body["n"]}})
    data = flame.await_intermediate_data(["hospital-a"], timeout=60)["hospital-a"]
    other = flame.await_messages(["hospital-a"], "pongs", timeout=60)["hospital-a"][0].body["n"]
    flame.submit_final_result(str([got, other, len(data)]))
    flame.analysis_finished()
else:
    back = []
    for n in range(rounds):
        flame.flame_log(f"at {{n}}")
        flame.send_message(["server"], "ping", {{"n": n}}, timeout=0)
        if n % 5 == 4:
            while len(back) <= n:
                back += [m.body["n"] for m in flame.await_messages(["server"], "pong")["server"]]
    flame.send_intermediate_data(["server"], b"x" * 1_000_000)
    flame.send_message(["server"], "pongs", {{"n": back}})
"""
WAITING = """
from flame import FlameCoreSDK
flame = FlameCoreSDK(silent=True)
if flame.get_role() == "aggregator":
    answer = flame.await_messages(["hospital-a"], "never")
    flame.submit_final_result(str(answer))
    flame.analysis_finished()
else:
    flame.flame_log("waiting")
    flame.await_messages(["server"], "never")
"""


@dataclass
class OneSite:
    """A hospital's service as a process, and an analysis that runs there."""

    folder: Path
    said: list[str] = field(default_factory=list)
    ended: Ended | None = None
    site: GuardedHospital = field(init=False)

    def __post_init__(self) -> None:
        policy = "free_exchange = true\n"
        place = self.folder / "hospital-a"
        self.site = GuardedHospital(
            place, "hospital-a", "postgresql://nobody@127.0.0.1:1/none", policy, KEY.public.text, []
        )
        self.site.start()

    def run(self, script: str) -> threading.Thread:
        order = ScriptOrder("s.py", script, NODES, {}, 90.0)
        run = secrets.token_hex(16)
        request = wire.encode_request(Request(order.to_json(), 1, run, 60.0, "flame"))
        signed = sign(request, KEY, project=PROJECT, study=order.digest, code=code_digest())
        # As a ClientApp does it: a service that is away is a refusal.
        courier = InProcessCourier({"a": partial(desk.answer, self.site.node_config)})

        def hub() -> None:
            self.ended = run_script(
                courier,
                order,
                signed,
                analysis=run,
                project=PROJECT,
                deadline_seconds=60,
                say=self.said.append,
            )

        thread = threading.Thread(target=hub, daemon=True)
        thread.start()
        self.approved()
        return thread

    def approved(self) -> None:
        """Wait until the operator has approved the script."""
        end = time.monotonic() + 120
        while not self.site.approve_pending():
            assert time.monotonic() < end, self.said
            time.sleep(0.2)

    def until(self, line: str, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not any(line in said for said in self.said):
            assert time.monotonic() < end, [line, *self.said]
            time.sleep(0.02)

    def until_printed(self, line: str, seconds: float) -> None:
        """Wait for a line of the script at the site, whenever the hub may hear of it."""
        end = time.monotonic() + seconds
        while not any(line in log.read_text() for log in self.site.folder.rglob("worker.log")):
            assert time.monotonic() < end, line
            time.sleep(0.1)

    def kill(self) -> None:
        """kill -9, of the service's process alone."""
        assert self.site.process is not None
        os.kill(self.site.process.pid, signal.SIGKILL)
        while self.site.process.is_running():
            time.sleep(0.01)

    def restart(self) -> None:
        assert self.site.process is not None
        self.site.process.start()
        self.site.process.until("listening on", 60)

    def guard(self) -> int:
        """Of the worker, as the service wrote it down."""
        import sqlite3

        [state] = self.site.folder.rglob("node.sqlite")
        with sqlite3.connect(f"file:{state}?mode=ro", uri=True) as db:
            [value] = db.execute("SELECT value FROM setting WHERE key = 'worker'").fetchone()
        return int(json.loads(value)["pid"])


@pytest.fixture
def one() -> Iterator[OneSite]:
    with TemporaryDirectory(prefix="fa-") as place:
        found = OneSite(Path(place))
        yield found
        assert found.site.process is not None
        found.site.process.stop()
        assert _running_in(Path(place)) == []


def _running_in(folder: Path) -> list[str]:
    """Processes with an open file below a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(folder) in str(fd.readlink()) for fd in (process / "fd").iterdir()):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return [line for line in found if "pytest" not in line]


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(("at 7",), id="once"),
        pytest.param(
            ("at 7", "at 13", "at 17", "at 23"), id="four times", marks=pytest.mark.federation
        ),
    ],
)
def test_a_killed_service_loses_and_doubles_nothing(one: OneSite, lines: tuple[str, ...]) -> None:
    """At whatever moment it is: messages both ways, an object, every log line."""
    thread = one.run(SCRIPT)
    for line in lines:
        one.until(line)
        guard = one.guard()
        one.kill()
        time.sleep(0.3)
        one.restart()
        assert one.guard() == guard  # the same worker, adopted
    thread.join(90)
    assert one.ended is not None, one.said
    assert one.ended.state == "finished", one.ended
    got, back, size = json.loads(base64.b64decode(one.ended.submissions[0]["data"]))
    assert got == back == list(range(ROUNDS))
    assert size == 1_000_000
    logged = [x["text"].split("at ")[-1].strip() for x in one.ended.log if "at " in x["text"]]
    assert logged == [str(n) for n in range(ROUNDS)]


def test_a_worker_that_died_with_its_service_is_a_failed_node(one: OneSite) -> None:
    """The aggregator is not left waiting: it gets None, and the reason names the remedy."""
    thread = one.run(WAITING)
    one.until("info: waiting")
    guard = one.guard()
    one.kill()
    os.kill(guard, signal.SIGKILL)
    one.restart()
    thread.join(60)
    assert one.ended is not None, one.said
    assert one.ended.nodes["hospital-a"] == {
        "status": "failed",
        "reason": "its worker was gone when the site's service came back; run it again",
    }
    assert base64.b64decode(one.ended.submissions[0]["data"]).decode() == "{'hospital-a': None}"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.federation
def test_a_killed_service_over_a_federation(one: OneSite, tmp_path: Path) -> None:
    """The same, with a SuperLink, a SuperNode and a ServerApp between the two."""
    (tmp_path / "script.py").write_text(SCRIPT)
    KEY.save(tmp_path / "analyst.pem")
    results: list[RunResult] = []
    with local_federation([one.site.node_config]) as federation:
        options = FederationOptions(
            script=tmp_path / "script.py",
            nodes=list(NODES),
            aggregator="server",
            superlink=federation.address,
            key=tmp_path / "analyst.pem",
            project=PROJECT,
            out=tmp_path / "out",
            parameters={"rounds": 15},
            limit=900,
        )
        thread = threading.Thread(
            target=lambda: results.append(run_on_federation(options, one.said.append)), daemon=True
        )
        thread.start()
        one.approved()
        one.until_printed("at 7", 200)
        guard = one.guard()
        one.kill()
        time.sleep(3)
        one.restart()
        assert one.guard() == guard
        thread.join(600)
    assert results, one.said
    assert results[0].succeeded, [results, *one.said[-20:]]
    found = read(results[0])
    got, back, size = json.loads(found.texts[0])
    assert got == back == list(range(15))
    assert size == 1_000_000
    logged = [text for _, text in found.logged("hospital-a")]
    assert logged == [f"at {n}" for n in range(15)]


@pytest.mark.federation
def test_a_service_stopped_in_order_says_so_when_it_is_back(one: OneSite) -> None:
    """An operator's stop ends the analysis; the hub hears of it from the next service."""
    thread = one.run(WAITING)
    one.until("info: waiting")
    guard = one.guard()
    assert one.site.process is not None
    one.site.process.stop()
    assert not Path(f"/proc/{guard}").exists()
    one.restart()
    thread.join(60)
    assert one.ended is not None, one.said
    assert one.ended.nodes["hospital-a"] == {
        "status": "stopped",
        "reason": "the site's service was stopped",
    }


def test_a_worker_ends_when_its_service_does_not_come_back(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import time\nwhile True: time.sleep(1)\n")
    settings = NodeSettings("a", {"a": "aggregator"}, "run", "p")
    node = LocalNode(
        NodeHost(settings, tmp_path / "a", durable=False),
        Place(tmp_path / "a", tmp_path / "log"),
        FolderHub(tmp_path / "hub", "a", "run"),
        LocalStorage(tmp_path / "store", "p"),
    )
    node.start(tmp_path / "script.py", Limits(), tied=False, reconnect_seconds=1.0)
    outcome = tmp_path / "a" / "outcome.json"
    time.sleep(3)
    assert not outcome.exists()  # as long as the service is there it goes on
    node.leave()
    end = time.monotonic() + 15
    while not outcome.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert json.loads(outcome.read_text()) == {
        "code": None,
        "reason": "stopped, as its site's service did not come back",
    }
