"""Every method of the Core SDK, each parameter: on one machine, and over real Flower processes.

One analysis calls them all (`every_method`); each test looks at what it saw. Over the federation
three nodes are a SuperLink, two SuperNodes, two guarded sites as processes, and a ServerApp.
"""

from __future__ import annotations

import json
import os
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import uvicorn

from federated_analytics.flame.federation_run import FederationOptions, run_on_federation
from federated_analytics.flame.local_run import LocalRun, RunOptions
from federated_analytics.flame.testbed import TestRun, read
from federated_analytics.local.guarded import PROJECT, GuardedHospital, pinned
from federated_analytics.local.processes import local_federation
from federated_analytics.signing import SigningKey
from tests.flame.every_method import SCRIPT
from tests.flame.test_fhir import fhir_app

A, B, HUB = NODES = ("hospital-a", "hospital-b", "server")
FLOWER = bool(os.environ.get("FEDERATED_ANALYTICS_FEDERATION"))
pytestmark = [pytest.mark.timeout(1_200), pytest.mark.xdist_group("flower" if FLOWER else "flame")]
if FLOWER:
    pytestmark.append(pytest.mark.slow)
PARAMETERS = {"k": "v", "n": 3}
COHORT = "id,age\n1,70\n"
EACH = pytest.mark.parametrize(("node", "peer"), [(A, B), (B, A)])


@dataclass(frozen=True)
class Seen:
    """What the analysis left, and what each node saw."""

    run: TestRun
    nodes: dict[str, dict[str, Any]]
    over_flower: bool

    def __getitem__(self, node: str) -> dict[str, Any]:
        return self.nodes[node]


@pytest.fixture(
    scope="module", params=["here", pytest.param("flower", marks=pytest.mark.federation)]
)
def seen(request: pytest.FixtureRequest) -> Iterator[Seen]:
    with TemporaryDirectory(prefix="fa-") as place, fhir_server() as url:
        folder = Path(place)
        folder.chmod(0o711)
        (folder / "script.py").write_text(SCRIPT)
        for node in (A, B):
            _sources(folder / "data" / node, url)
        over_flower = request.param == "flower"
        run = _over_flower(folder) if over_flower else _here(folder)
        assert run.succeeded, (run.result, run.printed, run.hub_log[-20:])
        yield Seen(run, json.loads(run.texts[-1]), over_flower)


def _here(folder: Path) -> TestRun:
    options = RunOptions(
        script=folder / "script.py",
        nodes=NODES,
        aggregator=HUB,
        out=folder / "out",
        data=folder / "data",
        store=folder / "store",
        project=PROJECT,
        parameters=PARAMETERS,
        limit=120,
        epsilon_budget=1.0,
    )
    (folder / "data" / HUB).mkdir()
    return read(LocalRun(options).run())


def _over_flower(folder: Path) -> TestRun:
    key = SigningKey.new()
    key.save(folder / "analyst.pem")
    database = "postgresql://nobody@127.0.0.1:1/none"
    policy, text = "free_exchange = true\n", key.public.text
    with ExitStack() as stack:
        sites = []
        for node in (A, B):
            service = f'data_sources = "{folder / "data" / node}"\n'
            site = GuardedHospital(folder / node, node, database, policy, text, [], service)
            site.start()
            assert site.process is not None
            stack.callback(site.process.stop)
            sites.append(site)
        known = pinned(sites, folder / "sites.json")
        federation = stack.enter_context(local_federation([site.node_config for site in sites]))
        operators = threading.Thread(target=_approve, args=(sites,), daemon=True)
        operators.start()
        options = FederationOptions(
            script=folder / "script.py",
            nodes=NODES,
            aggregator=HUB,
            superlink=federation.address,
            key=folder / "analyst.pem",
            project=PROJECT,
            out=folder / "out",
            parameters=PARAMETERS,
            limit=900,
            epsilon_budget=1.0,
            approval_seconds=120,
            known_sites=known,
        )
        return read(
            run_on_federation(
                options, lambda line: print(f"{time.strftime('%X')} {line}", flush=True)
            )
        )


