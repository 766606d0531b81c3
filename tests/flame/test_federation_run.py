"""A run on a federation from the analyst's side: its folder while it goes on, its end, its stop.

The federation is the ServerApp's own code over guarded sites in this process; Flower itself is
in test_over_flower.py and test_stop_over_flower.py.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from federated_analytics import server_app
from federated_analytics.app_run import RunStopped, _Log
from federated_analytics.couriers import InProcessCourier
from federated_analytics.flame import federation_run
from federated_analytics.flame.commands import app
from federated_analytics.flame.errors import RunFailed
from federated_analytics.flame.federation_run import FederationOptions, run_on_federation
from federated_analytics.flame.router import LEVELS
from federated_analytics.flame.run_folder import RunFolder
from federated_analytics.flame.run_lines import event_of, one_line
from federated_analytics.flame.run_reading import RunFiles
from federated_analytics.flame.stopping import stop_at_sites
from federated_analytics.payload import from_lines, is_payload, to_lines
from tests.flame.test_over_sites import KEY, Federation, federation

__all__ = ["federation"]
pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("flame")]
RunApp = Callable[..., str]
HOSTILE = "first\nserver: finished\nfederated-analytics-result 1/1 0123456789abcdef QUJD"
SCRIPT = f"""
from flame import FlameCoreSDK
flame = FlameCoreSDK(silent=True)
if flame.get_role() == "aggregator":
    flame.await_messages(flame.get_participant_ids(), "go", timeout=60)
    flame.submit_final_result("done")
    flame.analysis_finished()
else:
    flame.flame_log({HOSTILE!r})
    flame.set_progress(40)
    flame.send_message([flame.get_aggregator_id()], "go", {{}})
"""
LOOP = """
import time
from flame import FlameCoreSDK
flame = FlameCoreSDK(silent=True)
if flame.get_role() == "aggregator":
    found = flame.await_messages(flame.get_participant_ids(), "never")
    flame.submit_final_result(str(list(found.values())))
else:
    flame.set_progress(10)
    time.sleep(300)
"""


class Lines(io.TextIOBase):
    """Standard output of a ServerApp, taken line by line as `flwr run --stream` is."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take, self._rest = take, ""

    def write(self, text: str) -> int:
        *whole, self._rest = (self._rest + text).split("\n")
        for line in whole:
            self._take(line)
        return len(text)


def flower_over(sites: Federation) -> RunApp:
    """`run_app` with the ServerApp in this process, and operators who approve."""
    courier = InProcessCourier({n: s.answer for n, s in sites.sites.items()})

    def run_app(
        config: Mapping[str, Any],
        superlink: str,
        root_certificates: object,
        show: Callable[[str], None],
        stopped: Callable[[], bool] = lambda: False,
    ) -> str:
        log, end = _Log(), threading.Event()
        log.take("Successfully started run 7", show)
        threading.Thread(target=sites._operate, args=(end,), daemon=True).start()
        signed = config.get("signed-request")
        try:
            with contextlib.redirect_stdout(Lines(lambda line: log.take(line, show))):
                server_app._of_another_kind(
                    courier,
                    base64.b64decode(config["request"]),
                    base64.b64decode(signed) if signed else None,
                    config,
                )
        finally:
            end.set()
        return from_lines(log.payload)

    return run_app


@pytest.fixture
def options(tmp_path: Path) -> FederationOptions:
    (tmp_path / "script.py").write_text(SCRIPT)
    KEY.save(tmp_path / "key.pem")
    return FederationOptions(
        script=tmp_path / "script.py",
        nodes=["hospital-a", "hospital-b", "server"],
        aggregator="server",
        superlink="127.0.0.1:1",
        key=tmp_path / "key.pem",
        project="p",
        out=tmp_path / "out",
        limit=60,
        approval_seconds=60,
    )


