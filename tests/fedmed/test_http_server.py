"""A FedMed server as a hostile or unlucky client meets it, under waitress and gunicorn."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federated_analytics import fedmed as fm
from federated_analytics import wire
from federated_analytics.fedmed.pages import PAGES
from federated_analytics.fedmed.server import MAX_REQUEST_BYTES
from federated_analytics.messages import Request
from tests.fedmed.servers import EXACT, served

HOSTILE = "<script>alert(1)</script>\"'&' OR 1=1; --"
ROWS = {"a": [1.0, 2.0, 3.0, 4.0], "bill": [1731.5] * 4, "sex": ["f", "m", "f", "m"]}


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[fm.Server, str]]:
    made = fm.Server(config=EXACT, tokens=["first", "second"], name=HOSTILE)
    made["rows"] = ROWS
    made[HOSTILE] = {HOSTILE: [1, 2, 3], "b": [4, 5]}
    with served(made) as address:
        yield made, address


def remote(address: str, name: str = "rows", token: str = "first") -> fm.FedData:
    return fm.FedData([fm.Remote(address, name, token=token)])


def posted(address: str, body: bytes, token: str = "first") -> httpx.Response:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx.post(f"{address}/answer", content=body, headers=headers, timeout=60)


def asked(text: str) -> bytes:
    return wire.encode_request(Request(text, 1, "", 60.0, "fedmed"))


@pytest.mark.parametrize("token", ["", "wrong", "firs", "firstt", "Bearer first"])
def test_who_has_no_token_learns_nothing(server: tuple[fm.Server, str], token: str) -> None:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    for path in PAGES:
        page = httpx.get(server[1] + path, headers=headers)
        assert page.status_code == 401
        assert "rows" not in page.text
    assert posted(server[1], b"", token).status_code == 401


def test_each_token_is_let_in_and_health_needs_none(server: tuple[fm.Server, str]) -> None:
    assert httpx.get(f"{server[1]}/health").json() == {"status": "ok"}
    for token in ("first", "second"):
        assert float(remote(server[1], token=token)["a"].mean()) == 2.5


@pytest.mark.parametrize("path", PAGES)
def test_pages_load_nothing_and_run_nothing(server: tuple[fm.Server, str], path: str) -> None:
    page = httpx.get(server[1] + path, headers={"authorization": "Bearer first"})
    assert page.status_code == 200
    assert "<script" not in page.text
    assert not re.search(r"""(src|href|action)=["']?(https?:)?//""", page.text)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "1731" not in page.text


def test_a_request_of_100_mb_is_refused(server: tuple[fm.Server, str]) -> None:
    piece = bytes(2**20)
    answer = httpx.post(
        f"{server[1]}/answer",
        content=(piece for _ in range(100)),
        headers={"authorization": "Bearer first", "content-length": str(100 * 2**20)},
        timeout=60,
    )
    assert MAX_REQUEST_BYTES < 100 * 2**20
    assert answer.status_code == 413


def test_too_many_requests_are_told_when_to_come_back() -> None:
    busy = fm.Server(config=EXACT, tokens=["t"], requests_a_minute=3)
    client = busy.app.test_client()
    answers = [client.get("/", headers={"authorization": "Bearer t"}) for _ in range(5)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].headers["retry-after"] == "1"


NESTED = {
    "one operand": ('["apply","neg",', "]"),
    "the first of two": ('["apply","add",', ',["constant",1]]'),
    "the second of two": ('["apply","mul",["constant",1],', "]"),
    "filtered rows": ('["filter",', ',["apply","gt",["column","","a"],["constant",0]]]'),
    "a filter's mask": ('["filter",["column","","a"],', "]"),
    "an owner's operation": ('["apply","mine",', "]"),
}
"""What stands before and after the part of an expression that is below."""


@pytest.mark.parametrize("depth", [200, 5_000, 100_000])
@pytest.mark.parametrize("node", NESTED)
def test_deep_nesting_is_an_answer_and_not_the_end(
    server: tuple[fm.Server, str], node: str, depth: int
) -> None:
    head, tail = NESTED[node]
    nested = head * depth + '["column","","a"]' + tail * depth
    for rows, by in ((nested, ""), ('["column","","a"]', nested)):
        ask = f'{{"fragment":"rows","op":"sum","rows":[{rows}],"by":[{by}],"params":{{}}}}'
        answer = posted(server[1], asked('{"asks":[' + ask + "]}"))
        assert answer.status_code == 200
        told = wire.decode_release(answer.content)
        assert told.refusal is not None
        assert told.refusal.code == "invalid_message"
    assert float(remote(server[1])["a"].sum()) == 10.0


@pytest.mark.parametrize("node", NESTED)
def test_what_is_not_too_deep_is_read(server: tuple[fm.Server, str], node: str) -> None:
    """The same forms, so that those above are refused for their depth and nothing else."""
    head, tail = NESTED[node]
    rows = f'{head}["column","","a"]{tail}'
    ask = f'{{"fragment":"rows","op":"len","rows":[{rows}],"by":[],"params":{{}}}}'
    told = wire.decode_release(posted(server[1], asked('{"asks":[' + ask + "]}")).content)
    assert told.refusal is None
    refusal = told.answers[0].refusal
    if node in ("a filter's mask", "an owner's operation"):  # of numbers, and not of this server
        assert refusal is not None
        assert refusal.code in ("wrong_kind", "unknown_operation")
    else:
        assert refusal is None


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.text(max_size=200).map(asked)))
def test_whatever_comes_is_refused_by_name(server: tuple[fm.Server, str], body: bytes) -> None:
    told = wire.decode_release(posted(server[1], body).content)
    assert told.refusal is not None
    assert told.refusal.code
    assert "Traceback" not in str(told)


