"""Scripts that break, overstep or vanish: the stated result, in time, and nothing left running.

| fault | test |
|---|---|
| worker killed; import that fails; 100 GB; writes outside | test_a_node_that_breaks |
| the same, at a site's own service | test_a_node_that_breaks_at_a_site |
| service killed, and restarted in the middle | test_restart.py |
| node never comes | test_a_node_that_never_comes |
| loops for ever | test_a_script_that_loops_forever; over sites: test_over_sites.py |
| forks | test_what_a_script_forks_does_not_outlive_it |
| forks for ever | test_a_script_that_goes_on_forking_is_ended |
| NaN, `meta`, 3 MB | test_methods_over_flower.py: test_what_cannot_be_sent |
| another's blob, guessed ids | test_methods_over_flower.py: test_data_for_others |
| submits from a data node | test_methods_over_flower.py: test_only_the_aggregator_submits |
| a tag of another project | test_storage.py: test_tags_persist_for_the_project_and_the_node |
| an S3 key with `../` | test_methods_over_flower.py: test_get_s3_data; test_s3.py |
| a FHIR server that answers 500, HTML or never | test_a_fhir_server_that_breaks; test_fhir.py |
| another node's key, exchanged by the hub | test_node_keys.py |
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.flame.conftest import Federation
from tests.flame.test_broker import BOTH

WAITING = (
    BOTH
    + """
started = time.monotonic()
answer = flame.await_messages(others, 'c')
submit([answer, flame.send_message(others, 'c', {}), time.monotonic() - started])
"""
)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("import nothing_of_this_name", ["ModuleNotFoundError", "ask its operator"]),
        ("def f(:\n", ["SyntaxError", "correct the script"]),
        ("x = 1\nraise ValueError('boom')", ["ValueError: boom (line 2 of the script)"]),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", ["SIGKILL", "run it again"]),
        ("import ctypes; ctypes.string_at(0)", ["SIGSEGV", "the node's own log"]),
        ("x = bytearray(100 << 30)", ["MemoryError", "--memory-gb"]),
        ("import numpy; numpy.ones(100 << 27)", ["Memory", "--memory-gb"]),
        ("open('OUTSIDE', 'w')", ["PermissionError", "working directory"]),
        ("import os; os.mkdir('../beside')", ["PermissionError", "working directory"]),
        ("import socket; socket.create_connection(('127.0.0.1', 9))", ["Error"]),
        ("input()", ["EOFError"]),
    ],
)
def test_a_node_that_breaks(
    federation: Federation, tmp_path: Path, fault: str, says: list[str]
) -> None:
    """It is `failed` at once, with the reason and what to do; who waits for it gets None."""
    fault = fault.replace("OUTSIDE", str(tmp_path / "outside"))
    run = federation("node-a", "node-c").run(WAITING, scripts={"node-a": fault})
    assert run.succeeded
    answer, sent, seconds = json.loads(run.texts[0])
    assert (answer, sent) == ({"node-a": None}, [[], ["node-a"]])
    assert seconds < 20
    assert run.status("node-a") == "failed"
    assert all(words in run.reason("node-a") for words in says), run.reason("node-a")
    assert not (tmp_path / "outside").exists()


def test_a_node_that_never_comes(federation: Federation) -> None:
    run = federation("node-a", "node-c").run(WAITING, absent=["node-a"], absent_after=1)
    assert json.loads(run.texts[0])[:2] == [{"node-a": None}, [[], ["node-a"]]]
    assert run.status("node-a") == "absent"
    assert "starts the site's service" in run.reason("node-a")


def test_a_script_that_loops_forever(federation: Federation) -> None:
    """Stopped at its limit, `failed`, with the reason."""
    started = time.monotonic()
    run = federation("node-a", "node-c").run(
        BOTH + "submit(1)", scripts={"node-a": "while True: pass"}, limit=2, grace_seconds=60
    )
    assert time.monotonic() - started < 10
    assert run.succeeded
    assert run.status("node-a") == "failed"
    assert run.reason("node-a").startswith("stopped at its limit of 2 s; ")
    assert "--limit" in run.reason("node-a")


def test_a_fhir_server_that_breaks(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """500, HTML, or no answer: that query's key is missing, the log says why, the rest is there."""
    from federated_analytics.flame.data_sources import DataSources
    from tests.flame.test_methods_over_flower import fhir_server

    defaults = DataSources.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "fhir_timeout", 1.0)
    script = (
        BOTH
        + """
started = time.monotonic()
queries = ['Broken/500', 'Broken/html', 'Broken/silent', 'Patient?_summary=count']
answers = flame.get_fhir_data(queries)
submit([[sorted(one) for one in answers], time.monotonic() - started])
"""
    )
    with fhir_server() as url:
        sources = json.dumps([{"id": "records", "type": "fhir", "url": url}])
        run = federation("node-c").run(script, data={"node-c": {"datasources.json": sources}})
    keys, seconds = json.loads(run.texts[0])
    assert keys == [["Patient?_summary=count"]]
    assert seconds < 15
    errors = [text for level, text in run.logged("node-c") if level == "error"]
    for kind in ("500", "html", "silent"):
        assert any(f"'Broken/{kind}'" in text for text in errors), errors
    assert not any("secret-host" in text for text in errors)


