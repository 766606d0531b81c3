"""Scripts over guarded sites: approved, started, carried; the hub as the ServerApp has it."""

from __future__ import annotations

import ast
import base64
import json
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import pytest

from federated_analytics import wire
from federated_analytics.code_digest import code_digest
from federated_analytics.couriers import InProcessCourier
from federated_analytics.flame.at_site import ScriptsAtSite
from federated_analytics.flame.node_host import NodeHost, NodeSettings
from federated_analytics.flame.order import Pump, ScriptOrder
from federated_analytics.flame.over_flower import Ended, NoSuchSite, run_script
from federated_analytics.guarded_site import GuardedSite
from federated_analytics.messages import Request
from federated_analytics.privacy.policy import Policy
from federated_analytics.signing import SigningKey, sign, unverified_reply, verify_reply
from federated_analytics.site_config import SiteConfig
from tests.sites import load

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("flame")]
LONG = pytest.mark.federation
KEY = SigningKey.new()
SITE = """\
[site]
name = "{name}"
[database]
url = "{url}"
version = "1"
[[project]]
name = "p"
[[analyst]]
name = "ann"
key = "{key}"
projects = ["p"]
{grants}[policy]
{policy}
"""
NO_DATABASE = "postgresql://nobody@127.0.0.1:1/none"
FREE = "free_exchange = true\n"
NODES = {"hospital-a": "default", "hospital-b": "default", "server": "aggregator"}
SUM = """
from flame import FlameCoreSDK
def main():
    flame = FlameCoreSDK(silent=True)
    if flame.get_role() == "aggregator":
        others = flame.get_participant_ids()
        found = flame.await_messages(others, "part", timeout=60)
        total = sum(found[one][-1].body["value"] for one in others)
        data = flame.await_intermediate_data(others, timeout=60)
        size = sum(len(v) for v in data.values())
        flame.submit_final_result(json.dumps([total, size]), output_type="str")
        flame.analysis_finished()
    else:
        flame.set_progress(40)
        flame.flame_log("sending")
        value = flame.get_parameters()["value"]
        flame.send_message([flame.get_aggregator_id()], "part", {"value": value})
        flame.send_intermediate_data([flame.get_aggregator_id()], b"x" * 1_000_000)
import json
main()
"""


@dataclass
class Federation:
    """Guarded sites in this process, and an operator who approves at once, or does not."""

    folder: Path
    policy: str = FREE
    sites: dict[str, GuardedSite] = field(default_factory=dict)
    handlers: list[ScriptsAtSite] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)

    def site(self, name: str, url: str = NO_DATABASE, grants: str = "") -> None:
        folder = self.folder / name
        folder.mkdir()
        file = folder / "site.toml"
        own = {"name": name, "url": url, "grants": grants}
        file.write_text(SITE.format(key=KEY.public.text, policy=self.policy, **own))
        handler = ScriptsAtSite(folder / "flame")
        self.handlers.append(handler)
        self.sites[name] = GuardedSite.open(SiteConfig.load(file), {"flame": handler})

    def order(
        self,
        script: str,
        limit: float = 60.0,
        *,
        epsilon: float = 0.0,
        keys: dict[str, str] | None = None,
        **parameters: object,
    ) -> ScriptOrder:
        given = {"value": 2, **parameters}
        return ScriptOrder("sum.py", script, NODES, given, limit, epsilon, keys or {})

    def run(
        self, order: ScriptOrder, *, approve: bool = True, seconds: float = 30.0, run: str = ""
    ) -> Ended:
        analysis = run or secrets.token_hex(16)
        request = wire.encode_request(Request(order.to_json(), 1, analysis, 60.0, "flame"))
        signed = sign(request, KEY, project="p", study=order.digest, code=code_digest())
        courier = InProcessCourier({n: s.answer for n, s in self.sites.items()})
        stop = threading.Event()
        operator = threading.Thread(target=self._operate, args=(stop,), daemon=True)
        if approve:
            operator.start()
        try:
            return run_script(
                courier,
                order,
                signed,
                analysis=analysis,
                project="p",
                deadline_seconds=seconds,
                say=self.said.append,
            )
        finally:
            stop.set()

    def _operate(self, stop: threading.Event) -> None:
        while not stop.wait(0.1):
            for site in self.sites.values():
                for entry in site.state.approvals.pending():
                    site.state.approvals.approve(entry.fingerprint, "operator")

    def audited(self, name: str) -> str:
        return json.dumps([dict(line) for line in self.sites[name].state.audit.lines()])


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    found = Federation(tmp_path)
    found.site("hospital-a")
    found.site("hospital-b")
    yield found
    for handler in found.handlers:
        handler.stop()


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Federation]:
    found = Federation(tmp_path, policy="")
    found.site("hospital-a")
    found.site("hospital-b")
    yield found
    for handler in found.handlers:
        handler.stop()


