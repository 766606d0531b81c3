"""The README's commands, as they are printed, in order, on an empty HOME."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from federated_analytics.local.processes import Process

PORTS = (5433, 5434, 8000, 9094, 9095)
SERVERS = ("flower-superlink", "flower-supernode")


def section(text: str, heading: str) -> str:
    """The part of the README under a heading of the second level."""
    return re.split(r"\n## ", text.split(f"\n## {heading}", 1)[1])[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture(scope="module")
def readme(root: Path) -> str:
    return (root / "README.md").read_text()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An empty HOME, and this Python's commands first on PATH."""
    home = tmp_path_factory.mktemp("home")
    state = (
        Path("/var/tmp" if os.geteuid() == 0 else home)
        / f"federated-analytics-readme-{os.getpid()}"
    )
    bin_ = str(Path(sys.executable).parent)
    env = {
        "HOME": str(home),
        "PATH": f"{bin_}:{os.environ['PATH']}",
        "FEDERATED_ANALYTICS_STATE": str(state),
        "FLWR_TELEMETRY_ENABLED": "0",
    }
    for name in ("PIP_CERT", "SSL_CERT_FILE", "UV_DEFAULT_INDEX", "PIP_INDEX_URL"):
        if name in os.environ:
            env[name] = os.environ[name]
    yield env
    subprocess.run(
        [sys.executable, "-c", f"import shutil; shutil.rmtree({str(state)!r}, True)"], check=False
    )


def shell(command: str, root: Path, env: dict[str, str], seconds: float = 240) -> str:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=root,
        env=env,
        capture_output=True,
        text=True,
        timeout=seconds,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def wait_for(port: int, process: Process) -> None:
    limit = time.monotonic() + 90
    while time.monotonic() < limit and process.is_running():
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"{process.name} does not listen on {port}: {process.last_words(20)}")


def in_use() -> list[int]:
    found = []
    for port in PORTS:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                found.append(port)
    return found


def end_local_superlink(flwr_home: Path) -> None:
    """End the SuperLink that `flwr run . local` leaves behind."""
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(flwr_home) in status.read_text() and "flower-superlink" in status.read_text():
                os.kill(int(status.parent.name), signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.xdist_group("demo")
def test_step_by_step(readme: str, root: Path, environment: dict[str, str], tmp_path: Path) -> None:
    taken = in_use()
    if taken:
        pytest.skip(f"ports {taken} are in use here, and the README names them")
    text = section(readme, "Step by step")
    commands = [b.strip() for b in blocks(text, "shell")]
    assert [c.split()[0] for c in commands] == [
        *("pip", "./db_start.sh", "flower-superlink", "flower-supernode", "flower-supernode"),
        *("flwr", "flwr", "pip"),
    ]
    connection = blocks(text, "toml")[0]
    flwr_home = Path(environment["HOME"]) / ".flwr"
    flwr_home.mkdir()
    (flwr_home / "config.toml").write_text(connection)
    servers: list[Process] = []
    outputs: list[str] = []
    try:
        shell(commands[1], root, environment)
        for command, port in zip(commands[2:5], (8000, 9094, 9095), strict=True):
            extra = "" if "supernode" in command else " --disable-runtime-dependency-installation"
            line = f"cd {tmp_path} && exec {command}{extra}"
            process = Process(
                command.split()[0], ["bash", "-c", line], tmp_path / f"{port}.log", environment
            )
            process.start()
            servers.append(process)
            wait_for(port, process)
        outputs = [shell(command, root, environment) for command in commands[5:7]]
        simulation = commands[7].splitlines()[1]
        outputs.append(shell(f"{simulation} --run-config \"results-dir=''\"", root, environment))
    finally:
        for process in reversed(servers):
            process.stop()
        end_local_superlink(flwr_home)
        shell("./db_start.sh --stop", root, environment)
    assert "Haemoglobin A1c" in outputs[0]
    assert "2 of 2 sites answered" in outputs[2]
    assert "Haemoglobin A1c" in outputs[2]
    assert "Body mass index" in outputs[1]
    assert "Haemoglobin A1c" not in outputs[1]
    assert (tmp_path / "results" / "report.html").is_file()


def test_the_study_in_the_readme_is_one(readme: str) -> None:
    from federated_analytics import Study

    text = next(b for b in blocks(readme, "toml") if "[study]" in b)
    assert len(Study.parse(text).analysis) == 3


def test_the_policy_in_the_readme_is_the_default(readme: str) -> None:
    import tomllib

    from federated_analytics.privacy.policy import Policy

    text = next(b for b in blocks(readme, "toml") if "[policy]" in b)
    data: dict[str, Any] = tomllib.loads(text)
    assert Policy.parse(data, where="README") == Policy()


def test_the_run_config_table_names_every_key(readme: str, root: Path) -> None:
    import tomllib

    config = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    table = section(readme, "Step by step")
    for key in config:
        assert f"| `{key}` |" in table, key


def test_the_node_config_table_names_every_key(readme: str) -> None:
    from federated_analytics.site import NODE_CONFIG

    table = section(readme, "Step by step")
    for key in NODE_CONFIG:
        assert f"`{key}`" in table, key


@pytest.mark.parametrize("command", ["run", "preview", "check"])
def test_the_readme_shows_commands_that_exist(readme: str, command: str) -> None:
    from typer.testing import CliRunner

    from federated_analytics.cli import app

    assert f"federated-analytics {command}" in readme
    assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


def test_every_file_that_the_readme_links_to_is_there(readme: str, root: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", readme):
        assert (root / target).exists(), target
