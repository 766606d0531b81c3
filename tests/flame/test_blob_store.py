"""The object store: who may read, what a guess answers, and that only whole objects exist."""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from federated_analytics.flame.blob_store import BlobStore
from federated_analytics.flame.chunks import CHUNK, DamagedObject
from federated_analytics.flame.errors import UnknownObject


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "hub")


def put(store: BlobStore, data: bytes = b"data", readers: list[str] | None = None) -> str:
    return store.put(io.BytesIO(data), owner="node-a", readers=readers, analysis="one")


def test_everyone_of_the_analysis_reads_what_names_no_reader(store: BlobStore) -> None:
    id = put(store, b"abc")
    for reader in ("node-a", "node-b"):
        with store.open(id, reader=reader, analysis="one") as file:
            assert file.read() == b"abc"


def test_a_named_reader_and_the_owner_read_and_no_other(store: BlobStore) -> None:
    id = put(store, readers=["node-b"])
    for reader in ("node-a", "node-b"):
        assert store.open(id, reader=reader, analysis="one").read() == b"data"
    with pytest.raises(UnknownObject):
        store.open(id, reader="node-c", analysis="one")


def test_every_refusal_is_the_same_answer(store: BlobStore) -> None:
    id = put(store, readers=["node-b"])
    asked = [
        (id, "node-c", "one"),
        (id, "node-b", "two"),
        (id, "node-a", "two"),
        (secrets.token_hex(16), "node-b", "one"),
        ("", "node-b", "one"),
        (id.upper(), "node-b", "one"),
        ("../hub/" + id, "node-b", "one"),
        (f"{id}.json", "node-b", "one"),
        (id + "\n", "node-b", "one"),
        (None, "node-b", "one"),
    ]
    answers = set()
    for one, reader, analysis in asked:
        with pytest.raises(UnknownObject) as caught:
            store.open(one, reader=reader, analysis=analysis)  # type: ignore[arg-type]
        answers.add((caught.value.code, str(caught.value)))
    assert len(answers) == 1
    assert next(iter(answers))[0] == "unknown_object"


def test_ids_are_128_random_bits(store: BlobStore) -> None:
    ids = {put(store) for _ in range(50)}
    assert len(ids) == 50
    assert all(len(id) == 32 and int(id, 16) >= 0 for id in ids)


def test_the_checksum_is_kept_and_compared(store: BlobStore) -> None:
    data = os.urandom(3 * CHUNK + 17)
    id = put(store, data)
    about = store.about(id, reader="node-b", analysis="one")
    assert about.sha256 == hashlib.sha256(data).hexdigest()
    assert about.bytes == len(data)
    path = store.folder / id
    changed = bytearray(data)
    changed[CHUNK] ^= 1
    path.write_bytes(changed)
    with store.open(id, reader="node-a", analysis="one") as file, pytest.raises(DamagedObject):
        list(iter(lambda: file.read(CHUNK), b""))
    path.write_bytes(data[:-1])
    with pytest.raises(DamagedObject):
        store.open(id, reader="node-a", analysis="one").read()


class Fails(io.RawIOBase):
    def __init__(self) -> None:
        self.left = 3

    def read(self, size: int = -1, /) -> bytes:
        self.left -= 1
        if not self.left:
            raise ConnectionError("the sender is gone")
        return b"x" * 1000


def test_a_stream_that_breaks_leaves_nothing(store: BlobStore) -> None:
    with pytest.raises(ConnectionError):
        store.put(Fails(), owner="a", readers=None, analysis="one")  # type: ignore[arg-type]
    assert list(store.folder.iterdir()) == []


def test_an_object_is_stored_as_it_came_and_for_its_owner_alone(store: BlobStore) -> None:
    id = put(store, b"plain text")
    assert (store.folder / id).read_bytes() == b"plain text"
    assert {path.name for path in store.folder.iterdir()} == {id, f"{id}.json"}
    for path in store.folder.iterdir():
        assert path.stat().st_mode & 0o077 == 0
    assert json.loads((store.folder / f"{id}.json").read_text())["owner"] == "node-a"


def test_it_survives_a_restart(store: BlobStore) -> None:
    id = put(store, b"kept", ["node-b"])
    again = BlobStore(store.folder)
    assert again.open(id, reader="node-b", analysis="one").read() == b"kept"
    with pytest.raises(UnknownObject):
        again.open(id, reader="node-c", analysis="one")


def test_expiry_removes_the_older_ones_and_abandoned_files(store: BlobStore) -> None:
    old = put(store)
    time.sleep(0.02)
    now = time.time()
    new = put(store)
    abandoned, fresh = store.folder / ".tmp-old", store.folder / ".tmp-new"
    abandoned.write_bytes(b"x")
    fresh.write_bytes(b"x")
    os.utime(abandoned, (now - 100_000, now - 100_000))
    assert store.expire(now) == 1
    with pytest.raises(UnknownObject):
        store.open(old, reader="node-a", analysis="one")
    assert store.open(new, reader="node-a", analysis="one").read() == b"data"
    assert not abandoned.exists()
    assert fresh.exists()


def test_only_the_owner_deletes(store: BlobStore) -> None:
    id = put(store)
    assert not store.delete(id, owner="node-b")
    assert store.delete(id, owner="node-a")
    assert not store.delete(id, owner="node-a")
    assert not store.delete("../x", owner="node-a")


def test_many_threads_put_and_read(store: BlobStore) -> None:
    wrong: list[str] = []

    def work(number: int) -> None:
        data = bytes([number]) * (200_000 + number)
        for _ in range(5):
            id = put(store, data)
            if store.open(id, reader="node-b", analysis="one").read() != data:
                wrong.append(id)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


class Zeros(io.RawIOBase):
    def __init__(self, length: int) -> None:
        self.left = length

    def read(self, size: int = -1, /) -> bytes:
        piece = bytes(min(size, self.left))
        self.left -= len(piece)
        return piece


def test_200_mb_pass_with_little_memory(store: BlobStore) -> None:
    tracemalloc.start()
    try:
        source = Zeros(200_000_000)
        id = store.put(source, owner="a", readers=None, analysis="one")  # type: ignore[arg-type]
        length = 0
        with store.open(id, reader="a", analysis="one") as file:
            while piece := file.read(CHUNK):
                length += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert length == 200_000_000
    assert peak < 8 << 20