def result(ended: Ended) -> str:
    assert ended.state == "finished", ended
    return base64.b64decode(ended.submissions[0]["data"]).decode()


def test_messages_objects_logs_and_results_travel(federation: Federation) -> None:
    ended = federation.run(federation.order(SUM))
    assert json.loads(result(ended)) == [4, 2_000_000]
    assert {n["status"] for n in ended.nodes.values()} == {"finished"}
    assert {(e["node"], e["text"].strip()[-7:]) for e in ended.log} >= {
        ("hospital-a", "sending"),
        ("hospital-b", "sending"),
    }
    assert any("waiting for approval at hospital-a" in line for line in federation.said)
    assert any("hospital-b progress: 40 %" in line for line in federation.said)


def test_every_byte_that_left_is_in_the_audit(federation: Federation) -> None:
    federation.run(federation.order(SUM))
    audit = federation.sites["hospital-a"].state.audit
    released = [line for line in audit.lines() if line["decision"] == "released"]
    said = [wire.decode_release(audit.read_released(line["released"])) for line in released]
    letters = [json.loads(one.exchange)["letters"] for one in said if one.exchange]
    kinds = [letter["kind"] for bundle in letters for _, letter in bundle]
    assert kinds.count("message") == 2
    assert {"log", "progress", "part", "whole", "status"} <= set(kinds)
    assert not audit.verify()


def test_a_changed_byte_or_parameter_asks_again(federation: Federation) -> None:
    federation.run(federation.order(SUM))
    ended = federation.run(federation.order(SUM, value=3), approve=False, seconds=3.0)
    assert {n["status"] for id, n in ended.nodes.items() if id != "server"} == {"absent"}
    assert "waiting_for_approval" in ended.nodes["hospital-a"]["reason"]


def test_nothing_of_a_scripts_own_leaves_a_strict_site(strict: Federation) -> None:
    secret = "87654321"
    script = f"""
from flame import FlameCoreSDK
flame = FlameCoreSDK(silent=True)
if flame.get_role() == "aggregator":
    found = flame.await_messages(flame.get_participant_ids(), "part", timeout=6)
    flame.submit_final_result(str(sorted(v is None for v in found.values())))
    flame.analysis_finished()
else:
    flame.flame_log("{secret}")
    for send in (
        lambda: flame.send_message(["server"], "part", {{"value": "{secret}"}}, timeout=2),
        lambda: flame.save_intermediate_data("{secret}", "global"),
    ):
        try:
            send()
            print("sent")
        except Exception as error:
            print(error.code)
    raise SystemExit("{secret}")
"""
    ended = strict.run(strict.order(script))
    assert result(ended) == "[True, True]"
    assert secret not in ended.to_json()
    printed = next((strict.folder / "hospital-a").rglob("worker.log")).read_text()
    assert printed.count("free_exchange_refused") == 2  # the script was told, at once
    assert "sent" not in printed


