"""S3 stores: a folder, and a real S3 server over HTTP; keys, contents, escapes and outages."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import pytest

from federated_analytics.errors import ConfigError
from federated_analytics.flame.data_sources import DataSources
from federated_analytics.flame.errors import UnknownDataSource
from federated_analytics.flame.s3 import InvalidKey

CSV = "age,sex\n61,F\n47,M\n"
BINARY = b"\x89PNG\r\n\x1a\n\xff\x00"
BIG = os.urandom(3 << 20)
CONTENTS: dict[str, str | bytes] = {
    "cohort.csv": CSV,
    "notes/ü ö%20.txt": "Übersicht",
    "image.png": BINARY,
    "empty": "",
}
S3_XML = "{http://s3.amazonaws.com/doc/2006-03-01/}"


def folder_with(place: Path, contents: dict[str, str | bytes]) -> Path:
    for key, content in contents.items():
        path = place / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return place


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def bucket(endpoint: str) -> str:
    """A bucket filled through the AWS SDK, an implementation that is not ours."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="site",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="hospital")
    for key, content in {**CONTENTS, "big.bin": BIG, "part/a.txt": "A"}.items():
        body = content.encode() if isinstance(content, str) else content
        client.put_object(Bucket="hospital", Key=key, Body=body)
    client.create_bucket(Bucket="many")
    for number in range(25):
        client.put_object(Bucket="many", Key=f"k{number:04}", Body=b"x")
    return f"{endpoint}/hospital"


def sources(place: Path, entries: list[dict[str, Any]], **options: Any) -> DataSources:
    (place / "datasources.json").write_text(json.dumps(entries))
    return DataSources.from_folder(place, **options)


def at(url: str, **more: Any) -> dict[str, Any]:
    return {"id": "s3-1", "name": "Hospital", "type": "s3", "url": url, **more}


# A folder as a store


def test_a_folder_is_one_store_with_its_files_as_keys(tmp_path: Path) -> None:
    data = DataSources.from_folder(folder_with(tmp_path / "node-a", CONTENTS))
    for keys in (None, []):
        assert data.s3(keys) == [CONTENTS]
    assert [source["type"] for source in data.listed()] == ["s3"]


def test_keys_choose_and_a_missing_one_is_left_out_and_logged(tmp_path: Path) -> None:
    logged: list[tuple[str, str]] = []
    folder = folder_with(tmp_path, CONTENTS)
    data = DataSources.from_folder(folder, log=lambda level, text: logged.append((level, text)))
    assert data.s3(["cohort.csv", "missing.csv", "cohort.csv"]) == [{"cohort.csv": CSV}]
    assert [level for level, _ in logged] == ["error"]
    assert "missing.csv" in logged[0][1]


def test_bytes_are_text_only_where_they_are_utf_8(tmp_path: Path) -> None:
    [contents] = DataSources.from_folder(folder_with(tmp_path, CONTENTS)).s3(None) or []
    assert type(contents["cohort.csv"]) is str
    assert type(contents["image.png"]) is bytes


def test_an_empty_and_a_missing_folder(tmp_path: Path) -> None:
    assert DataSources.from_folder(tmp_path).s3(None) == [{}]
    assert DataSources.from_folder(tmp_path / "none").s3(None) == []
    assert DataSources.from_folder(tmp_path / "none").listed() == []


BAD_KEYS = [
    "../secret.txt",
    "a/../../secret.txt",
    "..",
    "/etc/passwd",
    "a//b",
    "./cohort.csv",
    "",
    "a\0b",
    "..\\secret.txt",
    "C:\\secret",
    "C:/secret",
]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_cannot_leave_its_folder(tmp_path: Path, key: str) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    data = DataSources.from_folder(folder_with(tmp_path / "node-a", CONTENTS))
    with pytest.raises(InvalidKey) as caught:
        data.s3([key])
    assert "get_s3_data" in caught.value.remedy
    assert str(tmp_path) not in str(caught.value)


def test_a_link_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.txt").write_text("secret")
    folder = folder_with(tmp_path / "node-a", CONTENTS)
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "inside.txt").symlink_to(folder / "cohort.csv")
    data = DataSources.from_folder(folder)
    assert data.s3(None) == [{**CONTENTS, "inside.txt": CSV}]
    assert data.s3(["link.txt"]) == [{}]
    assert data.s3(["linked/b.txt"]) == [{}]


