"""A server that is down, slow, something else, or does not trust: one error that names it."""

from __future__ import annotations

import socket
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from federated_analytics.errors import ConfigError
from federated_analytics.fedmed.data import FedData
from federated_analytics.fedmed.errors import AskFailed
from federated_analytics.fedmed.remote import TOKEN_VARIABLE, HttpServer, Remote
from tests.fedmed.fake_site import FakeSite
from tests.fedmed.http_servers import Respond, certificate, serving

OCTETS = "application/octet-stream"


def answering(site: FakeSite, token: str = "") -> Respond:
    def respond(handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, str, bytes]:
        assert handler.path == "/answer"
        if token and handler.headers["authorization"] != f"Bearer {token}":
            return 401, "application/json", b"{}"
        return 200, OCTETS, site.answer(body)

    return respond


def always(status: int, kind: str, body: bytes) -> Respond:
    return lambda handler, request: (status, kind, body)


@pytest.fixture
def site() -> FakeSite:
    return FakeSite({"test array 1/2": {"x": [1, 2, 3]}})


def total(*ips: str, **given: object) -> float:
    sources = [Remote(ip, "test array 1/2", **given) for ip in ips]  # type: ignore[arg-type]
    return float(FedData(sources)["x"].sum())


def failure(*ips: str, **given: object) -> str:
    with pytest.raises(AskFailed) as caught:
        total(*ips, **given)
    text = str(caught.value)
    assert "'test array 1/2'" in text
    assert "data['x'].sum()" in text
    return text


def test_names_are_any_text(site: FakeSite) -> None:
    with serving(answering(site)) as one, serving(answering(site)) as two:
        assert total(one, two) == 12
        assert total(one + "/", two) == 12


def test_a_server_that_is_down(site: FakeSite) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        down = f"http://127.0.0.1:{free.getsockname()[1]}"
    with serving(answering(site)) as up:
        text = failure(up, down)
    assert "server_down" in text
    assert down in text
    assert up not in text
    assert "1 of 2 fragments" in text


def test_a_slow_server_and_that_servers_are_asked_at_once(site: FakeSite) -> None:
    def slow(handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, str, bytes]:
        time.sleep(0.6)
        return 200, OCTETS, site.answer(body)

    with serving(slow) as one, serving(slow) as two, serving(slow) as three:
        started = time.monotonic()
        assert total(one, two, three) == 18
        assert time.monotonic() - started < 1.5
        assert "no_answer" in failure(one, timeout=0.2)


