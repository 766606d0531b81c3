"""The console's own process: where it listens, what it prints and logs, how it stops."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from federated_analytics.errors import ConfigError
from federated_analytics.site_service.console.serving import console_running, login_address
from federated_analytics.site_service.console.sessions import Sessions
from tests.site_service.console_client import Client
from tests.site_service.console_sample import sample

CHILD = """
import logging, sys
from pathlib import Path
from federated_analytics.site_service.console.serving import serve_console
from tests.site_service.console_sample import sample
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
serve_console(sample(Path(sys.argv[1])))
"""


def test_the_console_listens_on_loopback_and_says_where(tmp_path: Path) -> None:
    state = sample(tmp_path)
    sessions = Sessions()
    with console_running(state, sessions) as port:
        address = login_address(port, sessions)
        assert address.startswith(f"http://127.0.0.1:{port}/console/login?token=")
        with pytest.raises(ConfigError, match="cannot listen"), console_running(state, port=port):
            pass
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, "it has stopped"


def test_the_process_prints_an_address_logs_no_token_and_stops(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    address = child.stdout.readline().strip()
    port, token = address.removeprefix("http://127.0.0.1:").split("/console/login?token=")
    client = Client(int(port))
    assert token in client.get(f"/console/login?token={token}").text
    assert client.sign_in(token).status == 303
    assert client.get("/console").status == 200
    assert client.sign_in(token).status == 403
    child.send_signal(signal.SIGTERM)
    _, log = child.communicate(timeout=20)
    assert child.returncode in (0, -signal.SIGTERM)
    assert "not open" in log, "a token that is given twice is logged"
    assert token not in log