def _approve(sites: list[GuardedHospital]) -> None:
    """The operators: each approves the script that it is asked for."""
    waiting, end = list(sites), time.monotonic() + 120
    while waiting and time.monotonic() < end:
        waiting = [site for site in waiting if not site.approve_pending()]
        time.sleep(0.5)


def _sources(folder: Path, fhir: str) -> None:
    (folder / "files").mkdir(parents=True)
    (folder / "files" / "cohort.csv").write_text(COHORT)
    (folder / "secret.txt").write_text("outside of every source")
    listed = [
        {"id": "records", "name": "Our records", "type": "fhir", "url": fhir},
        {"id": "files", "name": "Our files", "type": "s3", "url": "files", "projects": [PROJECT]},
        {"id": "others", "type": "s3", "url": "files", "projects": ["another"]},
    ]
    (folder / "datasources.json").write_text(json.dumps(listed))


@contextmanager
def fhir_server() -> Iterator[str]:
    """A FHIR server on this machine; its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            fhir_app([]), log_level="error", lifespan="off", ws="none", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/fhir"
        server.should_exit = True
        thread.join(10)


def refused(code: str) -> list[str]:
    return ["refused", code]


# general


@EACH
def test_who_is_who(seen: Seen, node: str, peer: str) -> None:
    """get_id, get_role, get_aggregator_id, get_participants, get_participant_ids."""
    saw = seen[node]
    assert (saw["id"], saw["role"], saw["aggregator_id"]) == (node, "default", HUB)
    other = {"nodeId": peer, "nodeType": "default"}
    assert saw["participants"] == [other, {"nodeId": HUB, "nodeType": "aggregator"}]
    assert saw["participant_ids"] == [peer, HUB]


def test_who_is_the_aggregator(seen: Seen) -> None:
    saw = seen[HUB]
    assert (saw["id"], saw["role"], saw["aggregator_id"]) == (HUB, "aggregator", None)
    assert saw["participant_ids"] == [A, B]


def test_which_analysis(seen: Seen) -> None:
    """get_analysis_id, get_project_id: the same at all nodes; get_parameters."""
    assert len({seen[node]["analysis_id"] for node in NODES}) == 1
    assert {seen[node]["project_id"] for node in NODES} == {PROJECT}
    assert all(seen[node]["parameters"] == PARAMETERS for node in NODES)


@pytest.mark.parametrize("node", NODES)
def test_progress(seen: Seen, node: str) -> None:
    """set_progress truncates, rises only, and stays within 0 and 100; get_progress."""
    saw = seen[node]
    assert (saw["progress"], saw["progress truncated"], saw["progress kept"]) == (0, 10, 10)


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize(
    ("type", "level"),
    [
        ("info", "info"),
        ("normal", "info"),
        ("notice", "notice"),
        ("debug", "debug"),
        ("warning", "warn"),
        ("alert", "alert"),
        ("emergency", "emerg"),
        ("error", "error"),
        ("critical-error", "crit"),
        ("custom", "alert"),
        ("undeclared", "info"),
    ],
)
def test_log_types(seen: Seen, node: str, type: str, level: str) -> None:
    """flame_log(log_type=…) and declare_log_types, as the hub has them."""
    assert (level, f"of type {type}") in seen.run.logged(node)


@pytest.mark.parametrize("node", NODES)
def test_logs(seen: Seen, node: str) -> None:
    """Numbers, bytes, halted and suppressed; what is refused is an error or a warning."""
    logged = seen.run.logged(node)
    texts = [text for _, text in logged]
    assert {"5", "bytes"} <= set(texts)
    assert [text for text in texts if "awaiting" in text] == ["awaiting...success"]
    errors = [text for level, text in logged if level == "error"]
    assert any("'loud'" in text for text in errors)
    assert any("'undeclared' is no log type" in text for text in errors)
    assert any("101" in text for text in errors)
    assert any("only rises" in text for level, text in logged if level == "warn")


@EACH
def test_ready_check(seen: Seen, node: str, peer: str) -> None:
    assert seen[node]["ready"] == {peer: True, HUB: True}
    assert seen[node]["ready one"] == {HUB: True}
    assert seen[HUB]["ready"] == {A: True, B: True}


@pytest.mark.parametrize("node", NODES)
def test_analysis_finished(seen: Seen, node: str) -> None:
    """Called twice at the aggregator; every node has ended in order."""
    assert seen.run.status(node) == "finished", seen.run.reason(node)


# messages


@EACH
def test_send_message(seen: Seen, node: str, peer: str) -> None:
    assert seen[node]["sent"] == [[peer, HUB], []]
    assert seen[node]["hello"] == {peer: [{"from": peer}]}
    assert seen[node]["hello recipients"] == [node, HUB]


@EACH
def test_meta(seen: Seen, node: str, peer: str) -> None:
    meta = seen[node]["hello meta"]
    assert set(meta) == {
        *("type", "category", "id", "akn_id", "status"),
        *("sender", "created_at", "arrived_at", "number"),
    }
    assert (meta["category"], meta["sender"], meta["status"]) == ("hello", peer, "read")
    assert meta["created_at"] <= meta["arrived_at"]


@EACH
def test_the_total_over_all_attempts(seen: Seen, node: str, peer: str) -> None:
    """timeout bounds them; not acknowledged in time is not lost, and no second copy."""
    saw = seen[node]
    acknowledged, not_acknowledged = saw["impatient"]
    assert acknowledged + not_acknowledged == [peer]
    assert saw["impatient took"] < 2.5
    assert saw["impatient arrived"] == {peer: [{"n": 1}]}
    assert saw["read again"] == {peer: None}


@EACH
def test_a_wait_ends_at_its_timeout(seen: Seen, node: str, peer: str) -> None:
    for name, least in (("nothing came", 1), ("no data", 1), ("no answer", 2)):
        assert seen[node][name] == {peer: None}
        assert least - 0.1 <= seen[node][f"{name} took"] < least + 2


@EACH
def test_reading_and_deleting(seen: Seen, node: str, peer: str) -> None:
    """get_messages, delete_messages, clear_messages: by status and age."""
    saw = seen[node]
    assert saw["read"] == [True]
    assert (saw["deleted"], saw["deleted again"]) == (1, 0)
    assert (saw["cleared old"], saw["cleared all"]) == (0, 0)
    assert saw["cleared read"]
    assert saw["cleared unread"]


@EACH
def test_send_message_and_wait_for_responses(seen: Seen, node: str, peer: str) -> None:
    assert seen[node]["answer"] == {HUB: [{"n": 21}]}


@EACH
def test_a_message_by_its_id(seen: Seen, node: str, peer: str) -> None:
    assert seen[node]["by id"] == {peer: [{"n": 2}]}
    assert seen[node]["left unread"] == [1]


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("meta", "invalid_payload"),
        ("3 MB", "message_too_large"),
        ("NaN", "invalid_payload"),
        ("no dictionary", "invalid_payload"),
        ("unknown receiver", "unknown_node"),
        ("an object", "unsendable_value"),
    ],
)
def test_what_cannot_be_sent(seen: Seen, node: str, what: str, code: str) -> None:
    assert seen[node][what] == refused(code)


# storage


@EACH
def test_local_data(seen: Seen, node: str, peer: str) -> None:
    saw = seen[node]
    assert saw["local saved"]["status"] == "success"
    assert set(saw["local saved"]) == {"status", "url", "id"}
    assert saw["local read"] == {"x": [1, 2.5]}


@EACH
def test_tags(seen: Seen, node: str, peer: str) -> None:
    saw = seen[node]
    assert (saw["tag all"], saw["tag first"], saw["tag last"]) == ([1, 2, 3], 1, 3)
    assert (saw["tags"], saw["tags filtered"]) == (["other", "result-a"], ["result-a"])
    assert saw["no tag all"] == []
    assert saw["no tag first"] == saw["no tag last"] == refused("unknown_tag")
    assert saw["wrong tag"] == refused("invalid_tag")
    assert saw["tag on the hub"] == saw["local for others"] == refused("invalid_argument")


@EACH
def test_data_for_everybody(seen: Seen, node: str, peer: str) -> None:
    saved = seen[node]["global saved"]
    assert (set(saved), saved["status"]) == ({"status", "url", "id"}, "success")
    assert seen[node]["global read"] == {"of": peer}


@EACH
def test_data_for_some(seen: Seen, node: str, peer: str) -> None:
    """remote_node_ids and sender_node_id: from site to site, and to the aggregator."""
    assert set(seen[node]["sealed saved"]) == {peer, HUB}
    assert seen[node]["sealed read"] == [peer, "sealed"]
    assert seen[HUB]["sealed read"] == [[A, "sealed"], [B, "sealed"]]


@EACH
def test_data_for_others(seen: Seen, node: str, peer: str) -> None:
    """Another's object, a guessed id, another sender, no sender: an error, never data."""
    saw = seen[node]
    assert saw["another's object"] == saw["guessed global id"] == refused("unknown_object")
    assert saw["guessed local id"] == refused("unknown_object")
    assert saw["sealed without a sender"] == refused("invalid_argument")
    assert saw["sealed from another"] == refused("cannot_decrypt")