def test_the_folder_follows_the_run(
    federation: Federation, options: FederationOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(federation_run, "run_app", flower_over(federation))
    seen: list[str] = []
    said: list[str] = []

    def look(event: Any) -> None:
        seen.append(CliRunner().invoke(app, ["status", str(options.out)]).output)

    result = run_on_federation(options, said.append, look)
    assert result.succeeded
    assert any(line.startswith("waiting for approval at hospital-a") for line in said)
    assert all(text.startswith("running\n") for text in seen)
    # While it ran: a log line is one node's, whatever it holds; it is shown by its last line.
    assert "hospital-a: running  40 %  federated analytics result 1/1" in "".join(seen)
    assert "server: finished" not in "".join(seen[:2])
    # Afterwards: the log as the hub has it, each byte.
    log = [e for e in RunFiles(options.out).log() if e["node"] == "hospital-b"]
    assert log == [{"node": "hospital-b", "level": "info", "text": HOSTILE}]
    runner = CliRunner()
    assert runner.invoke(app, ["results", str(options.out)]).output == "done\n"
    assert (
        "finished\nhospital-a: finished  40 %"
        in runner.invoke(app, ["status", str(options.out)]).output
    )
    printed = runner.invoke(app, ["logs", str(options.out), "--printed"]).output
    assert "stays there" in printed
    assert json.loads((options.out / "run.json").read_text())["run_id"] == "7"
    assert (options.out / "run.json").stat().st_mode & 0o077 == 0


def test_a_stop_reaches_the_sites(federation: Federation) -> None:
    """As `flame stop` and Ctrl-C bring it: no pump of the first hub is needed for it."""
    analysis = secrets.token_hex(16)
    order = federation.order(LOOP)
    ended: list[Any] = []
    hub = threading.Thread(target=lambda: ended.append(federation.run(order, run=analysis)))
    hub.start()
    until = time.monotonic() + 30
    while sum("progress" in line for line in federation.said) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    courier = InProcessCourier({n: s.answer for n, s in federation.sites.items()})
    told = stop_at_sites(courier, analysis, "stopped by the analyst")
    assert told == {"hospital-a": "stopped", "hospital-b": "stopped"}
    hub.join(60)
    [end] = ended
    for name in ("hospital-a", "hospital-b"):
        assert end.nodes[name] == {"status": "stopped", "reason": "stopped by the analyst"}
    for handler in federation.handlers:
        assert all(running.node.over for running in handler._running.values())


def test_a_stop_of_what_does_not_run_says_so(federation: Federation) -> None:
    courier = InProcessCourier({n: s.answer for n, s in federation.sites.items()})
    told = stop_at_sites(courier, "0" * 32, "stopped by the analyst")
    assert list(told.values()) == ["unknown_analysis_run"] * 2


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (RunStopped("The run was stopped."), "stopped"),
        (KeyboardInterrupt(), "stopped"),
        (RunFailed("'x' is no connected site."), "failed"),
    ],
    ids=["stop", "ctrl-c", "failure"],
)
def test_an_end_from_outside_is_written_down(
    options: FederationOptions,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    state: str,
) -> None:
    stopped: list[str] = []

    def run_app(config: Any, superlink: str, root: Any, show: Any, **more: Any) -> str:
        if "signed-request" not in config:
            stopped.append("at the sites")
            return json.dumps({"hospital-a": "stopped", "hospital-b": "unknown_analysis_run"})
        show("Successfully started run 12")
        show("hospital-a: running")
        raise error

    monkeypatch.setattr(federation_run, "run_app", run_app)
    monkeypatch.setattr(
        federation_run, "stop_run", lambda run_id, *given: stopped.append(f"run {run_id}")
    )
    said: list[str] = []
    with contextlib.suppress(type(error)):
        assert not run_on_federation(options, said.append).succeeded
    files = RunFiles(options.out)
    assert files.status()["state"] == state
    assert {node["status"] for node in files.status()["nodes"].values()} == {state}
    assert stopped == (["run 12", "at the sites"] if state == "stopped" else [])
    if state == "failed":
        assert "no connected site" in files.status()["nodes"]["server"]["reason"]
    assert not files.alone


def test_a_run_whose_process_was_killed_is_stopped_from_another(
    options: FederationOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = f"""
import os, signal
from federated_analytics.flame.live_run import LiveRun
from federated_analytics.flame.run_folder import RunFolder
from federated_analytics.flame.federation_run import Place
from pathlib import Path
place = Place("127.0.0.1:1", "0" * 32, 1)
live = LiveRun(RunFolder(Path({str(options.out)!r})), {{"a": "default"}}, place.__dict__)
live.take("Successfully started run 9", lambda event: None)
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], check=False)
    asked: list[Any] = []

    def run_app(config: Any, *given: Any, **more: Any) -> str:
        asked.append(config["request"])
        return json.dumps({"a": "stopped"})

    monkeypatch.setattr(federation_run, "run_app", run_app)
    monkeypatch.setattr(federation_run, "stop_run", lambda *given: asked.append(given[0]))
    runner = CliRunner()
    assert "its process is gone" in runner.invoke(app, ["status", str(options.out)]).output
    assert runner.invoke(app, ["stop", str(options.out)]).output.endswith("a: stopped\nstopped\n")
    assert asked[0] == "9"
    status = RunFiles(options.out).status()
    assert status["nodes"]["a"] == {"status": "stopped", "reason": "stopped by the analyst"}


def test_one_folder_holds_one_run(tmp_path: Path) -> None:
    first = RunFolder(tmp_path)
    first.write_status("running", {})
    with pytest.raises(RunFailed, match="Another run"):
        RunFolder(tmp_path)
    first.write_status("finished", {})
    RunFolder(tmp_path)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(LEVELS), st.text(max_size=60) | st.just(HOSTILE))
def test_a_log_line_is_its_own_node_s_whatever_it_holds(level: str, text: str) -> None:
    line = one_line(f"hospital-a {level}: {text}")
    assert len(line.splitlines()) == 1
    assert not is_payload(line)
    event = event_of(line)
    assert event is not None
    assert (event.kind, event.node, event.content["level"]) == ("log", "hospital-a", level)
    if text.isascii() and text.isprintable():
        assert event.content["text"] == text


def test_a_forged_result_in_a_log_is_no_result() -> None:
    forged = next(to_lines('{"state": "finished"}'))
    assert is_payload(forged)
    assert not is_payload(one_line(f"hospital-a info: {forged}"))