def test_a_run_ends_at_its_limit_and_nothing_is_left(federation: Federation) -> None:
    loop = "from flame import FlameCoreSDK\nFlameCoreSDK(silent=True)\nwhile True: pass\n"
    started = time.monotonic()
    ended = federation.run(federation.order(loop, limit=3.0))
    assert time.monotonic() - started < 45
    assert ended.state == "failed"
    assert "limit" in ended.nodes["server"]["reason"]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", ["SIGKILL", "run it again"]),
        *(
            pytest.param(fault, says, marks=LONG)
            for fault, says in [
                ("import nothing_of_this_name", ["ModuleNotFoundError", "ask its operator"]),
                ("bytearray(100 << 30)", ["MemoryError", "--memory-gb"]),
                ("open('../begun.json', 'w')", ["PermissionError", "working directory"]),
            ]
        ),
    ],
)
def test_a_node_that_breaks_at_a_site(federation: Federation, fault: str, says: list[str]) -> None:
    """It is `failed`, with the reason; who waits gets None, and the other site's part counts."""
    script = f"""
from flame import FlameCoreSDK
flame = FlameCoreSDK(silent=True)
if flame.get_id() == "hospital-a":
    {fault}
if flame.get_role() == "aggregator":
    found = flame.await_messages(flame.get_participant_ids(), "part")
    flame.submit_final_result({{n: m and m[0].body["x"] for n, m in found.items()}})
    flame.analysis_finished()
else:
    flame.send_message([flame.get_aggregator_id()], "part", {{"x": 1}})
"""
    started = time.monotonic()
    ended = federation.run(federation.order(script))
    assert time.monotonic() - started < 30
    assert result(ended) == "{'hospital-a': None, 'hospital-b': 1}"
    assert {id: n["status"] for id, n in ended.nodes.items()} == {
        "hospital-a": "failed",
        "hospital-b": "finished",
        "server": "finished",
    }
    reason = ended.nodes["hospital-a"]["reason"]
    assert all(words in reason for words in says), reason


@pytest.mark.parametrize("pinned", ["right", "wrong", pytest.param("none", marks=LONG)])
def test_a_site_encrypts_for_a_key_that_its_site_has_signed(
    federation: Federation, pinned: str
) -> None:
    """As the analyst's order names the sites' keys; a wrong one is as good as a server's own."""
    script = """
from flame import FlameCoreSDK
flame = FlameCoreSDK(silent=True)
me, hub = flame.get_id(), flame.get_aggregator_id()
if me == "hospital-a":
    try:
        flame.send_intermediate_data(["hospital-b"], [1, 2], timeout=20)
        said = "sent"
    except Exception as error:
        said = error.code
    flame.send_message([hub, "hospital-b"], "said", {"said": said})
elif me == "hospital-b":
    said = flame.await_messages(["hospital-a"], "said")["hospital-a"][0].body["said"]
    data = flame.await_intermediate_data(["hospital-a"]) if said == "sent" else None
    flame.send_message([hub], "said", {"said": data})
else:
    found = flame.await_messages(flame.get_participant_ids(), "said")
    flame.submit_final_result([found[n][0].body["said"] for n in sorted(found)])
    flame.analysis_finished()
"""
    keys = {name: site.state.key.public.text for name, site in federation.sites.items()}
    if pinned == "wrong":
        keys["hospital-b"] = SigningKey.new().public.text
    ended = federation.run(federation.order(script, keys=keys if pinned != "none" else None))
    said = {
        "right": "['sent', {'hospital-a': [1, 2]}]",
        "wrong": "['substituted_key', None]",
        "none": "['unknown_site_key', None]",
    }
    assert result(ended) == said[pinned]


def test_an_operator_s_key_that_the_order_contradicts_is_a_refusal(tmp_path: Path) -> None:
    own, other = SigningKey.new().public.text, SigningKey.new().public.text
    peer = f'\n[[peer]]\nname = "hospital-b"\nkey = "{own}"\n'
    found = Federation(tmp_path, policy=FREE + peer)
    found.site("hospital-a")
    try:
        order = found.order(SUM, keys={"hospital-b": other})
        request = Request(order.to_json(), 1, secrets.token_hex(16), 60.0, "flame")
        body = wire.encode_request(request)
        signed = sign(body, KEY, project="p", study=order.digest, code=code_digest())
        reply = unverified_reply(found.sites["hospital-a"].answer(signed))
        refusal = wire.decode_release(reply.release).refusal
        assert refusal is not None
        assert refusal.code == "other_site_key"
        assert other not in str(refusal)
        assert not found.sites["hospital-a"].state.approvals.pending()
    finally:
        found.handlers[0].stop()


