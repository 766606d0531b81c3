"""Hosts and router without processes: exactly-once delivery, and restarts of a site's service."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federated_analytics.flame.blob_store import BlobStore
from federated_analytics.flame.hub_objects import FolderHub
from federated_analytics.flame.local_storage import LocalStorage
from federated_analytics.flame.node_host import NodeHost
from federated_analytics.flame.node_place import LocalNode, Place
from federated_analytics.flame.node_settings import NodeSettings
from federated_analytics.flame.post import Post
from federated_analytics.flame.router import Router
from federated_analytics.flame.worker_process import Limits

TYPES = {"a": "default", "b": "default", "c": "aggregator"}


def _host(node: str, folder: Path, **options: Any) -> NodeHost:
    return NodeHost(
        NodeSettings(node, TYPES, "analysis-1", "project-1"),
        folder / node,
        durable=False,
        **options,
    )


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 12))
def test_a_carrier_that_loses_repeats_and_reorders_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int
) -> None:
    """Every message arrives once and in order, and is acknowledged, whatever the carrier does;
    hosts are closed and opened again in between."""
    chance = random.Random(seed)
    folder = tmp_path_factory.mktemp("hosts")
    router = Router(TYPES)
    hosts = {node: _host(node, folder) for node in TYPES}
    old: list[tuple[str, dict[str, Any]]] = []
    answers: list[tuple[str, dict[str, Any]]] = []
    for number in range(count):
        hosts["a"].send(f"m{number}", ["b", "c"], "x", json.dumps({"n": number}))
        hosts["b"].post({"kind": "log", "level": "info", "text": str(number)})

    def chaos() -> None:
        node = chance.choice(list(TYPES))
        if chance.random() < 0.1:
            hosts[node].close()
            hosts[node] = _host(node, folder)
        bundle = json.loads(json.dumps(router.bundle_for(node, chance.choice([1, 10_000]))))
        old.append((node, bundle))
        if chance.random() < 0.3:
            return  # lost on its way to the node
        for known, one in chance.sample(old, min(len(old), 2)):  # late and doubled
            answers.append((known, hosts[known].exchange(one)))
        answers.append((node, hosts[node].exchange(bundle)))
        if chance.random() < 0.3:
            answers.pop()  # lost on its way back
        for known, answer in chance.sample(answers, min(len(answers), 3)):
            router.receive(known, json.loads(json.dumps(answer)))

    for _ in range(40):
        chaos()
    for _ in range(8):  # then it works
        for node, host in hosts.items():
            router.receive(node, host.exchange(router.bundle_for(node)))
    for node in ("b", "c"):
        found = hosts[node].messages("unread")
        assert [m["body"]["n"] for m in found] == list(range(count))
    for number in range(count):
        assert set(hosts["a"].wait_for_acknowledgements(f"m{number}", ["b", "c"], 0)) == {"b", "c"}
    logged = [event.content["text"] for event in router.drain() if event.kind == "log"]
    assert logged == [str(number) for number in range(count)]
    for host in hosts.values():
        host.close()


def test_a_message_goes_out_once_however_often_its_call_is_repeated(tmp_path: Path) -> None:
    router, host = Router(TYPES), _host("a", tmp_path)
    for _ in range(3):
        host.send("m1", ["b"], "x", "{}")
    router.receive("a", host.exchange(router.bundle_for("a")))
    sent = [x for _, x in router.bundle_for("b")["letters"] if x["kind"] == "message"]
    assert len(sent) == 1
    host.close()


def test_read_messages_are_handed_over_again_to_the_call_that_read_them(tmp_path: Path) -> None:
    """A service killed after it marked messages read, before the worker heard of them."""
    router = Router(TYPES)
    post = Post(router)
    sender = _host("a", tmp_path, on_traffic=post.carry)
    receiver = _host("c", tmp_path, on_traffic=post.carry)
    place = Place(tmp_path / "c", tmp_path / "log")

    def node(host: NodeHost) -> Any:
        made = LocalNode(
            host,
            place,
            FolderHub(tmp_path / "hub", "c", "analysis-1"),
            LocalStorage(tmp_path / "store", "project-1"),
        )
        return made, made._server._calls

    post.add(sender)
    post.add(receiver)
    first, calls = node(receiver)
    sender.send("m1", ["c"], "x", '{"n": 1}')
    asked = {"senders": ["a"], "category": "x", "id": None, "after": 0, "timeout": 5}
    before, _ = calls.answer("thread-1", 7, "receive", asked, None)
    first.leave()
    second, calls = node(_host("c", tmp_path))
    again, _ = calls.answer("thread-1", 7, "receive", asked, None)
    assert again == before
    later, _ = calls.answer("thread-1", 8, "receive", {**asked, "timeout": 0}, None)
    assert later == {"a": None}
    second.leave()
    sender.close()


SCRIPT = """
from flame import FlameCoreSDK
flame = FlameCoreSDK(silent=True)
numbers = []
while len(numbers) < 20:
    for message in flame.await_messages(['a'], 'x')['a']:
        numbers.append(message.body['n'])
