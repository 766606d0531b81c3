"""What the ClientApp says when its site service is absent, or is something else."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from federated_analytics.errors import ConfigError, SiteFailed
from federated_analytics.site_service.address import Address
from federated_analytics.site_service.metrics import Metrics
from federated_analytics.site_service.socket_client import MAX_RELEASE_BYTES, ask

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"


@contextmanager
def _saying(path: Path, said: bytes, seconds: float = 0.0) -> Iterator[str]:
    """A socket that reads once, waits, says `said` and closes."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()

    def answer() -> None:
        opened, _ = listener.accept()
        with opened:
            opened.recv(65_536)
            time.sleep(seconds)
            try:
                opened.sendall(said)
            except BrokenPipeError:
                return  # the client has given up: what this test wants

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    yield f"unix:{path}"
    thread.join(5)
    listener.close()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"hello\r\n\r\n",
        b"\x00" * 1_000,
        b"HTTP/1.1 500 Failed\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<h1>hello</h1>",
        OK + b"\r\n",
        OK + b"Content-Length: 10\r\n\r\nabc",
        OK + b"\r\n" + bytes(MAX_RELEASE_BYTES + 1),
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500,
    ],
    ids=lambda said: repr(said[:60]),
)
def test_an_answer_that_is_none(tmp_path: Path, said: bytes) -> None:
    with _saying(tmp_path / "s", said) as address, pytest.raises(SiteFailed):
        ask(address, b"hello", 5)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_service_that_refuses_says_what_to_write(tmp_path: Path, status: int) -> None:
    with (
        _saying(tmp_path / "s", b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status) as address,
        pytest.raises(ConfigError) as caught,
    ):
        ask(address, b"hello", 5)
    assert caught.value.remedy


def test_a_service_that_is_silent(tmp_path: Path) -> None:
    started = time.monotonic()
    with _saying(tmp_path / "s", OK, seconds=1.0) as address, pytest.raises(SiteFailed):
        ask(address, b"hello", 0.3)
    assert time.monotonic() - started < 3


def test_no_service(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stale.bind(str(tmp_path / "stale"))
    stale.close()
    for name in ("absent", "file", "stale"):
        with pytest.raises(ConfigError, match="cannot be reached") as caught:
            ask(f"unix:{tmp_path / name}", b"hello", 1)
        assert str(tmp_path) not in str(caught.value), "a path stays at the site"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unix:",
        "unix:" + "a" * 200,
        "unix:a\0b",
        "/run/site.sock",
        "http://example.org:80",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:80@example.org",
        "https://127.0.0.1:80",
        "0.0.0.0:80",
    ],
)
def test_an_address_is_a_socket_or_a_loopback_port(text: str) -> None:
    with pytest.raises(ConfigError):
        Address.parse(text)


def test_a_token_is_long_and_not_for_everybody(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(ConfigError, match="needs a token"):
        Address.parse("127.0.0.1:80")
    with pytest.raises(ConfigError, match="cannot be read"):
        Address.parse("127.0.0.1:80", path)
    path.write_text("a" * 64 + "\n")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="Everybody"):
        Address.parse("127.0.0.1:80", path)
    path.chmod(0o640)
    assert Address.parse("127.0.0.1:80", path).token == "a" * 64
    assert "aaa" not in repr(Address.parse("127.0.0.1:80", path))
    for text in ("short", "a b" * 30, "é" * 64):
        path.write_text(text)
        with pytest.raises(ConfigError):
            Address.parse("127.0.0.1:80", path)


def test_the_client_starts_light() -> None:
    code = (
        "import sys; import federated_analytics.site_service.socket_client; "
        "print([m for m in ('fastapi', 'uvicorn', 'sqlalchemy', 'pandas', 'cryptography') "
        "if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_metrics_have_bounded_labels() -> None:
    metrics = Metrics()
    for code in ("released", "budget_spent", 'x"} 1\nevil', "é", "a" * 1_000):
        metrics.answered(code, 0.2)
        metrics.turn_away(code)
    text = metrics.text()
    assert 'requests_total{decision="other"} 3' in text
    assert "evil" not in text
    assert 'seconds_bucket{le="0.1"} 0' in text
    assert 'seconds_bucket{le="0.5"} 5' in text
    assert "seconds_sum 1.000000" in text