def test_a_folder_named_in_the_file(tmp_path: Path) -> None:
    folder_with(tmp_path / "one", {"a.txt": "A"})
    folder_with(tmp_path / "two", {"a.txt": "other", "b.txt": "B"})
    absolute = (tmp_path / "two").as_uri()
    data = sources(tmp_path, [at("one"), at(absolute, id="s3-2")])
    assert data.s3(["a.txt", "b.txt"]) == [{"a.txt": "A"}, {"a.txt": "other", "b.txt": "B"}]
    assert b"".join(data.stream("s3-2", "b.txt")) == b"B"
    assert {source["id"] for source in data.listed()} == {"s3-1", "s3-2"}


# A real server


def test_all_of_a_bucket(bucket: str, tmp_path: Path) -> None:
    [found] = sources(tmp_path, [at(bucket)]).s3([]) or []
    assert found == {**CONTENTS, "big.bin": BIG, "part/a.txt": "A"}


def test_keys_of_a_bucket(bucket: str, tmp_path: Path) -> None:
    data = sources(tmp_path, [at(bucket)])
    assert data.s3(["cohort.csv", "no"]) == [{"cohort.csv": CSV}]
    assert data.s3(["notes/ü ö%20.txt"]) == [{"notes/ü ö%20.txt": "Übersicht"}]


def test_a_prefix_is_a_store_of_its_own(bucket: str, tmp_path: Path) -> None:
    assert sources(tmp_path, [at(f"{bucket}/part")]).s3(None) == [{"a.txt": "A"}]