@EACH
def test_send_and_await_intermediate_data(seen: Seen, node: str, peer: str) -> None:
    """2 MB of numpy, a frame, bytes; encrypted and not, by category."""
    saw = seen[node]
    total = sum(range(250_000))
    assert saw["sent data"] == [[peer, HUB], []]
    assert saw["data"] == [total, "float64", [1, 2], [0, 255]]
    assert seen[HUB]["data"] == {A: total, B: total}
    assert saw["sent plain"] == [[peer], []]
    assert saw["plain data"] == {peer: {"from": peer}}


def test_submit_final_result(seen: Seen) -> None:
    """Bytes, a pickle, a number with noise, a text; local_dp needs a number."""
    kinds = [(line["node"], line["output_type"]) for line in seen.run.submissions]
    assert kinds == [(HUB, kind) for kind in ("bytes", "pickle", "str", "str")]
    raw, pickled = [(seen.run.out / line["file"]).read_bytes() for line in seen.run.submissions[:2]]
    assert raw == b"\x00bytes"
    assert pickle.loads(pickled) == {"a": [1]}  # made by the analysis above, of ours
    noisy = float(seen.run.texts[0])
    assert noisy != 100.0
    assert abs(noisy - 100) < 40  # Laplace of scale 1: beyond it once in 10^17
    assert all(
        seen[HUB][f"submitted {kind}"]["status"] == "success" for kind in ("bytes", "pickle")
    )
    assert seen[HUB]["noise without numbers"][0] == "refused"
    assert seen[HUB]["noise beyond the budget"] == refused("budget_spent")