def test_a_site_that_is_not_connected_is_named(federation: Federation) -> None:
    del federation.sites["hospital-b"]
    with pytest.raises(NoSuchSite, match="hospital-b"):
        federation.run(federation.order(SUM))


def test_a_pump_for_an_unknown_analysis_is_refused(federation: Federation) -> None:
    pump = Pump("0" * 32, {"confirmed": 0, "letters": []})
    body = wire.encode_request(Request(pump.to_json(), 1, "0" * 32, 5.0, "flame"))
    reply = federation.sites["hospital-a"].answer(body)
    refusal = wire.decode_release(unverified_reply(reply).release).refusal
    assert refusal is not None
    assert refusal.code == "unknown_analysis_run"


RELEASED = """
import json
from flame import FlameCoreSDK
flame = FlameCoreSDK(silent=True)
keys = {
    "features": ["x"],
    "population": {"kind": "table", "table": "t"},
    "feature": {"x": {"range": [0, 500], "step": 1}},
}
result = flame.aggregate.summary(**keys)
if flame.get_role() == "aggregator":
    flame.submit_final_result(json.dumps([vars(row) for row in result.rows]))
    flame.analysis_finished()
else:
    try:
        flame.send_message(["server"], "own", {"of": "its own"}, timeout=2)
    except Exception as error:
        print(error.code)
"""


@pytest.fixture(scope="module")
def tables(database: str) -> dict[str, list[float]]:
    """A table of persons in each hospital's schema; the values of x."""
    found = {}
    for number, name in enumerate(("hospital-a", "hospital-b")):
        count = 50 + 30 * number
        found[name] = [float((i * 7 + number) % 100) for i in range(count)]
        rows = pd.DataFrame({"person_id": range(1, count + 1), "x": found[name]})
        load(database, name, {"t": rows})
    return found


@pytest.fixture
def hospitals(
    database: str, tables: dict[str, list[float]], tmp_path: Path
) -> Iterator[Federation]:
    """Two strict sites with a database each."""
    found = Federation(tmp_path, policy="")
    found.values = tables
    for name in tables:
        found.site(name, f'{database}"\ncdm_schema = "{name}')
    yield found
    for handler in found.handlers:
        handler.stop()
    for site in found.sites.values():
        site.stop(0.0)


def test_a_release_leaves_a_strict_site_and_is_charged_to_the_analyst(
    hospitals: Federation,
) -> None:
    ended = hospitals.run(hospitals.order(RELEASED))
    rows = json.loads(result(ended))
    pooled = pd.Series([x for held in hospitals.values.values() for x in held])
    told = {r["estimate_name"]: r["estimate_value"] for r in rows if r["cdm_name"] == "pooled"}
    assert float(told["mean"]) == pytest.approx(pooled.mean(), rel=1e-12)
    assert float(told["sd"]) == pytest.approx(pooled.std(), rel=1e-12)
    printed = next((hospitals.folder / "hospital-a").rglob("worker.log")).read_text()
    assert "free_exchange_refused" in printed  # a message of its own did not leave
    audit = hospitals.sites["hospital-a"].state.audit
    lines = [line for line in audit.lines() if line["decision"] == "released"]
    [study] = [line for line in lines if line["study_name"] == "flame.omop"]
    assert (study["analyst"], study["project"]) == ("ann", "p")
    released = [wire.decode_release(audit.read_released(line["released"])) for line in lines]
    letters = [x for one in released if one.exchange for x in json.loads(one.exchange)["letters"]]
    [sent] = [letter for _, letter in letters if letter["kind"] == "release"]
    assert set(sent) == {"kind", "id", "recipients", "release"}
    key = hospitals.sites["hospital-a"].state.key.public
    order = str(study["request"]).partition("/")[0]
    assert order in {line["request"] for line in lines if line is not study}
    reply = base64.b64decode(sent["release"])
    said = verify_reply(reply, order, {key.fingerprint: key})  # signed by the site
    assert said.release == audit.read_released(study["released"])
    assert not audit.verify()