def test_hostile_names_are_names(server: tuple[fm.Server, str]) -> None:
    data = remote(server[1], HOSTILE)
    assert float(data[HOSTILE].sum()) == 6.0
    assert "<script" not in data._repr_html_()


def test_what_is_not_there_is_named(server: tuple[fm.Server, str]) -> None:
    data = remote(server[1])
    with pytest.raises(Exception, match=r"(?s)ages.*\['a'\]"):
        float(data["ages"].mean())
    with pytest.raises(Exception, match=r"(?i)text"):
        float(data["sex"].mean())
    with pytest.raises(TypeError):
        float((data["a"] + object()).mean())


def test_a_mask_of_another_length_is_refused(server: tuple[fm.Server, str]) -> None:
    other = remote(server[1], HOSTILE)
    with pytest.raises(Exception, match=r"rows|fragments|length"):
        float(remote(server[1])["a"][other["b"] > 4].sum())


def test_a_division_by_zero_is_missing(server: tuple[fm.Server, str]) -> None:
    a = remote(server[1])["a"]
    ratio = a / (a - 2)
    assert float(ratio.sum()) == 1 / -1 + 3 / 1 + 4 / 2
    assert "1 missing" in repr(ratio.sum())


def test_no_number_makes_an_answer_fail(server: tuple[fm.Server, str]) -> None:
    """Beyond 1e140, a square's square is no double: such numbers count as missing, as in SQL."""
    server[0]["large"] = {
        "x": [1e300, -1e300, 1e141, 2.0, 3.0, 1e140, float("inf")],
        "y": [2.0] * 7,
    }
    data = remote(server[1], "large")
    x, y = data["x"], data["y"]
    assert (x.count_missing(), x.max()) == (4, 1e140)
    assert float(x[x < 10].std()) == pytest.approx(0.5**0.5)
    for rows in (x, x * 1e200, x**100, x / 1e-200, y**x, (x * x) * (x * x), x - 1e139):
        for value in (rows.sum(), rows.mean(), rows.std(), rows.sqsum(), rows.max(), rows.median()):
            assert float(value) < float("inf") or math.isnan(value)
        assert abs(float(fm.stats.corr(rows, y + x))) <= 1 or math.isnan(fm.stats.corr(rows, y + x))
    assert x.sqsum() == 13  # the square of 1e140 is beyond


def test_an_answer_is_of_one_version() -> None:
    """A fragment that is replaced all the while: a sum and a count belong together."""
    changing = fm.Server(config=EXACT, tokens=["t"])
    versions = ([1.0] * 100, [3.0] * 200)
    changing["x"] = versions[0]
    over = threading.Event()

    def replace() -> None:
        turn = 0
        while not over.is_set():
            turn += 1
            changing["x"] = versions[turn % 2]
            time.sleep(0.002)

    thread = threading.Thread(target=replace)
    with served(changing) as address:
        thread.start()
        try:
            seen = set()
            for _ in range(40):
                data = remote(address, "x", "t")
                with fm.Batch():
                    total, rows = data.sum(), data.len()
                seen.add((float(total), int(rows)))
        finally:
            over.set()
            thread.join()
    assert seen <= {(100.0, 100), (600.0, 200)}


def test_two_hundred_clients_at_once(server: tuple[fm.Server, str]) -> None:
    gate = threading.Barrier(200)

    def ask(number: int) -> float:
        gate.wait(60)
        return float((remote(server[1])["a"] * number).sum())

    with ThreadPoolExecutor(200) as pool:
        assert list(pool.map(ask, range(200))) == [10.0 * number for number in range(200)]


def test_a_client_that_is_told_to_wait_comes_back() -> None:
    """Each ask is sent once more after a pause, and answered; without an end of it, it says so."""
    busy = fm.Server(config=EXACT, tokens=["t"])
    busy["x"] = [1.0, 2.0]
    refused = iter([True, True])
    take = busy._rate.take
    busy._rate.take = lambda: not next(refused, False) and take()  # type: ignore[method-assign]
    with served(busy) as address:
        data = remote(address, "x", "t")
        assert float(data.sum()) == 3.0
        busy._rate.take = lambda: False  # type: ignore[method-assign]
        with pytest.raises(Exception, match=r"too_many_requests"):
            float((data + 1).sum())


APP = """
from federated_analytics import fedmed as fm
server = fm.Server(tokens=["t"])
server["rows"] = {"x": [float(i) for i in range(1000)]}
app = server.app
"""


def test_under_gunicorn(tmp_path: Path) -> None:
    (tmp_path / "hospital.py").write_text(APP)
    command = [sys.executable, "-m", "gunicorn", "hospital:app", "--bind", "127.0.0.1:0"]
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH", "")])])
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            address = next(
                found[1]
                for line in process.stderr
                if (found := re.search(r"Listening at: (http://[\d.:]+)", line))
            )
            assert float(remote(address, token="t")["x"].mean()) == 499.5
        finally:
            process.terminate()