def test_an_aggregator_that_fails(federation: Federation) -> None:
    data_node = BOTH + "print(flame.await_messages([aggregator], 'c'))"
    run = federation("node-a", "node-c").run("raise KeyError('x')", scripts={"node-a": data_node})
    assert not run.succeeded
    assert run.result.state == "failed"
    assert run.status("node-c") == "failed"
    assert run.status("node-a") == "finished"
    assert "{'node-c': None}" in run.printed["node-a"]


def test_what_a_script_forks_does_not_outlive_it(federation: Federation, tmp_path: Path) -> None:
    """Also in a session of its own, and orphaned on purpose."""
    fork = """
import os, subprocess, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(300)
    os._exit(0)
child = subprocess.Popen(['sleep', '301'], start_new_session=True)
print('pids', child.pid, flush=True)
time.sleep(0.3)
"""
    run = federation("node-a", "node-c").run(WAITING, scripts={"node-a": fork})
    assert run.succeeded
    pid = int(run.printed["node-a"].split()[-1])
    assert not Path(f"/proc/{pid}").exists()
    assert _processes("sleep", "301") == []


def test_a_script_that_goes_on_forking_is_ended(federation: Federation) -> None:
    fork = """
import os, time
while True:
    if os.fork() == 0:
        os.setsid()
        time.sleep(302)
    time.sleep(0.01)
"""
    run = federation("node-a", "node-c").run(
        BOTH + "submit(1)", scripts={"node-a": fork}, limit=2, grace_seconds=60
    )
    assert run.reason("node-a").startswith("stopped at its limit of 2 s; ")
    assert "--limit" in run.reason("node-a")


def test_the_environment_holds_no_credential(federation: Federation) -> None:
    os.environ["A_SECRET_OF_THE_SITE"] = "s3cr3t"
    try:
        script = (
            BOTH
            + """
import os
submit([sorted(os.environ), os.environ['FLAME_NODE_ID'], os.listdir('.'), os.getcwd() != '/'])
"""
        )
        run = federation("node-c").run(script)
    finally:
        del os.environ["A_SECRET_OF_THE_SITE"]
    assert json.loads(run.texts[0]) == [["FLAME_NODE_ID", "FLAME_SOCKET"], "node-c", [], True]


