"""Ready check, logs, log types, progress, ids, roles, parameters: each method and parameter."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.flame.conftest import Federation
from tests.flame.test_broker import BOTH


def _alone(federation: Federation, script: str, **options: Any) -> Any:
    """A run of one node, which aggregates."""
    run = federation("node-c").run(BOTH + script, **options)
    assert run.succeeded, (run.result, run.printed)
    return run


def test_the_document_s_startup(federation: Federation) -> None:
    run = federation("node-a", "node-c").run("""
from flame import FlameCoreSDK

def main():
    flame = FlameCoreSDK(silent=False)
    if flame.get_role() == "aggregator":
        flame.submit_final_result("done")

if __name__ == "__main__":
    main()
""")
    assert run.succeeded
    assert run.texts == ["done"]
    assert run.status("node-a") == run.status("node-c") == "finished"
    assert "ready" in run.printed["node-a"]


def test_the_package_of_the_series_0_4_resolves_too(federation: Federation) -> None:
    run = federation("node-c").run("""
import flame, flamesdk
from flamesdk import FlameCoreSDK, LocalDifferentialPrivacyParams
assert FlameCoreSDK is flame.FlameCoreSDK
sdk = FlameCoreSDK(aggregator_requires_data=True)
sdk.submit_final_result(LocalDifferentialPrivacyParams(epsilon=1, sensitivity=1))
try:
    flame.Unknown
except AttributeError:
    sdk.analysis_finished()
""")
    assert run.succeeded, run.printed


def test_silent_suppresses_the_sdk_s_own_lines_only(federation: Federation) -> None:
    run = _alone(federation, "flame.flame_log('mine'); flame.set_progress(0); submit(1)")
    assert run.printed["node-c"].count("\n") == 1
    assert "mine" in run.printed["node-c"]


def test_who_is_who(federation: Federation) -> None:
    """get_id, get_role, get_aggregator_id, get_participants, get_participant_ids, the ids."""
    data_node = """
flame.send_message([aggregator], 'who', {'who': [flame.get_id(), flame.get_role(),
    flame.get_aggregator_id(), flame.get_participants(), flame.get_participant_ids(),
    flame.get_analysis_id(), flame.get_project_id()]})
"""
    script = """
own = [flame.get_id(), flame.get_role(), flame.get_aggregator_id(), flame.get_participants(),
       flame.get_participant_ids(), flame.get_analysis_id(), flame.get_project_id()]
submit([own, flame.await_messages(['node-a'], 'who')['node-a'][0].body['who']])
"""
    bed = federation("node-a", "node-b", "node-c")
    run = bed.run(
        BOTH + script, scripts=dict.fromkeys(("node-a", "node-b"), BOTH + data_node), project="p-1"
    )
    aggregator, node_a = json.loads(run.texts[0])
    a, b = ({"nodeId": n, "nodeType": "default"} for n in ("node-a", "node-b"))
    c = {"nodeId": "node-c", "nodeType": "aggregator"}
    assert aggregator[:5] == ["node-c", "aggregator", None, [a, b], ["node-a", "node-b"]]
    assert node_a[:5] == ["node-a", "default", "node-c", [b, c], ["node-b", "node-c"]]
    assert aggregator[5:] == node_a[5:]
    assert aggregator[6] == "p-1"


def test_ready_check_waits_for_the_others(federation: Federation) -> None:
    late = "import time; time.sleep(0.7)\n" + BOTH + "flame.await_messages([aggregator], 'end')"
    script = (
        BOTH
        + """
if flame.get_role() == 'aggregator':
    at_once = flame.ready_check(['node-b'], timeout=0)
    started = time.monotonic()
    ready = flame.ready_check()
    took = time.monotonic() - started
    flame.send_message(others, 'end', {})
    submit([at_once, ready, 0.1 < took < 10])
else:
    flame.send_message([aggregator], 'ready', flame.ready_check([aggregator]))
"""
    )
    run = federation("node-a", "node-b", "node-c").run(script, scripts={"node-b": late})
    assert json.loads(run.texts[0]) == [
        {"node-b": False},
        {"node-a": True, "node-b": True},
        True,
    ]


def test_ready_check_ends_for_nodes_that_will_not_come(federation: Federation) -> None:
    script = (
        BOTH
        + """
started = time.monotonic()
never = flame.ready_check(['node-b'], attempt_interval=1, timeout=2)
took = time.monotonic() - started
gone = flame.ready_check('all', attempt_interval=1)
submit([never, 1.9 < took < 3.5, gone, refusal(flame.ready_check, ['node-x'])[0],
        refusal(flame.ready_check, attempt_interval=0)[0]])
"""
    )
    bed = federation("node-a", "node-b", "node-c")
    run = bed.run(
        script, scripts={"node-a": "raise ValueError('x')"}, absent=["node-b"], absent_after=3
    )
    assert json.loads(run.texts[0]) == [
        {"node-b": False},
        True,
        {"node-a": False, "node-b": False},
        "UnknownNode",
        "InvalidArgument",
    ]


def test_logs_of_every_type_reach_the_hub_under_their_level(federation: Federation) -> None:
    script = """
for log_type in ('info', 'normal', 'notice', 'debug', 'warning', 'alert', 'emergency', 'error',
                 'critical-error'):
    flame.flame_log(log_type, log_type=log_type)
