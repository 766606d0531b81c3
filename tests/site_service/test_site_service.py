"""The site service as a real process, as the ClientApp and as an attacker meet it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from federated_analytics import wire
from federated_analytics.errors import ConfigError, SiteFailed
from federated_analytics.site_service.socket_client import ask
from tests.site_service.fake_service import (
    RELEASE,
    ROOT,
    Running,
    get,
    post,
    raw,
    refusal,
    running,
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = {"concurrent": 2, "queue": 2, "read_seconds": 1.0, "keep_alive_seconds": 1}
    with running(tmp_path_factory.mktemp("service"), limits=limits) as service:
        yield service


def test_bytes_in_bytes_out(service: Running) -> None:
    assert ask(service.address, b"hello", 5) == RELEASE
    assert ask(service.address, b"", 5) == RELEASE
    assert ask(service.address, b"peer", 5) == f"uid:{os.geteuid()}".encode()
    assert stat.S_IMODE(os.stat(service.path).st_mode) == 0o660


def test_what_it_says_of_itself(service: Running) -> None:
    ask(service.address, b"refuse", 5)
    assert get(service.path, "/health") == (200, '{"status":"ok"}')
    assert get(service.path, "/info") == (200, '{"site":"s","minimum_count":5}')
    status, text = get(service.path, "/metrics")
    assert status == 200
    assert 'requests_total{decision="budget_spent"} ' in text
    assert 'seconds_bucket{le="+Inf"} ' in text
    assert "federated_analytics_site_running 0" in text


@pytest.mark.parametrize("address", ["/", "/docs", "/openapi.json", "/console", "/answer/", "/%00"])
def test_everything_else_is_not_found(service: Running, address: str) -> None:
    assert get(service.path, address) == (404, "")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_answer_is_posted(service: Running, method: str) -> None:
    assert get(service.path, "/answer", method)[0] == 404


def test_a_log_line_a_request_and_no_content(service: Running) -> None:
    ask(service.address, b"peer 4711-secret", 5)
    ask(service.address, b"refuse 4711-secret", 5)
    line = service.lines()[-1]
    assert line["decision"] == "budget_spent"
    assert (line["bytes_in"], line["peer"]) == (18, f"uid:{os.geteuid()}")
    assert line["seconds"] < 1
    with pytest.raises(SiteFailed):
        ask(service.address, b"fail", 5)
    assert service.lines()[-1]["exception"] == "RuntimeError"
    assert "4711" not in service.log.read_text()


def test_studies_run_together_wait_in_a_queue_and_are_told_when_it_is_full(
    service: Running,
) -> None:
    started = time.monotonic()
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda _: ask(service.address, b"sleep 0.5", 10), range(12)))
    seconds = time.monotonic() - started
    assert sorted(replies) == sorted([RELEASE] * 4 + [refusal("site_busy")] * 8)
    assert 0.9 < seconds < 3
    assert wire.decode_release(ask(service.address, b"hello", 5)).refusal is None


def test_a_study_that_nobody_waits_for_leaves_the_queue(service: Running) -> None:
    before = sum(line.get("event") == "answered" for line in service.lines())
    with ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(ask, service.address, b"sleep 0.6", 10) for _ in range(2)]
        time.sleep(0.2)
        for _ in range(2):
            raw(service.path, post("Content-Length: 7", b"sleep 3")).close()
        assert [b.result() for b in busy] == [RELEASE] * 2
    started = time.monotonic()
    assert ask(service.address, b"hello", 5) == RELEASE
    assert time.monotonic() - started < 1
    assert before < sum(line.get("event") == "answered" for line in service.lines())


def test_health_answers_while_studies_run(service: Running) -> None:
    with ThreadPoolExecutor(2) as pool:
        running_now = [pool.submit(ask, service.address, b"sleep 2", 20) for _ in range(2)]
        time.sleep(0.5)
        assert get(service.path, "/health")[0] == 200
        assert "federated_analytics_site_running 2" in get(service.path, "/metrics")[1]
        assert not any(r.done() for r in running_now)
        assert [r.result() for r in running_now] == [RELEASE] * 2


AS_NOBODY = """
import os, sys
from federated_analytics.errors import FederatedAnalyticsError
from federated_analytics.site_service.socket_client import ask
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    print(ask(sys.argv[1], b"peer", 5).decode())
except FederatedAnalyticsError as error:
    print(error)
"""


def _as_nobody(address: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", AS_NOBODY, address],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_only_named_users_come_in() -> None:
    # Not tmp_path: pytest keeps its folders from other users.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with running(folder) as service:
            assert "cannot be reached" in _as_nobody(service.address), "its mode is 0660"
            os.chmod(service.path, 0o666)
            assert "does not admit this system user" in _as_nobody(service.address)
            assert service.lines()[-1]["reason"] == "unknown_user"
            assert ask(service.address, b"peer", 5) == b"uid:0"
        with running(folder, users=["65534"]) as service:
            os.chmod(service.path, 0o666)
            assert _as_nobody(service.address) == "uid:65534\n"


def test_a_stopped_service_finishes_what_runs(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with running(tmp_path, limits={"concurrent": 1}) as service:
            with ThreadPoolExecutor(2) as pool:
                first = pool.submit(ask, service.address, b"sleep 1", 10)
                time.sleep(0.3)
                second = pool.submit(ask, service.address, b"sleep 1", 10)
                time.sleep(0.2)
                assert service.stop(number) == 0
                assert first.result() == RELEASE
                assert second.result() == refusal("site_busy"), "what waited is told so"
            assert not os.path.exists(service.path)
            assert service.lines()[-1]["event"] == "stopped"
            with pytest.raises(ConfigError, match="cannot be reached"):
                ask(service.address, b"hello", 5)


def test_a_stopped_service_does_not_wait_for_ever(tmp_path: Path) -> None:
    with running(tmp_path, limits={"stop_seconds": 1}) as service:
        caught: list[BaseException] = []

        def wait() -> None:
            try:
                ask(service.address, b"sleep 60", 30)
            except SiteFailed as error:
                caught.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.3)
        started = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - started < 5
        thread.join(5)
        assert len(caught) == 1


def test_a_killed_service_starts_again_and_a_second_one_does_not(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        with pytest.raises(AssertionError, match="Another service listens"), running(tmp_path):
            pass
        assert ask(service.address, b"hello", 5) == RELEASE
        service.stop(signal.SIGKILL)
        assert os.path.exists(service.path)
        with pytest.raises(ConfigError, match="cannot be reached"):
            ask(service.address, b"hello", 5)
    with running(tmp_path) as service:
        assert ask(service.address, b"hello", 5) == RELEASE


def test_a_file_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / "site.sock").write_text("mine")
    with pytest.raises(AssertionError, match="not a socket"), running(tmp_path):
        pass
    assert (tmp_path / "site.sock").read_text() == "mine"


def test_a_port_needs_its_token(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, other = tmp_path / "token", tmp_path / "other"
    token.write_text("a" * 64)
    other.write_text("b" * 64)
    for path in (token, other):
        path.chmod(0o600)
    address = f"http://127.0.0.1:{port}"
    with running(tmp_path, address=address, token_file=str(token)):
        assert ask(address, b"peer", 5, token) == b"loopback"
        with pytest.raises(ConfigError, match="does not know the token"):
            ask(address, b"peer", 5, other)
        for place in ("/health", "/metrics", "/info"):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", place)
            assert connection.getresponse().status == 401
            connection.close()
