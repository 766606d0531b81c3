"""`federated-analytics flame …` as an analyst calls it; recording and replay of a run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from federated_analytics.flame.commands import app

MEAN = """
from flame import FlameCoreSDK

def main():
    flame = FlameCoreSDK()
    if flame.get_role() == "aggregator":
        data = flame.await_intermediate_data(flame.get_participant_ids())
        total = sum(d["sum"] for d in data.values())
        n = sum(d["n"] for d in data.values())
        flame.flame_log("aggregating")
        flame.set_progress(50)
        flame.submit_final_result(total / n)
        flame.submit_final_result(b"123", output_type="bytes")
        flame.analysis_finished()
    else:
        text = flame.get_s3_data(["x.csv"])[0]["x.csv"]
        values = [float(line) * flame.get_parameters().get("scale", 1) for line in text.split()]
        print("values", len(values))
        flame.send_intermediate_data(
            [flame.get_aggregator_id()], {"sum": sum(values), "n": len(values)})
        flame.await_messages([flame.get_aggregator_id()], "end")

if __name__ == "__main__":
    main()
"""


NODES = ("--nodes=a,c", "--aggregator=c")


@pytest.fixture
def mean(tmp_path: Path) -> list[str]:
    """The arguments of a run of MEAN over two nodes' data: (1 + 2 + 6) / 3 = 3."""
    (tmp_path / "mean.py").write_text(MEAN)
    for node, text in (("node-a", "1\n2\n"), ("node-b", "6\n")):
        (tmp_path / "data" / node).mkdir(parents=True)
        (tmp_path / "data" / node / "x.csv").write_text(text)
    return [
        "run",
        str(tmp_path / "mean.py"),
        "--nodes=node-a,node-b,node-c",
        "--aggregator=node-c",
        f"--data={tmp_path / 'data'}",
        f"--store={tmp_path / 'store'}",
        f"--out={tmp_path / 'out'}",
    ]


def test_run_then_read_what_it_left(mean: list[str], tmp_path: Path) -> None:
    """run, results, logs and status; parameters reach the script."""
    runner, out = CliRunner(), str(tmp_path / "out")
    ran = runner.invoke(app, [*mean, "--param=scale=2", "--limit=60", "--project=p"])
    assert ran.exit_code == 0, ran.output
    assert "node-a: finished" in ran.stdout
    assert runner.invoke(app, ["results", out]).stdout.splitlines() == [
        "6.0",
        str(tmp_path / "out" / "results" / "2.bin"),
    ]
    assert (tmp_path / "out" / "results" / "2.bin").read_bytes() == b"123"
    assert "node-c info: aggregating" in runner.invoke(app, ["logs", out]).stdout
    assert runner.invoke(app, ["logs", out, "--node", "node-a"]).stdout == ""
    printed = runner.invoke(app, ["logs", out, "--printed", "--node", "node-a", "--follow"]).stdout
    assert "node-a: values 2" in printed
    assert runner.invoke(app, ["status", out]).stdout.splitlines()[0] == "finished"
    assert "has ended before" in runner.invoke(app, ["stop", out]).stdout


def test_a_run_is_recorded_and_replayed(mean: list[str], tmp_path: Path) -> None:
    """The aggregator's script runs alone and gets the same data; a changed one diverges."""
    runner, out = CliRunner(), str(tmp_path / "out")
    assert runner.invoke(app, [*mean, "--record"]).exit_code == 0
    for path in (tmp_path / "data").rglob("*.csv"):
        path.unlink()  # a replay reads nothing but its recording
    for node in ("node-c", "node-a"):
        replayed = runner.invoke(app, ["replay", out, "--node", node])
        assert replayed.exit_code == 0, replayed.output
        assert f"{node}: finished" in replayed.stdout
    assert "values 2" in replayed.stdout
    changed = tmp_path / "changed.py"
    changed.write_text(MEAN.replace("set_progress(50)", "set_progress(60)"))
    replayed = runner.invoke(app, ["replay", out, "--node", "node-c", "--script", str(changed)])
    assert replayed.exit_code == 1
    assert "Diverged" in replayed.stdout
    assert "set_progress" in replayed.stdout


def test_stop_ends_a_run(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("import time; time.sleep(300)")
    out = tmp_path / "out"
    program = "from federated_analytics.flame.commands import app; app()"
    run = subprocess.Popen(
        [
            sys.executable,
            "-c",
            program,
            "run",
            str(tmp_path / "s.py"),
            "--nodes=a,c",
            "--aggregator=c",
            f"--out={out}",
            f"--store={tmp_path / 'store'}",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 20
    while not (out / "logs" / "c.log").exists() and time.monotonic() < end:
        time.sleep(0.05)
    stopped = CliRunner().invoke(app, ["stop", str(out)])
    assert stopped.stdout == "stopped\n"
    printed, _ = run.communicate(timeout=20)
    assert run.returncode == 1
    assert "c: stopped (stopped by the analyst)" in printed
    assert json.loads((out / "status.json").read_text())["state"] == "stopped"


def test_a_failed_run_names_the_node_s_log(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("raise ValueError('boom')")
    ran = CliRunner().invoke(
        app,
        [
            "run",
            str(tmp_path / "s.py"),
            "--nodes=a,c",
            "--aggregator=c",
            f"--out={tmp_path / 'o'}",
            f"--store={tmp_path / 'store'}",
        ],
    )
    assert ran.exit_code == 1
    assert "a: failed (ValueError: boom (line 1 of the script))" in ran.stdout
    assert str(tmp_path / "o" / "logs" / "a.log") in ran.stdout
    assert "ValueError: boom" in (tmp_path / "o" / "logs" / "a.log").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing.py", "--nodes=a,c", "--aggregator=c"], "script"),
        (["SCRIPT", "--nodes=a,c", "--aggregator=b"], "--aggregator"),
        (["SCRIPT", "--nodes=a,a,c", "--aggregator=c"], "twice"),
        (["SCRIPT", "--nodes=../a,c", "--aggregator=c"], "--nodes"),
        (["SCRIPT", "--nodes=a,c", "--aggregator=c", "--param=x"], "k=v"),
        (["SCRIPT", "--nodes=a,c", "--aggregator=c", "--data=missing"], "--data"),
    ],
)
def test_options_that_cannot_be_used(tmp_path: Path, arguments: list[str], says: str) -> None:
    script = tmp_path / "s.py"
    script.write_text("x = 1")
    given = [str(script) if a == "SCRIPT" else a for a in arguments]
    ran = CliRunner().invoke(app, ["run", *given, f"--out={tmp_path / 'o'}"])
    assert ran.exit_code != 0
    assert says in str(ran.exception)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("command", ["status", "logs", "stop", "results"])
def test_a_folder_that_is_no_run(tmp_path: Path, command: str) -> None:
    ran = CliRunner().invoke(app, [command, str(tmp_path)])
    assert "--out" in str(ran.exception)


def test_every_command_shows_an_example() -> None:
    for command in app.registered_commands:
        assert (command.epilog or "").startswith("Example: federated-analytics flame ")
