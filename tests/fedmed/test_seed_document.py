"""FedMed's README, line by line, as separate programs: the import is all that differs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

CLIENT = """
import fedmed as fm
sources = [
    fm.Remote(ip="http://127.0.0.1:5000", fragment="test array 1/2"),
    fm.Remote(ip="http://127.0.0.1:5001", fragment="test array 2/2")
]
data = fm.FedData(sources, config="config.yaml")

mean = data.sum() / data.len()
print('Mean', mean)
"""
SERVER = """
import fedmed as fm
server = fm.Server(config="config.yaml")

data = [1, 2, 3]
server["test array 1/2"] = data

from waitress import serve

if __name__ == "__main__":
    serve(server.app, host="127.0.0.1", port=8000)
"""
TOKEN = "what the owner gave"


def program(text: str, **changes: str) -> str:
    """The document's program: its import from this package, and ports that are free here."""
    text = text.replace("import fedmed as fm", "from federated_analytics import fedmed as fm")
    for old, new in changes.items():
        assert old.removeprefix("_") in text
        text = text.replace(old.removeprefix("_"), new)
    return text


@pytest.fixture
def folder(tmp_path: Path, root: Path) -> Path:
    """Where the programs run: the example's configuration lies beside them."""
    config = (root / "examples" / "fedmed" / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(config)
    return tmp_path


@pytest.fixture
def environment(root: Path) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "FEDMED_TOKEN": TOKEN}


@pytest.fixture
def ports(folder: Path, environment: dict[str, str]) -> Iterator[list[int]]:
    """The document's server twice, the second with other numbers under the other name."""
    free = [free_port(), free_port()]
    second = SERVER.replace("1/2", "2/2").replace("[1, 2, 3]", "[4, 5]")
    with ExitStack() as stack:
        for port, text in zip(free, (SERVER, second), strict=True):
            file = folder / f"server_{port}.py"
            file.write_text(program(text, _8000=str(port)))
            command = [sys.executable, str(file)]
            server = subprocess.Popen(command, cwd=folder, env=environment)
            stack.enter_context(server)
            stack.callback(server.terminate)
        for port in free:
            wait_for(port)
        yield free


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the server did not start")


def client(folder: Path, environment: dict[str, str], ports: list[int]) -> tuple[int, str, str]:
    first, second = map(str, ports)
    file = folder / "client.py"
    file.write_text(program(CLIENT, _5000=first, _5001=second))
    done = subprocess.run(
        [sys.executable, str(file)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_document(folder: Path, environment: dict[str, str], ports: list[int]) -> None:
    code, said, errors = client(folder, environment, ports)
    assert (code, said) == (0, "Mean 3.0\n"), errors
    code, said, errors = client(folder, {**environment, "FEDMED_TOKEN": "another"}, ports)
    assert code == 1
    assert "wrong_token" in errors
    assert said.strip() in ("", "Mean")  # print had written its first argument


def test_the_example_by_one_command(root: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, str(root / "examples" / "fedmed" / "run.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Mean 3.0\n" in done.stdout
    assert "Weight 74.91 (sd 12.39), 1 missing; 7 are 50 or older\n" in done.stdout
    assert "p = 0.00012" in done.stdout
