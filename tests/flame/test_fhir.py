"""FHIR queries against a real server over HTTP: paging, faults, tokens, and no way out."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from federated_analytics.flame.data_sources import DataSources, Source
from federated_analytics.flame.fhir import OutsideSource

PATIENTS = [
    {"resourceType": "Patient", "id": f"p{i}", "gender": ("female", "male")[i % 2]}
    for i in range(23)
]
PAGE = 5


def fhir_app(seen: list[dict[str, str]]) -> Any:
    """A FHIR server as HL7's search rules describe it, and some that are broken."""
    app = FastAPI()

    def bundle(request: Request, found: list[dict[str, str]], page: int) -> dict[str, Any]:
        links = [{"relation": "self", "url": str(request.url)}]
        if (page + 1) * PAGE < len(found):
            following = request.url.include_query_params(page=page + 1)
            links.append({"relation": "next", "url": str(following)})
        entries = [{"resource": each} for each in found[page * PAGE : (page + 1) * PAGE]]
        return {
            "resourceType": "Bundle",
            "type": "searchset",
            "total": len(found),
            "link": links,
            "entry": entries,
        }

    @app.get("/fhir/Patient")
    async def patients(request: Request, gender: str = "", page: int = 0) -> Any:
        seen.append(dict(request.headers))
        found = [each for each in PATIENTS if not gender or each["gender"] == gender]
        if request.query_params.get("_summary") == "count":
            return {"resourceType": "Bundle", "type": "searchset", "total": len(found)}
        if request.query_params.get("relative"):
            answer = bundle(request, found, page)
            for link in answer["link"]:
                link["url"] = link["url"].rpartition("/")[2]
            return answer
        return bundle(request, found, page)

    @app.get("/fhir/Patient/{id}")
    async def one(id: str) -> Any:
        return next(each for each in PATIENTS if each["id"] == id)

    @app.get("/fhir/Broken/{kind}")
    async def broken(request: Request, kind: str, page: int = 0) -> Any:
        own = str(request.url).partition("?")[0]
        following = {
            "loop": own,
            "endless": f"{own}?page={page + 1}",
            "elsewhere": "http://evil.example/fhir/Patient?page=2",
            "outside": own.partition("/fhir")[0] + "/admin",
            "nonsense": "http://[",
        }.get(kind)
        if following:
            link = [{"relation": "next", "url": following}]
            return {"resourceType": "Bundle", "entry": [{"n": page}], "link": link}
        if kind == "html":
            return HTMLResponse("<html>Please log in, secret-host</html>")
        if kind == "list":
            return JSONResponse([1, 2])
        if kind == "redirect":
            return RedirectResponse("/admin")
        if kind == "silent":
            await asyncio.sleep(30)
        if kind == "second-page":
            if page:
                return Response(status_code=500)
            link = [{"relation": "next", "url": f"{own}?page=1"}]
            return {"resourceType": "Bundle", "entry": [{}], "link": link}
        return Response("secret-host is down", status_code=int(kind))

    @app.get("/admin")
    async def admin() -> Any:
        return {"secret": True}

    return app


class Server:
    """A uvicorn on a free loopback port, in a thread."""

    def __init__(self, app: Any) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        config = uvicorn.Config(
            app, log_level="error", lifespan="off", ws="none", timeout_graceful_shutdown=1
        )
        self.server = uvicorn.Server(config)
        run = {"sockets": [self.socket]}
        self.thread = threading.Thread(target=self.server.run, kwargs=run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)


SEEN: list[dict[str, str]] = []


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    server = Server(fhir_app(SEEN))
    yield f"http://127.0.0.1:{server.port}/fhir"
    server.stop()


class Node:
    """A node's sources with what they logged."""

    def __init__(self, *entries: dict[str, Any], **options: Any) -> None:
        self.logged: list[tuple[str, str]] = []
        found = [
            Source.model_validate({"id": f"fhir-{i}", "type": "fhir", **entry})
            for i, entry in enumerate(entries)
        ]
        self.sources = DataSources(
            found, log=lambda level, text: self.logged.append((level, text)), **options
        )