flame.flame_log('plain')
submit(1)
"""
    assert _alone(federation, script).logged("node-c") == [
        ("info", "info"),
        ("info", "normal"),
        ("notice", "notice"),
        ("debug", "debug"),
        ("warn", "warning"),
        ("alert", "alert"),
        ("emerg", "emergency"),
        ("error", "error"),
        ("crit", "critical-error"),
        ("info", "plain"),
    ]


def test_declared_log_types(federation: Federation) -> None:
    """The document's example, an unknown literal, and a type that nobody declared."""
    script = """
flame.declare_log_types({"custom": 'info'})
flame.declare_log_types({"loud": 'crit', "wrong": 'warning'})
flame.flame_log('a', log_type='custom')
flame.flame_log('b', log_type='loud')
flame.flame_log('c', log_type='wrong')
submit(1)
"""
    logged = _alone(federation, script).logged("node-c")
    assert [level for level, _ in logged] == ["error", "info", "crit", "info", "error"]
    assert "'wrong'" in logged[0][1]
    assert "'warning'" in logged[0][1]
    assert [text for _, text in logged[1:4]] == ["a", "b", "c"]
    assert "declare_log_types" in logged[4][1]


def test_what_is_printed(federation: Federation) -> None:
    """sep, end, file, suppress_head, bytes and numbers, as `print` would."""
    script = """
import io
flame.flame_log('one', sep='|')
flame.flame_log('two', end='<end>\\n')
flame.flame_log('three', suppress_head=True)
flame.flame_log(b'f\\xc3\\xbcnf', suppress_head=True)
flame.flame_log(flame.get_progress(), suppress_head=True)
file = io.StringIO()
flame.flame_log('elsewhere', file=file, suppress_head=True, end='!')
print(repr(file.getvalue()))
submit(1)
"""
    run = _alone(federation, script)
    lines = run.printed["node-c"].splitlines()
    assert re.fullmatch(r"\[flame .*NORMAL\]\|one", lines[0])
    assert re.fullmatch(r"\[flame .*NORMAL\] two<end>", lines[1])
    assert lines[2:] == ["three", "fünf", "0", "'elsewhere!'"]
    assert [text for _, text in run.logged("node-c")] == [
        "one",
        "two",
        "three",
        "fünf",
        "0",
        "elsewhere",
    ]


def test_halted_submissions_join_the_next(federation: Federation) -> None:
    """The document's example; and what is held back at the end is not lost."""
    script = """
flame.flame_log("Awaiting contact with analyzer nodes...", halt_submission=True)
flame.flame_log("success", suppress_head=True)
flame.flame_log("second...", end='', halt_submission=True)
flame.flame_log("third...", end=' ', halt_submission=True, suppress_head=True)
flame.flame_log("failed", suppress_head=True, log_type='error')
flame.flame_log("last", halt_submission=True)
flame.submit_final_result("x")
"""
    assert _alone(federation, script).logged("node-c") == [
        ("info", "Awaiting contact with analyzer nodes...success"),
        ("error", "second...third... failed"),
        ("info", "last"),
    ]


def test_progress_only_rises(federation: Federation) -> None:
    """Floats truncate; equal, smaller and impossible values are refused with a log."""
    script = """
steps = [flame.get_progress()]
for value in (10, 10, 5, 10.9, 11.9, -1, 101, float('nan'), 'x', True, 100):
    flame.set_progress(value)
    steps.append(flame.get_progress())
submit(steps)
"""
    events: list[int] = []
    run = _alone(
        federation,
        script,
        on_event=lambda e: events.append(e.content["value"]) if e.kind == "progress" else None,
    )
    assert json.loads(run.texts[0]) == [0, 10, 10, 10, 10, 11, 11, 11, 11, 11, 11, 100]
    assert events == [10, 11, 100]
    levels = [level for level, _ in run.logged("node-c")]
    assert levels == ["warn"] * 3 + ["error"] * 5


def test_the_document_s_example_of_progress(federation: Federation) -> None:
    script = """
flame.flame_log(flame.get_progress())
for i in range(0, 100):
    flame.set_progress(i)
submit(flame.get_progress())
"""
    run = _alone(federation, script)
    assert run.texts == ["99"]
    assert run.logged("node-c")[0] == ("info", "0")


def test_parameters_reach_the_script(federation: Federation) -> None:
    """As a dictionary, as names of the script, and on its command line."""
    script = """
import sys
submit([flame.get_parameters(), alpha, sys.argv[1:]])
"""
    run = _alone(federation, script, parameters={"alpha": 0.5, "name": "x"})
    assert json.loads(run.texts[0]) == [
        {"alpha": 0.5, "name": "x"},
        0.5,
        ["alpha=0.5", "name=x"],
    ]


def test_no_payload_is_logged(federation: Federation) -> None:
    script = (
        BOTH
        + """
if flame.get_role() == 'aggregator':
    flame.await_intermediate_data(others)
    flame.await_messages(others, 'c')
    submit(1)
else:
    flame.send_intermediate_data([aggregator], 'secret-1')
    flame.send_message([aggregator], 'c', {'x': 'secret-2'})
"""
    )
    run = federation("node-a", "node-c").run(script)
    assert run.succeeded
    assert run.hub_log == []
    assert not any("secret" in text for text in run.printed.values())