def test_a_listing_of_several_pages(
    bucket: str, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")
    [found] = sources(tmp_path, [at(f"{endpoint}/many")]).s3(None) or []
    assert list(found) == [f"k{number:04}" for number in range(25)]


def test_a_large_object_comes_in_pieces(bucket: str, tmp_path: Path) -> None:
    pieces = list(sources(tmp_path, [at(bucket)]).stream("s3-1", "big.bin"))
    assert b"".join(pieces) == BIG
    assert len(pieces) > 1
    with pytest.raises(KeyError):
        list(sources(tmp_path, [at(bucket)]).stream("s3-1", "none"))


class Recorder(BaseHTTPRequestHandler):
    """Answers every request with an empty listing, and keeps who signed it."""

    signatures: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.signatures.append(self.headers.get("authorization", ""))
        body = f"<ListBucketResult xmlns='{S3_XML[1:-1]}'></ListBucketResult>".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing to the terminal."""


@pytest.fixture
def recorder() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/bucket"
    server.shutdown()
    thread.join()
    server.server_close()


def test_requests_are_signed_with_the_sites_key(
    recorder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    in_url = recorder.replace("http://", "http://in%2Furl:secret@")
    in_file = at(recorder, access_key_id="in-file", secret_access_key="s", region="eu-west-1")
    for entry, signer in (
        (in_file, "Credential=in-file/"),
        (at(in_url), "Credential=in/url/"),
        (at(recorder), "Credential=test/"),
    ):
        assert sources(tmp_path, [entry]).s3(None) == [{}]
        assert signer in Recorder.signatures[-1]
    sources(tmp_path, [in_file]).s3(None)
    assert "/eu-west-1/s3/" in Recorder.signatures[-1]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ambient")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    sources(tmp_path, [at(recorder)]).s3(None)
    assert "Credential=ambient/" in Recorder.signatures[-1]
    sources(tmp_path, [in_file]).s3(None)
    assert "Credential=in-file/" in Recorder.signatures[-1]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_the_same_keys_are_refused_at_a_server(bucket: str, tmp_path: Path, key: str) -> None:
    with pytest.raises(InvalidKey):
        sources(tmp_path, [at(bucket)]).s3([key])


def test_a_server_that_is_gone_or_lacks_the_bucket_is_logged_and_empty(
    endpoint: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/bucket", f"{endpoint}/no-such-bucket"):
        logged: list[str] = []
        secret = at(url, access_key_id="AKIA-SECRET", secret_access_key="hidden")
        data = sources(tmp_path, [secret], log=partial(_keep, logged))
        assert data.s3(None) == [{}]
        assert len(logged) == 1
        assert not any(word in logged[0] for word in ("127.0.0.1", "AKIA", "hidden", str(port)))


def _keep(logged: list[str], level: str, text: str) -> None:
    logged.append(text)


# The client, and the file


def get(data: DataSources, path: str, method: str = "GET") -> Any:
    async def ask() -> Any:
        async with data.client("s3-1") as client:
            return await client.request(method, path)

    return asyncio.run(ask())


def test_the_client_reads_keys_and_the_listing(bucket: str, tmp_path: Path) -> None:
    folder_with(tmp_path / "store", CONTENTS)
    for url in (bucket, "store"):
        data = sources(tmp_path, [at(url)])
        assert get(data, "cohort.csv").text == CSV
        assert get(data, "/image.png").content == BINARY
        assert get(data, "notes/%C3%BC%20%C3%B6%2520.txt").text == "Übersicht"
        assert get(data, "missing").status_code == 404
        assert get(data, "cohort.csv", "DELETE").status_code == 405
        assert get(data, "cohort.csv", "HEAD").headers["content-length"] == str(len(CSV))
        listing = ElementTree.fromstring(get(data, "/?list-type=2&prefix=notes/").content)
        assert [key.text for key in listing.iter(f"{S3_XML}Key")] == ["notes/ü ö%20.txt"]


def test_the_client_cannot_leave_its_store(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    folder_with(tmp_path / "store", CONTENTS)
    data = sources(tmp_path, [at("store")])
    for path in ("/../secret.txt", "%2e%2e/secret.txt", "..%2fsecret.txt"):
        answer = get(data, path)
        assert answer.status_code in (400, 404)
        assert "secret" not in answer.text.replace("secret.txt", "")


def test_an_unknown_id_is_a_value_error(tmp_path: Path) -> None:
    data = DataSources.from_folder(tmp_path)
    with pytest.raises(ValueError, match="no data source") as caught:
        data.client("other")
    assert isinstance(caught.value, UnknownDataSource)
    with pytest.raises(UnknownDataSource):
        data.stream("other", "key")


def test_a_source_is_bound_to_its_projects(tmp_path: Path) -> None:
    folder_with(tmp_path / "one", {"a.txt": "A"})
    entries = [at("one", projects=["p1"])]
    assert sources(tmp_path, entries, project="p1").s3(None) == [{"a.txt": "A"}]
    for project in ("p2", None):
        other = sources(tmp_path, entries, project=project)
        assert other.listed() == []
        assert other.s3(None) == []
        with pytest.raises(UnknownDataSource):
            other.client("s3-1")


def test_what_is_listed_shows_no_address_and_no_secret(tmp_path: Path) -> None:
    entry = at("http://key:hunter2@s3.hospital.example/bucket", secret_access_key="hunter3")
    data = sources(tmp_path, [{**entry, "access_key_id": "AKIA"}])
    assert data.listed() == [{"id": "s3-1", "name": "Hospital", "type": "s3"}]
    shown = repr(data._sources) + repr(data.listed()) + repr(data.client("s3-1").__dict__)
    assert not any(word in shown for word in ("hunter", "hospital.example", "AKIA"))


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        "[1]",
        '[{"id": "a", "type": "s3"}]',
        '[{"id": "a", "type": "ftp", "url": "hunter2"}]',
        '[{"id": "a", "type": "s3", "url": "ftp://hunter2"}]',
        '[{"id": "a", "type": "s3", "url": "http://hunter2"}]',
        '[{"id": "a", "type": "fhir", "url": "hunter2"}]',
        '[{"id": "a", "type": "s3", "url": "x", "password": "hunter2"}]',
        '[{"id": "a", "type": "s3", "url": "x"}, {"id": "a", "type": "s3", "url": "y"}]',
        '[{"id": "a", "type": "fhir", "url": "http://x", "token_file": "none"}]',
    ],
)
def test_a_file_that_cannot_be_used_is_refused_without_its_values(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "datasources.json").write_text(text)
    with pytest.raises(ConfigError) as caught:
        DataSources.from_folder(tmp_path)
    assert caught.value.where.startswith("datasources.json")
    assert caught.value.remedy
    assert "hunter2" not in str(caught.value)