@EACH
def test_only_the_aggregator_submits(seen: Seen, node: str, peer: str) -> None:
    assert seen[node]["submitted by a data node"] == refused("not_the_aggregator")


# data sources


@EACH
def test_get_data_sources(seen: Seen, node: str, peer: str) -> None:
    """Those of the project; no address."""
    assert seen[node]["sources"] == [
        {"id": "records", "name": "Our records", "type": "fhir"},
        {"id": "files", "name": "Our files", "type": "s3"},
    ]


@EACH
def test_get_fhir_data(seen: Seen, node: str, peer: str) -> None:
    saw = seen[node]
    [records] = saw["fhir"]
    assert list(records) == ["Patient?_summary=count"]
    assert records["Patient?_summary=count"]["total"] == 23
    assert saw["fhir none"] is saw["fhir null"] is None
    assert any(level == "error" for level, text in seen.run.logged(node) if "Broken" in text)


@EACH
def test_get_s3_data(seen: Seen, node: str, peer: str) -> None:
    assert seen[node]["s3"] == seen[node]["s3 all"] == [{"cohort.csv": COHORT}]
    assert seen[node]["s3 outside"] == refused("invalid_key")


@EACH
def test_get_data_client(seen: Seen, node: str, peer: str) -> None:
    assert seen[node]["client"]["total"] == 23
    assert seen[node]["no client"] == refused("unknown_source")