def test_the_document_s_own_query(base: str) -> None:
    answers = Node({"url": base}).sources.fhir(["Patient?_summary=count"])
    assert answers == [
        {"Patient?_summary=count": {"resourceType": "Bundle", "type": "searchset", "total": 23}}
    ]


@pytest.mark.parametrize("slash", ["", "/"])
def test_paging_is_followed_to_the_end(base: str, slash: str) -> None:
    query = "Patient?_count=5"
    node = Node({"url": base + slash})
    [answer] = node.sources.fhir([query]) or []
    assert [entry["resource"] for entry in answer[query]["entry"]] == PATIENTS
    assert answer[query]["total"] == 23
    assert [link["relation"] for link in answer[query]["link"]] == ["self"]
    assert node.logged == []


def test_relative_links_are_followed(base: str) -> None:
    query = "Patient?relative=1&gender=male"
    [answer] = Node({"url": base}).sources.fhir([query]) or []
    found = [entry["resource"]["id"] for entry in answer[query]["entry"]]
    assert found == [each["id"] for each in PATIENTS if each["gender"] == "male"]


def test_one_dictionary_a_server_with_the_queries_as_keys(base: str) -> None:
    queries = ["Patient?gender=female&_summary=count", "/Patient/p3", "Patient/p4"]
    answers = Node({"url": base}, {"url": base}).sources.fhir(queries)
    assert answers is not None
    assert len(answers) == 2
    for answer in answers:
        assert list(answer) == queries
        assert answer[queries[0]]["total"] == 12
        assert answer[queries[1]] == PATIENTS[3]


@pytest.mark.parametrize("queries", [None, []])
def test_no_query_is_none(base: str, queries: list[str] | None) -> None:
    assert Node({"url": base}).sources.fhir(queries) is None


def test_a_node_without_a_server_gives_no_dictionary() -> None:
    assert Node().sources.fhir(["Patient"]) == []


FAULTS = [
    "Broken/500",
    "Broken/404",
    "Broken/204",
    "Broken/html",
    "Broken/list",
    "Broken/redirect",
    "Broken/silent",
    "Broken/loop",
    "Broken/elsewhere",
    "Broken/outside",
    "Broken/nonsense",
    "Broken/second-page",
    "http://evil.example/Patient",
    "//evil.example/Patient",
    "../admin",
    "%2e%2e/admin",
    "Patient/../../admin",
    "",
    "http://[",
]


@pytest.mark.parametrize("query", FAULTS)
def test_a_query_that_fails_loses_only_its_own_key(base: str, query: str) -> None:
    node = Node({"url": base, "headers": {"x-key": "hunter2"}}, fhir_timeout=0.5)
    good = "Patient?_summary=count"
    [answer] = node.sources.fhir([query, good]) or []
    assert list(answer) == [good]
    assert [level for level, _ in node.logged] == ["error"]
    text = node.logged[0][1]
    assert repr(query) in text
    rest = text.replace(repr(query), "")
    assert not any(w in rest for w in ("127.0.0.1", "secret-host", "hunter2", "evil", "admin"))