print('up to', numbers, flush=True)
flame.submit_final_result(str(numbers))
flame.analysis_finished()
"""


def test_a_service_restarted_in_the_middle_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The worker goes on, reconnects, and finishes under the new service."""
    (tmp_path / "script.py").write_text(SCRIPT)
    router = Router(TYPES)
    post = Post(router)
    sender = _host("a", tmp_path, on_traffic=post.carry)
    post.add(sender)
    place = Place(tmp_path / "p", tmp_path / "log")

    def serve() -> LocalNode:
        host = _host("c", tmp_path, on_traffic=post.carry)
        post.add(host)
        return LocalNode(
            host,
            place,
            FolderHub(tmp_path / "hub", "c", "analysis-1"),
            LocalStorage(tmp_path / "store", "project-1"),
        )

    node = serve()
    node.start(tmp_path / "script.py", Limits(), tied=False)
    try:
        for number in range(20):
            sender.send(f"m{number}", ["c"], "x", json.dumps({"n": number}))
            if number % 6 == 5:
                _until(lambda host=node.host: host.status == "running")
                post.remove("c")
                node.leave()
                node = serve()
                assert node.adopt()
        _until(lambda: node.look() or node.over)
    finally:
        node.close()
    assert router.nodes["c"].status == "finished"
    submission = router.submissions[0]
    with BlobStore(tmp_path / "hub").open(
        submission["object"], reader="c", analysis="analysis-1"
    ) as file:
        assert json.loads(file.read()) == list(range(20))
    assert len(router.submissions) == 1
    sender.close()


def test_an_adopted_worker_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import subprocess, time\n"
        "print(subprocess.Popen(['sleep', '300'], start_new_session=True).pid, flush=True)\n"
        "time.sleep(300)\n"
    )

    def serve() -> LocalNode:
        return LocalNode(
            _host("c", tmp_path),
            Place(tmp_path / "p", tmp_path / "log"),
            FolderHub(tmp_path / "hub", "c", "analysis-1"),
            LocalStorage(tmp_path / "store", "project-1"),
        )

    first = serve()
    first.start(tmp_path / "script.py", Limits(), tied=False)
    _until(lambda: (tmp_path / "log").read_text().strip())
    first.leave()
    second = serve()
    assert second.adopt()
    second.look()
    assert not second.over
    second.end("stopped", "by the operator")
    pid = int((tmp_path / "log").read_text())
    assert not Path(f"/proc/{pid}").exists()
    assert second.over
    assert second.host.status == "stopped"
    second.close()


def test_a_script_that_may_read_nothing_of_the_site(tmp_path: Path) -> None:
    """Where Landlock is in force: neither the node's state nor its neighbour's data, but numpy."""
    (tmp_path / "secret.txt").write_text("x")
    (tmp_path / "script.py").write_text(f"""
import numpy, os
print('numpy', numpy.ones(3).sum())
for path in ({str(tmp_path / "secret.txt")!r}, {str(tmp_path / "c" / "node.sqlite")!r},
             f'/proc/{{os.getppid()}}/environ'):
    try:
        open(path).read(1)
        print('read', path)
    except PermissionError:
        print('refused')
""")
    node = LocalNode(
        _host("c", tmp_path),
        Place(tmp_path / "p", tmp_path / "log"),
        FolderHub(tmp_path / "hub", "c", "analysis-1"),
        LocalStorage(tmp_path / "store", "project-1"),
    )
    node.start(tmp_path / "script.py", Limits(), readable=())
    _until(lambda: node.look() or node.over)
    node.close()
    assert (tmp_path / "log").read_text().splitlines() == ["numpy 3.0", *["refused"] * 3]


def test_a_socket_below_a_long_path(tmp_path: Path) -> None:
    """The socket moves to a short path that a restart finds again."""
    (tmp_path / "script.py").write_text("import flame; flame.FlameCoreSDK(silent=True)")
    folder = tmp_path / ("long" * 30)
    for _ in range(2):
        node = LocalNode(
            _host("c", tmp_path),
            Place(folder, tmp_path / "log"),
            FolderHub(tmp_path / "hub", "c", "analysis-1"),
            LocalStorage(tmp_path / "store", "project-1"),
        )
        node.start(tmp_path / "script.py", Limits())
        _until(lambda node=node: node.look() or node.over)
        assert node.host.status == "finished"
        node.close()
        assert not Path(node._server.address).exists()


def test_the_hub_believes_only_the_aggregator_s_submission() -> None:
    router = Router(TYPES)
    letter = {"kind": "submission", "id": "s", "output_type": "str", "object": "o"}
    router.receive("a", {"confirmed": 0, "letters": [[1, letter]]})
    assert router.submissions == []
    router.receive("c", {"confirmed": 0, "letters": [[1, letter], [2, letter]]})
    assert len(router.submissions) == 1


def test_a_final_state_stays(tmp_path: Path) -> None:
    router, host = Router(TYPES), _host("a", tmp_path)
    host.set_status("running")
    host.set_status("failed", "x")
    host.set_status("finished")
    router.receive("a", host.exchange(router.bundle_for("a")))
    router.set_status("a", "absent", "late")
    assert (router.nodes["a"].status, router.nodes["a"].reason) == ("failed", "x")
    host.close()


def _until(true: Any, seconds: float = 20) -> None:
    import time

    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