def test_a_fork_of_a_script_has_a_connection_of_its_own(federation: Federation) -> None:
    """Parent and child ask at the same time, and each gets its own answers."""
    script = (
        BOTH
        + """
import multiprocessing
def ask(number):
    for _ in range(50):
        saved = flame.save_intermediate_data(number, 'local')['id']
        assert flame.get_intermediate_data('local', saved) == number
    return number
with multiprocessing.get_context('fork').Pool(3) as pool:
    waiting = pool.map_async(ask, [1, 2, 3])
    ask(0)
    submit(waiting.get())
"""
    )
    run = federation("node-c").run(script)
    assert run.texts == ["[1, 2, 3]"], run.printed


def test_a_script_may_write_in_its_own_directory(federation: Federation) -> None:
    script = (
        BOTH
        + """
import tempfile, os
with open('model.bin', 'wb') as file:
    file.write(b'x')
with tempfile.NamedTemporaryFile() as file:
    file.write(b'y')
submit([os.listdir('.'), oct(os.stat('model.bin').st_mode & 0o777)])
"""
    )
    run = federation("node-c").run(script)
    assert json.loads(run.texts[0]) == [["model.bin"], "0o600"]


def test_a_worker_cannot_signal_what_is_not_its_own(federation: Federation) -> None:
    """Neither its guard, nor the node's service; and its neighbour's socket refuses it."""
    script = (
        BOTH
        + """
import os, signal, socket
def attempt(pid):
    try:
        os.kill(pid, signal.SIGTERM)
    except PermissionError:
        return 'refused'
    return 'sent'
path = os.environ['FLAME_SOCKET']
other = path.replace('/1/', '/0/')
client = socket.socket(socket.AF_UNIX)
client.connect(other)
client.sendall(b'\\x01\\x00\\x00\\x00\\x0d{"token":"x"}')
submit([attempt(os.getppid()), path != other, client.recv(1) == b''])
"""
    )
    run = federation("node-a", "node-c").run(
        script, scripts={"node-a": BOTH + "flame.await_messages([aggregator], 'end')"}
    )
    assert json.loads(run.texts[0]) == ["refused", True, True]


def test_without_a_node_the_sdk_says_how_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from federated_analytics.flame.errors import NodeUnavailable
    from federated_analytics.flame.sdk import FlameCoreSDK

    monkeypatch.delenv("FLAME_SOCKET", raising=False)
    with pytest.raises(NodeUnavailable, match="flame run"):
        FlameCoreSDK()


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_the_run(tmp_path: Path, ending: signal.Signals) -> None:
    """Whatever ends the program: also when it is killed, its workers end."""
    script = tmp_path / "script.py"
    script.write_text("import time; print('here', flush=True); time.sleep(300)")
    out = tmp_path / "out"
    program = (
        "from federated_analytics.flame.commands import app; app(['run', "
        f"{str(script)!r}, '--nodes', 'node-a,node-c', '--aggregator', 'node-c', "
        f"'--out', {str(out)!r}, '--store', {str(tmp_path / 'store')!r}])"
    )
    run = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    logs = [out / "logs" / f"{node}.log" for node in ("node-a", "node-c")]
    _until(lambda: all(log.exists() and "here" in log.read_text() for log in logs))
    run.send_signal(ending)
    assert run.wait(20) != 0
    _until(lambda: not _processes("worker_main.py", ppid=run.pid) and not _writing(out))
    if ending is not signal.SIGKILL:
        status = json.loads((out / "status.json").read_text())
        assert status["state"] == "stopped"
        assert {node["status"] for node in status["nodes"].values()} == {"stopped"}


def _until(true: object, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def _processes(*words: str, ppid: int | None = None) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().decode().split("\0")
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if all(any(word in part for part in command) for word in words) and ppid in (None, parent):
            found.append(int(path.name))
    return found


def _writing(folder: Path) -> list[int]:
    """Processes that have a file of `folder` open."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(folder) in str(fd.readlink()) for fd in (path / "fd").iterdir()):
                found.append(int(path.name))
        except OSError:
            continue
    return found