def test_open_connections_are_asked_at_once_by_one_thread(
    site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = [0.0]

    def sometimes_slow(handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, str, bytes]:
        time.sleep(pauses[0])
        return 200, OCTETS, site.answer(body)

    with serving(sometimes_slow) as one, serving(sometimes_slow) as two:
        assert total(one, two) == 12  # opens a connection to each
        monkeypatch.setattr(HttpServer, "exchange", None)  # what would make one
        pauses[0] = 0.6
        started = time.monotonic()
        assert total(one, two) == 12
        assert time.monotonic() - started < 1.1
        pauses[0] = 1.5
        started = time.monotonic()
        text = failure(one, two, timeout=0.4)
        assert text.count("no_answer") == 2
        assert "within 0.4 s" in text
        assert time.monotonic() - started < 0.8  # the two wait together


def test_a_connection_that_was_closed_meanwhile_is_made_anew(site: FakeSite) -> None:
    """Before a request is sent, and after: what came of that is not known, so it is asked again."""
    drop = [False]

    def dropping(handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, str, bytes]:
        if drop[0]:
            drop[0] = False
            handler.connection.close()
        return 200, OCTETS, site.answer(body)

    with serving(dropping) as ip:
        assert total(ip) == 6
        drop[0] = True
        assert total(ip) == 6
        assert not drop[0]
        assert total(ip) == 6


def cut_short(handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, str, bytes]:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {OCTETS}\r\ncontent-length: 99\r\n\r\nabc"
    handler.wfile.write(head.encode())
    handler.connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionError


NO_ANSWER = pytest.mark.parametrize(
    ("respond", "code"),
    [
        (cut_short, "connection_lost"),
        (always(200, "text/html; charset=utf-8", b"<html>login</html>"), "not_fedmed"),
        (always(404, "text/html", b"<html>nothing</html>"), "not_fedmed"),
        (always(500, "text/html", b"<html>Traceback: secret</html>"), "server_failed"),
        (always(302, "text/html", b""), "server_failed"),
        (always(429, "application/json", b"{}"), "too_many_requests"),
        (always(413, "application/json", b"{}"), "too_large"),
        (always(200, OCTETS, b"not a release"), "invalid_message"),
        (always(200, OCTETS, b""), "invalid_message"),
        (always(200, OCTETS, bytes(9 * 2**20)), "too_large"),
    ],
)


@NO_ANSWER
def test_what_is_no_answer(respond: Respond, code: str) -> None:
    with serving(respond) as ip:
        text = failure(ip)
    assert f"[{code}]" in text
    assert "secret" not in text
    assert "<html>" not in text


@NO_ANSWER
def test_what_is_no_answer_on_an_open_connection(
    respond: Respond, code: str, site: FakeSite
) -> None:
    """And the connection is not used again: what is left of a reply is not the next one's."""
    now = [answering(site)]
    with serving(lambda handler, body: now[0](handler, body)) as ip:
        assert total(ip) == 6
        now[0] = respond
        text = failure(ip)
        now[0] = answering(site)
        assert total(ip) == 6
    assert f"[{code}]" in text
    assert "secret" not in text


@pytest.mark.parametrize("token", ["a b", "100%s", "%d", "a@b", "ü"])
def test_tokens_are_any_text_on_every_connection(token: str, site: FakeSite) -> None:
    heard: list[str | None] = []

    def listening(handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, str, bytes]:
        heard.append(handler.headers["authorization"])
        return 200, OCTETS, site.answer(body)

    with serving(listening) as ip:
        assert total(ip, token=token) + total(ip, token=token) == 12
    assert heard == 2 * [f"Bearer {token}"]


@pytest.mark.parametrize("token", ["a\r\nx-evil: 1", "a\nb", "𝄞"])
def test_a_token_that_no_header_holds_is_an_error(token: str, site: FakeSite) -> None:
    with serving(answering(site)) as ip:
        assert total(ip) == 6
        assert "server_failed" in failure(ip, token=token)


def test_tokens(site: FakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with serving(answering(site, "open sesame")) as ip:
        assert "wrong_token" in failure(ip)
        assert "hunter2" not in failure(ip, token="hunter2")
        assert total(ip, token="open sesame") == 6
        monkeypatch.setenv(TOKEN_VARIABLE, "open sesame")
        assert total(ip) == 6
    assert "sesame" not in repr(Remote("http://h", "f", token="sesame"))


def test_certificates(site: FakeSite, tmp_path: Path) -> None:
    good = certificate(tmp_path / "good.pem", (-1, 1))
    expired = certificate(tmp_path / "expired.pem", (-9, -1))
    with serving(answering(site), good) as ip:
        assert total(ip, certificates=str(good)) == 6
        assert "untrusted_certificate" in failure(ip)
    with serving(answering(site), expired) as ip:
        text = failure(ip, certificates=str(expired))
        assert "untrusted_certificate" in text
        assert "expired" in text
    with serving(answering(site)) as ip:
        assert "[no_tls]" in failure(ip.replace("http", "https"))


def test_remotes_that_cannot_be() -> None:
    for given in (
        {"fragment": "f"},
        {"ip": "127.0.0.1:80", "fragment": "f"},
        {"ip": "ftp://h", "fragment": "f"},
        {"site": "a", "fragment": "f"},
        {"ip": "http://h", "site": "a", "superlink": "s", "fragment": "f"},
        {"ip": "http://h", "fragment": "f", "certificates": "/nowhere.pem"},
    ):
        with pytest.raises(ConfigError):
            Remote(**given)
    assert Remote(site="a", fragment="f", superlink="local-deployment").server == "a"