def test_paging_without_an_end_is_stopped(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federated_analytics.flame.fhir.MAX_PAGES", 20)
    node = Node({"url": base})
    assert node.sources.fhir(["Broken/endless"]) == [{}]
    assert "no end" in node.logged[0][1]


def test_an_answer_without_an_end_is_stopped(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federated_analytics.flame.fhir.MAX_BYTES", 1_000)
    node = Node({"url": base})
    assert node.sources.fhir(["Patient"]) == [{}]
    assert "larger" in node.logged[0][1]


def test_a_server_that_drips_is_stopped_at_the_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        stop = threading.Event()

        def drip() -> None:
            peer, _ = server.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
                for _ in range(100):  # five seconds, so that a limit that fails is seen to fail
                    if stop.wait(0.05):
                        return
                    try:
                        peer.sendall(b" ")
                    except OSError:
                        return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        node = Node({"url": f"http://127.0.0.1:{port}/fhir"}, fhir_timeout=1.0, fhir_limit=0.4)
        started = time.monotonic()
        assert node.sources.fhir(["Patient"]) == [{}]
        assert time.monotonic() - started < 3
        stop.set()
        thread.join(5)


def test_a_server_that_is_gone(base: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    node = Node({"url": f"http://127.0.0.1:{port}/fhir"}, {"url": base})
    first, second = node.sources.fhir(["Patient?_summary=count"]) or []
    assert first == {}
    assert second["Patient?_summary=count"]["total"] == 23
    assert str(port) not in node.logged[0][1]


def client_of(node: Node) -> httpx.AsyncClient:
    return node.sources.client("fhir-0")


def test_the_client_is_bound_to_its_server(base: str) -> None:
    async def ask() -> None:
        async with client_of(Node({"url": base, "token": "hunter2"})) as client:
            answer = await client.get("Patient", params={"_summary": "count"})
            assert answer.json()["total"] == 23
            assert (await client.get("/Patient/p1")).json() == PATIENTS[1]
            assert (await client.get("Broken/500")).status_code == 500
            for away in (
                "http://evil.example/x",
                base.replace("127.0.0.1", "localhost") + "/Patient",
                base.replace("/fhir", "/admin"),
                "../admin",
                "%2e%2e/admin",
                base.replace("http", "https", 1),
            ):
                with pytest.raises(OutsideSource):
                    await client.get(away)

    assert isinstance(client_of(Node({"url": base})), httpx.AsyncClient)
    asyncio.run(ask())


@pytest.mark.parametrize(
    ("entry", "sent"),
    [
        ({"token": "hunter2"}, "Bearer hunter2"),
        ({"headers": {"Authorization": "Custom hunter2"}}, "Custom hunter2"),
        ({}, None),
    ],
)
def test_the_site_s_token_is_sent_to_its_server(
    base: str, entry: dict[str, Any], sent: str | None
) -> None:
    node = Node({"url": base, **entry})
    for ask in (_query, _get):
        SEEN.clear()
        ask(node)
        assert SEEN[-1].get("authorization") == sent


def _query(node: Node) -> None:
    node.sources.fhir(["Patient?_summary=count"])


def _get(node: Node) -> None:
    async def ask() -> None:
        async with client_of(node) as client:
            await client.get("Patient")

    asyncio.run(ask())


def test_a_name_and_password_in_the_address(base: str) -> None:
    SEEN.clear()
    _query(Node({"url": base.replace("http://", "http://site:hun%40ter2@")}))
    assert SEEN[-1]["authorization"] == "Basic " + base64.b64encode(b"site:hun@ter2").decode()
    assert SEEN[-1]["host"].startswith("127.0.0.1")


def test_a_token_from_a_file_and_nothing_shown(base: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter2\n")
    entry = {"id": "fhir-0", "type": "fhir", "url": base, "token_file": "token"}
    (tmp_path / "datasources.json").write_text(json.dumps([entry]))
    sources = DataSources.from_folder(tmp_path)
    SEEN.clear()
    sources.fhir(["Patient?_summary=count"])
    assert SEEN[-1]["authorization"] == "Bearer hunter2"
    assert sources.listed() == [{"id": "fhir-0", "name": "fhir-0", "type": "fhir"}]
    shown = repr(sources._sources) + repr(sources.client("fhir-0").headers)
    assert "hunter2" not in shown
    assert base not in shown


def test_a_proxy_of_the_environment_is_not_used(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    [answer] = Node({"url": base}).sources.fhir(["Patient?_summary=count"]) or []
    assert answer


def test_a_worker_s_request_is_made_in_its_place(base: str) -> None:
    node = Node({"url": base, "token": "hunter2"})

    async def ask(target: str) -> tuple[int, dict[str, str], bytes]:
        return await node.sources.forward("fhir-0", "GET", target, {"accept": "a/b"}, b"")

    SEEN.clear()
    status, headers, body = asyncio.run(ask("Patient?_summary=count"))
    assert status == 200
    assert json.loads(body)["total"] == 23
    assert headers["content-type"] == "application/json"
    assert SEEN[-1]["accept"] == "a/b"
    assert SEEN[-1]["authorization"] == "Bearer hunter2"
    with pytest.raises(OutsideSource):
        asyncio.run(ask("http://evil.example/"))
