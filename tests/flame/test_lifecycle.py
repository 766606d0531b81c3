"""How nodes and analyses end: in order, early, by each other, at a limit, by the analyst."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

from tests.flame.conftest import Federation
from tests.flame.test_broker import BOTH


def test_what_a_run_leaves(federation: Federation) -> None:
    """submissions.jsonl, status.json, hub_log.jsonl and hub/, as the document lays down."""
    script = (
        BOTH
        + """
if flame.get_role() == 'aggregator':
    flame.flame_log('one', log_type='notice')
    flame.save_intermediate_data([1], 'global')
    submit(2)
"""
    )
    run = federation("node-a", "node-c").run(script)
    assert json.loads((run.out / "status.json").read_text()) == {
        "state": "finished",
        "nodes": {
            "node-a": {"status": "finished", "reason": ""},
            "node-c": {"status": "finished", "reason": ""},
        },
    }
    assert (run.out / "submissions.jsonl").read_text() == (
        '{"node": "node-c", "output_type": "str", "text": "2"}\n'
    )
    assert (run.out / "hub_log.jsonl").read_text() == (
        '{"node": "node-c", "level": "notice", "text": "one"}\n'
    )
    assert any((run.out / "hub").iterdir())


def test_the_document_s_end_of_an_analysis(federation: Federation) -> None:
    """analysis_finished ends it on every node, also one that waits or works; idempotent."""
    data_node = (
        BOTH
        + """
if me == 'node-a':
    flame.await_messages(['node-b'], 'never')
while True:
    time.sleep(0.1)
"""
    )
    script = (
        BOTH
        + """
flame.ready_check()
flame.submit_final_result([flame.analysis_finished(), flame.analysis_finished()])
"""
    )
    started = time.monotonic()
    run = federation("node-a", "node-b", "node-c").run(
        script, scripts=dict.fromkeys(("node-a", "node-b"), data_node), grace_seconds=1
    )
    assert time.monotonic() - started < 10
    assert run.succeeded
    assert run.texts == ["[True, True]"]
    assert [run.status(n) for n in ("node-a", "node-b", "node-c")] == ["finished"] * 3
    assert "node-c" in run.reason("node-a")


def test_every_node_may_end_the_analysis(federation: Federation) -> None:
    """What was sent before still arrives, and the aggregator has time to submit."""
    data_node = (
        BOTH
        + """
time.sleep(0.5 if me == 'node-b' else 0)
flame.send_message([aggregator], 'c', {'x': me})
flame.analysis_finished()
"""
    )
    script = (
        BOTH
        + """
found = flame.await_messages(others, 'c')
submit([found[n][0].body['x'] for n in others])
"""
    )
    run = federation("node-a", "node-b", "node-c").run(
        script, scripts=dict.fromkeys(("node-a", "node-b"), data_node)
    )
    assert run.succeeded
    assert json.loads(run.texts[0]) == ["node-a", "node-b"]


def test_a_script_that_returns_early_is_finished_at_once(federation: Federation) -> None:
    script = (
        BOTH
        + """
started = time.monotonic()
answer = flame.await_messages(others, 'c')
submit([answer, time.monotonic() - started < 5])
"""
    )
    run = federation("node-a", "node-c").run(script, scripts={"node-a": "x = 1\n"})
    assert json.loads(run.texts[0]) == [{"node-a": None}, True]
    assert run.status("node-a") == "finished"


def test_what_arrived_before_its_sender_ended_is_kept(federation: Federation) -> None:
    data_node = BOTH + "flame.send_message([aggregator], 'c', {'x': 1})"
    script = (
        BOTH
        + """
while flame.ready_check(timeout=0) != {'node-a': True}:
    time.sleep(0.05)
time.sleep(0.5)
submit([flame.await_messages(others, 'c')['node-a'][0].body['x'], flame.ready_check()])
"""
    )
    run = federation("node-a", "node-c").run(script, scripts={"node-a": data_node})
    assert json.loads(run.texts[0]) == [1, {"node-a": True}]


def test_exit_codes_of_scripts(federation: Federation) -> None:
    script = BOTH + "flame.await_messages(others, 'c'); submit(1); raise SystemExit"
    run = federation("node-a", "node-b", "node-d", "node-c").run(
        script,
        scripts={
            "node-a": "raise SystemExit(0)",
            "node-b": "raise SystemExit(4)",
            "node-d": "import os; os._exit(5)",
        },
    )
    assert run.succeeded
    assert [run.status(n) for n in ("node-a", "node-b", "node-d")] == [
        "finished",
        "failed",
        "failed",
    ]
    assert "exit code 4" in run.reason("node-b")
    assert "exit code 5" in run.reason("node-d")


def test_threads_of_a_script_are_waited_for(federation: Federation) -> None:
    script = (
        BOTH
        + """
import threading
def later():
    time.sleep(0.3)
    submit('late')
threading.Thread(target=later).start()
"""
    )
    assert federation("node-c").run(script).texts == ['"late"']


def test_an_aggregator_that_does_not_submit_has_not_succeeded(federation: Federation) -> None:
    run = federation("node-a", "node-c").run("x = 1\n")
    assert not run.succeeded
    assert run.status("node-c") == "finished"


def test_the_analyst_stops_a_run(federation: Federation, tmp_path: Path) -> None:
    """The file that `flame stop` writes ends every node; its state is `stopped`."""
    stop = tmp_path / "run-1" / "out" / "stop"
    timer = threading.Timer(1.0, lambda: stop.write_text(""))
    timer.start()
    started = time.monotonic()
    run = federation("node-a", "node-c").run("import time; time.sleep(100)")
    assert time.monotonic() - started < 10
    assert not run.succeeded
    assert run.result.state == "stopped"
    assert run.status("node-a") == run.status("node-c") == "stopped"
    assert run.reason("node-a") == "stopped by the analyst"


def test_twenty_nodes(federation: Federation) -> None:
    nodes = [f"node-{n:02}" for n in range(20)]
    script = (
        BOTH
        + """
if flame.get_role() == 'aggregator':
    submit(sum(m[0].body['x'] for m in flame.await_messages(others, 'c').values()))
else:
    flame.send_message([aggregator], 'c', {'x': int(me[-2:])})
"""
    )
    run = federation(*nodes).run(script)
    assert run.texts == [str(sum(range(19)))]
    assert {record["status"] for record in run.result.nodes.values()} == {"finished"}
