"""A FedMed server as a hostile or unlucky client meets it, under waitress and gunicorn."""

from __future__ import annotations

import base64
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from federated_analytics import fedmed as fm
from federated_analytics import wire
from federated_analytics.cli import app as cli
from federated_analytics.errors import ConfigError
from federated_analytics.fedmed.expression import Apply, Column, Constant, Filter
from federated_analytics.fedmed.pages import PAGES
from federated_analytics.fedmed.protocol import Ask, Asks
from federated_analytics.fedmed.server import MAX_REQUEST_BYTES
from federated_analytics.fedmed.versions_folder import made_once
from federated_analytics.messages import Request
from tests.fedmed.servers import EXACT, served
from tests.site_service.browser import CHROMIUM, browsing

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


def test_a_table_is_counted(server: tuple[fm.Server, str]) -> None:
    """Columns of one length have one; of others it is not one number."""
    data = remote(server[1])
    assert data.len() == len(data) == 4
    assert data[data["a"] > 1].len() == 3
    with pytest.raises(Exception, match=r"different lengths.*other_rows"):
        float(remote(server[1], HOSTILE).len())


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
import sys
from federated_analytics import fedmed as fm
server = fm.Server(CONFIG)
server["rows"] = {"x": [float(i) for i in range(1000)]}
app = server.app
print("server started", file=sys.stderr, flush=True)
"""


@contextmanager
def gunicorn(
    folder: Path, root: Path, config: str, workers: int
) -> Iterator[tuple[str, Callable[[], str]]]:
    """The address of the program above under gunicorn; what it wrote, once it has ended."""
    (folder / "hospital.py").write_text(APP.replace("CONFIG", config))
    command = [sys.executable, "-m", "gunicorn", "hospital:app", "--bind", "127.0.0.1:0"]
    path = os.pathsep.join([str(folder), str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "FEDMED_TOKEN": ""}
    said = folder / "said.txt"
    with (
        said.open("w") as writing,
        subprocess.Popen(
            [*command, "--workers", str(workers)], cwd=folder, env=environment, stderr=writing
        ) as process,
    ):
        try:
            limit, found = time.monotonic() + 60, None
            while found is None or len(re.findall("server started", said.read_text())) < workers:
                assert time.monotonic() < limit, said.read_text()
                time.sleep(0.1)
                found = re.search(r"Listening at: (http://[\d.:]+)", said.read_text())
            yield found[1], said.read_text
        finally:
            process.terminate()


def test_under_gunicorn(tmp_path: Path, root: Path) -> None:
    with gunicorn(tmp_path, root, 'tokens=["t"]', 1) as (address, _):
        assert float(remote(address, token="t")["x"].mean()) == 499.5


def test_several_processes_without_a_folder_refuse_and_say_what_to_do(
    tmp_path: Path, root: Path
) -> None:
    """Each would know only a part of what was asked: half of the rules would be got round."""
    with gunicorn(tmp_path, root, 'tokens=["t"]', 2) as (address, said):
        for _ in range(6):
            with pytest.raises(fm.AskFailed, match=r'several_processes.*state="state"'):
                float(remote(address, token="t")["x"].mean())
            page = httpx.get(address, headers={"authorization": "Bearer t"})
            assert page.status_code == 503
            assert "state=&quot;state&quot;" in page.text
        assert httpx.get(f"{address}/health").status_code == 200
        assert 1 <= said().count("every request is refused") <= 2  # once for each process


def test_several_processes_share_a_folder(tmp_path: Path, root: Path) -> None:
    """One token, one noise, one memory: rows that one process was asked of, all compare with."""
    noisy = '{"privacy": [{"policy": "fedmed.privacy.Noise", "params": {"value": 1e6}}]}'
    with gunicorn(tmp_path, root, f'{noisy}, state="state"', 3) as (address, said):
        file = tmp_path / "state" / "fedmed.token"
        assert file.stat().st_mode & 0o777 == 0o600
        token = file.read_text()
        printed = set(re.findall(r"clients need the token (\S+)", said()))
        assert printed == {token}
        totals, codes = set(), []
        for i in range(30):
            with httpx.Client(headers={"authorization": f"Bearer {token}"}) as client:
                totals.add(total_of(client, address, 500))
                codes.append(total_of(client, address, 501 + i % 3))
        assert len(totals) == 1
        assert codes == ["overlapping_population"] * 30
    known = httpx.Client(headers={"authorization": f"Bearer {token}"})
    with gunicorn(tmp_path, root, f'{noisy}, state="state"', 1) as (address, _), known as client:
        assert {total_of(client, address, 500)} == totals
        assert total_of(client, address, 503) == "overlapping_population"
    verified = CliRunner().invoke(cli, ["site", "audit", "verify", str(tmp_path / "state")])
    assert "62 lines, whole and in order" in verified.output


def total_of(client: httpx.Client, address: str, least: int) -> float | str:
    """The sum of rows from a value on, asked over a connection of its own; or why there is none."""
    x = Column(("x",))
    mask = Apply("ge", (x, Constant(least)))
    body = asked(Asks((Ask("rows", "sum", (Filter(x, mask),)),)).to_json())
    answer = client.post(f"{address}/answer", content=body, timeout=60)
    [found] = wire.decode_release(answer.content).answers
    if found.refusal is not None:
        return found.refusal.code
    return found.cells[0].value.total  # type: ignore[attr-defined,no-any-return]


def test_two_that_start_at_once_agree(tmp_path: Path) -> None:
    """On the token and on the secret: the file appears whole, and once."""
    gate = threading.Barrier(8)

    def start(number: int) -> tuple[bytes, bytes]:
        gate.wait(60)
        names = ("fedmed.token", "fedmed.secret")
        made = [made_once(tmp_path / name, bytes([number]) * 32) for name in names]
        return made[0], made[1]

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(start, range(8)))
    assert len(found) == 1
    assert {len(part) for part in found.pop()} == {32}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fedmed.secret", "fedmed.token"]


def test_a_broken_secret_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "fedmed.secret").write_bytes(b"")
    with pytest.raises(ConfigError, match="not whole"):
        fm.Server(state=tmp_path)


K_1 = {"policy": "fedmed.privacy.Anonymity", "params": {"k": 1}}
NOISE = {"policy": "fedmed.privacy.Noise", "params": {"value": 1}}


def test_what_the_owner_must_know_is_said_at_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEDMED_TOKEN", raising=False)
    exact = {"methods": {"max": {"map": "fedmed.ops.private.max", "exact": True}}}
    cases: list[tuple[dict[str, Any], str, bool]] = [
        ({}, "A restart forgets what was asked", True),
        ({"state": tmp_path / "state"}, "A restart forgets", False),
        ({"config": EXACT}, "A restart forgets", False),
        ({"config": {"privacy": [K_1]}}, "A restart forgets", False),
        ({"config": {"privacy": [K_1, NOISE]}}, "A restart forgets", True),
        ({"config": EXACT}, "switched off", True),
        ({"config": exact}, "The exact max of every column leaves", True),
        ({}, "clients need the token", True),
        ({"tokens": ["t"]}, "clients need the token", False),
    ]
    for named, said, is_said in cases:
        fm.Server(**named)
        out, errors = capsys.readouterr()
        assert out == ""
        assert (said in errors) == is_said, (named, errors)


# Status pages


def basic(password: str, user: str = "anybody") -> dict[str, str]:
    given = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"authorization": f"Basic {given}"}


def test_a_browser_asks_for_the_token_and_shows_the_pages(server: tuple[fm.Server, str]) -> None:
    asked_for = httpx.get(server[1]).headers.get_list("www-authenticate")
    assert asked_for == ['Basic realm="fedmed"', "Bearer"]  # in one line Chromium asks nobody
    for user in ("", "owner", "a user"):
        assert httpx.get(server[1], headers=basic("second", user)).status_code == 200
    for header in (basic("third"), basic(""), basic("first:"), {"authorization": "Basic !"}):
        assert httpx.get(server[1], headers=header).status_code == 401
    assert httpx.get(server[1], headers={"authorization": "first"}).status_code == 401
    assert httpx.get(server[1], headers={"authorization": "bearer first"}).status_code == 200


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_pages_in_a_browser(server: tuple[fm.Server, str], tmp_path: Path) -> None:
    """A password lets in; every page of the navigation is shown, without an error."""
    with browsing(tmp_path) as page:
        page.open(server[1].replace("http://", "http://anybody:first@"))
        links = page.value("[...document.querySelectorAll('nav a')].map(a => a.href)")
        assert len(links) == len(PAGES)
        for link in links:
            page.open(link)
            shown = str(page.value("document.body.innerText"))
            assert HOSTILE in shown  # the server's name, as text
            assert "Configuration" in shown
        assert page.value("document.querySelectorAll('script').length") == 0
        said = [text for text in page.said if "401" not in text and "favicon" not in text]
        assert said == []


def test_a_page_elsewhere_cannot_ask_with_a_browsers_password(
    server: tuple[fm.Server, str],
) -> None:
    """Browsers send a password to wherever a form leads; only a header of one's own may ask."""
    answer = httpx.post(f"{server[1]}/answer", content=asked("{}"), headers=basic("first"))
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_pages_show_policies_methods_and_what_waits(tmp_path: Path) -> None:
    config = {
        "privacy": [
            {"policy": "fedmed.privacy.Noise", "params": {"value": 4, "filter": ["*.<b>()"]}},
            {"policy": "fedmed.privacy.NewSamples", "params": {"min": 3}},
            {"policy": "fedmed.privacy.Noise", "params": {"value": 9}},
        ],
        "methods": {
            "max": {"map": "fedmed.ops.private.max", "exact": True},
            "adults": {"map": "tests.fedmed.own_functions.adults"},
            "squared": "tests.fedmed.own_functions.squared",
        },
    }
    owned = fm.Server(config, tokens=["t"], state=tmp_path)
    owned["visits"] = {"bill": [1731.5] * 77}
    client = owned.app.test_client()

    def page(path: str) -> str:
        return client.get(path, headers=basic("t")).text

    first = page("/")
    for path, name in (("/ops", "Operations"), ("/config", "Configuration"), ("/data", "Data")):
        assert f'<a href="{path}">{name}</a>' in first
    policies = page("/policies")
    assert policies.index("value: 4.0") < policies.index("min: 3") < policies.index("value: 9.0")
    assert "*.&lt;b&gt;()" in policies
    assert "exact max of every column" in policies
    whole = page("/config")
    for text in ("value: 9.0", "releases Count", "a value for each row", "min_count"):
        assert text in whole
    assert "<td>visits</td><td>[&#x27;bill&#x27;]</td><td>number</td><td>1</td><td>no</td>" in page(
        "/data"
    )
    owned["visits"].append({"bill": [1.0]})
    data = page("/data")
    assert "<td>1</td><td>yes</td>" in data
    assert "77" not in data
    assert "1731" not in data
