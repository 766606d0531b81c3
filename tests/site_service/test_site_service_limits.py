"""What a site service takes, from whom, and for how long: the attacks on it by bytes."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from federated_analytics.errors import ConfigError
from federated_analytics.site_service.socket_client import MAX_BODY_BYTES, ask
from tests.site_service.fake_service import (
    RELEASE,
    Running,
    get,
    post,
    raw,
    refusal,
    running,
    said_to,
    until,
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = {"concurrent": 2, "queue": 2, "read_seconds": 1.0, "keep_alive_seconds": 1}
    limits["bodies_bytes"] = 2 * MAX_BODY_BYTES
    with running(tmp_path_factory.mktemp("service"), limits=limits) as service:
        yield service


def test_what_is_too_large_is_refused_before_it_is_sent(service: Running) -> None:
    for length in (MAX_BODY_BYTES + 1, 10**15):
        said = said_to(service.path, post(f"Content-Length: {length}"))
        assert said.startswith(b"HTTP/1.1 413"), length
    pieces = (b"10000\r\n" + bytes(0x10000) + b"\r\n") * (2 * MAX_BODY_BYTES // 0x10000)
    with (
        raw(service.path, post("Transfer-Encoding: chunked")) as opened,
        pytest.raises((BrokenPipeError, ConnectionResetError)),
    ):
        opened.sendall(pieces)
    with pytest.raises(ConfigError, match="at most"):
        ask(service.address, bytes(MAX_BODY_BYTES + 1), 5)
    assert ask(service.address, bytes(MAX_BODY_BYTES), 5) == RELEASE


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x00" * 100, b"400"),
        (b"GET / HTTP/x\r\n\r\n", b"400"),
        (post(f"Content-Length: {10**30}"), b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100_000, b"400"),
        (post("Content-Length: -1"), b"400"),
        (post("Content-Length: 1\r\nContent-Length: 2", b"ab"), b"400"),
        (post("Content-Length: 2\r\nTransfer-Encoding: chunked", b"zz\r\n"), b"400"),
        (b"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na", b"415"),
    ],
)
def test_malformed_requests(service: Running, data: bytes, status: bytes) -> None:
    said = b""
    with raw(service.path) as opened:
        try:
            opened.sendall(data)
            while piece := opened.recv(65_536):
                said += piece
        except (BrokenPipeError, ConnectionResetError):
            said = said or b"HTTP/1.1 400"  # closed while more was sent: refused as well
    assert said.startswith(b"HTTP/1.1 " + status), said[:80]
    assert ask(service.address, b"hello", 5) == RELEASE


def _is_closed_after_a_byte(opened: socket.socket, byte: bytes) -> bool:
    try:
        opened.sendall(byte)
        return opened.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except (BrokenPipeError, ConnectionResetError):
        return True


@pytest.mark.parametrize(
    "start",
    [b"", b"POST /answer HTTP/1.1\r\nHos", post("Content-Length: 100", b"a")],
    ids=["silent", "in the head", "in the body"],
)
def test_a_slow_client_is_cut_off(service: Running, start: bytes) -> None:
    started = time.monotonic()
    with raw(service.path, start) as opened:
        until(lambda: _is_closed_after_a_byte(opened, b"a" if start else b""))
    assert 0.8 < time.monotonic() - started < 3


def test_an_open_connection_serves_several_requests_and_is_closed_when_idle(
    service: Running,
) -> None:
    request = post("Content-Length: 5", b"hello")
    with raw(service.path) as opened:
        for _ in range(3):
            opened.sendall(request)
            response = http.client.HTTPResponse(opened)
            response.begin()
            assert response.read() == RELEASE
        started = time.monotonic()
        assert opened.recv(1) == b""
        assert 0.5 < time.monotonic() - started < 3


def test_a_thousand_connections_starve_nobody(service: Running) -> None:
    opened = [raw(service.path, b"POST /answer HTT") for _ in range(1_000)]
    try:
        started = time.monotonic()
        assert ask(service.address, b"hello", 5) == RELEASE
        assert time.monotonic() - started < 2
        _, text = get(service.path, "/metrics")
        assert 'turned_away_total{reason="too_many_connections"}' in text
    finally:
        for one in opened:
            one.close()
    until(lambda: "federated_analytics_site_connections 1\n" in get(service.path, "/metrics")[1])


def test_requests_that_are_held_have_a_bound_together(service: Running) -> None:
    most = post(f"Content-Length: {MAX_BODY_BYTES}", bytes(MAX_BODY_BYTES - 1))
    with raw(service.path, most), raw(service.path, most):
        time.sleep(0.1)
        assert ask(service.address, bytes(1_000), 5) == refusal("site_busy")
    until(lambda: ask(service.address, bytes(1_000), 5) == RELEASE)