def test_where_each_study_is_approved_a_script_s_is_too(hospitals: Federation) -> None:
    for name, site in hospitals.sites.items():
        policy = site.site.policy.model_copy(update={"approval": "manual"})
        hospitals.sites[name].site = replace(site.site, policy=policy)
    rows = json.loads(result(hospitals.run(hospitals.order(RELEASED))))
    assert any(r["estimate_name"] == "mean" for r in rows)
    lines = list(hospitals.sites["hospital-a"].state.audit.lines())
    approved = [line["study_name"] for line in lines if line["decision"] == "approved"]
    assert approved == ["sum.py", "flame.omop"]


def test_a_script_asks_what_its_analyst_is_granted(database: str, tmp_path: Path) -> None:
    found = Federation(tmp_path, policy="")
    for name in ("hospital-a", "hospital-b"):
        found.site(name, grants='analyses = ["flame", "counts"]\n')
    try:
        ended = found.run(found.order(RELEASED))
    finally:
        for handler in found.handlers:
            handler.stop()
    assert "not_granted" in json.dumps([found.audited(n) for n in found.sites])
    assert "not_granted" in ended.nodes["server"]["reason"]


def test_a_release_of_another_site_is_not_taken(tmp_path: Path) -> None:
    """A node that sends, as its own, what says that it is another site's, or what is none."""
    settings = NodeSettings("server", NODES, "a" * 32, "p")
    policy, version = Policy(), "1"
    own = wire.encode_release(policy.introduce(site="hospital-a", version=version))
    host = NodeHost(settings, tmp_path, durable=False)
    for number, body in enumerate((own, b"no release", own[:-3]), 1):
        text = base64.b64encode(body).decode()
        letter = {"kind": "release", "id": f"{number}", "recipients": ["server"], "release": text}
        letter["sender"] = "hospital-b"
        host.exchange({"confirmed": 0, "letters": [[number, letter]]})
    letter = {
        **letter,
        "id": "4",
        "sender": "hospital-a",
        "release": base64.b64encode(own).decode(),
    }
    bundle = host.exchange({"confirmed": 0, "letters": [[4, letter]]})
    logged = [letter["text"] for _, letter in bundle["letters"] if letter["kind"] == "log"]
    assert len(logged) == 3
    assert all("hospital-b" in text for text in logged)
    found = host.await_releases(["hospital-a", "hospital-b"], None, time.monotonic())
    assert found == {"hospital-a": ["4"], "hospital-b": []}
    host.close()


ROUNDS = """
from flame import StarAggregator, StarAnalyzer, StarModel
keys = {"population": {"kind": "table", "table": "t"}, "features": ["x"]}
keys["feature"] = {"x": {"range": [0, 500], "step": 1}}

class Analyzer(StarAnalyzer):
    def analysis_method(self, data, last):
        return data.summary(**keys) if last is None else data.histogram(**keys)

class Middle(StarAggregator):
    def aggregation_method(self, releases):
        if self.latest_result is None:
            return {"mean": self.flame.aggregate.mean(releases, "x", **keys)}
        rows = self.flame.aggregate.merge(releases, "histogram", **keys).rows
        return {**self.latest_result, "bins": sum(r.estimate_name == "count" for r in rows)}

    def has_converged(self, result, last):
        return "bins" in result

StarModel(Analyzer, Middle, data_type="omop", simple_analysis=False)
"""


def test_rounds_of_the_star_pattern_over_strict_sites(hospitals: Federation) -> None:
    said = ast.literal_eval(result(hospitals.run(hospitals.order(ROUNDS))))
    pooled = [x for held in hospitals.values.values() for x in held]
    assert said["mean"] == pytest.approx(sum(pooled) / len(pooled), rel=1e-12)
    assert said["bins"] > 1
