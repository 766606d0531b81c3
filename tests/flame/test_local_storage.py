"""A node's own storage: tags of one project that outlive analyses, and nobody else's."""

from __future__ import annotations

import io
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from federated_analytics.flame.errors import InvalidArgument, InvalidTag, UnknownObject, UnknownTag
from federated_analytics.flame.local_storage import LocalStorage
from federated_analytics.flame.storage_end import StorageEnd
from federated_analytics.flame.testbed import FlameTestBed
from tests.flame.test_broker import BOTH


def save(storage: LocalStorage, data: bytes, tag: str | None = None, analysis: str = "one") -> str:
    return storage.save(io.BytesIO(data), tag=tag, analysis=analysis)


def read(storage: LocalStorage, ids: list[str]) -> list[bytes]:
    return [storage.open(id).read() for id in ids]


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path, "project-1")


def test_an_id_gives_the_data_back(storage: LocalStorage) -> None:
    assert storage.open(save(storage, b"abc")).read() == b"abc"


def test_all_first_and_last_of_a_tag_in_the_order_of_saving(storage: LocalStorage) -> None:
    for number in range(5):
        save(storage, b"%d" % number, "model")
        save(storage, b"other", "other")
    assert read(storage, storage.tagged("model", "all")) == [b"0", b"1", b"2", b"3", b"4"]
    assert read(storage, storage.tagged("model", "first")) == [b"0"]
    assert read(storage, storage.tagged("model", "last")) == [b"4"]


def test_an_unknown_tag_is_empty_for_all_and_an_error_otherwise(storage: LocalStorage) -> None:
    assert storage.tagged("nothing", "all") == []
    for option in ("first", "last"):
        with pytest.raises(UnknownTag) as caught:
            storage.tagged("nothing", option)  # type: ignore[arg-type]
        assert "get_local_tags" in caught.value.remedy


def test_tags_outlive_the_analysis_and_a_restart(tmp_path: Path) -> None:
    save(LocalStorage(tmp_path, "p"), b"first run", "fit", analysis="one")
    again = LocalStorage(tmp_path, "p")
    save(again, b"second run", "fit", analysis="two")
    assert read(again, again.tagged("fit", "all")) == [b"first run", b"second run"]


def test_another_project_sees_neither_tag_nor_object(tmp_path: Path) -> None:
    one, two = LocalStorage(tmp_path, "one"), LocalStorage(tmp_path, "two")
    id = save(one, b"secret", "fit")
    assert two.tags(None) == []
    assert two.tagged("fit", "all") == []
    with pytest.raises(UnknownTag):
        two.tagged("fit", "last")
    with pytest.raises(UnknownObject):
        two.open(id)


@pytest.mark.parametrize("project", ["../other", "a/b", "ä ö", "x" * 500, "", "nul\0"])
def test_a_projects_name_may_be_any_text(tmp_path: Path, project: str) -> None:
    storage = LocalStorage(tmp_path / "node", project)
    assert storage.open(save(storage, b"x", "a")).read() == b"x"
    assert {path.name for path in tmp_path.iterdir()} == {"node"}


def test_another_node_has_another_storage(tmp_path: Path) -> None:
    one, two = LocalStorage(tmp_path / "node-a", "p"), LocalStorage(tmp_path / "node-b", "p")
    id = save(one, b"x", "fit")
    assert two.tags(None) == []
    with pytest.raises(UnknownObject):
        two.open(id)


@pytest.mark.parametrize("tag", ["a", "0", "a-b", "cohort-2024-v1", "x" * 32])
def test_tags_that_may_be(storage: LocalStorage, tag: str) -> None:
    save(storage, b"x", tag)
    assert storage.tags(None) == [tag]


@pytest.mark.parametrize(
    "tag",
    ["", "A", "a_b", "-a", "a-", "a--b", "a b", "x" * 33, "a\n", "ä", "a.b", "../a", 3, b"a"],
)
def test_tags_that_may_not_be(storage: LocalStorage, tag: str) -> None:
    with pytest.raises(ValueError, match="tag") as caught:
        save(storage, b"x", tag)
    assert isinstance(caught.value, InvalidTag)
    assert "lower-case" in caught.value.remedy
    with pytest.raises(InvalidTag):
        storage.tagged(tag, "all")
    assert storage.tags(None) == []


def test_an_unknown_option_is_refused(storage: LocalStorage) -> None:
    with pytest.raises(InvalidArgument, match="newest"):
        storage.tagged("a", "newest")  # type: ignore[arg-type]


def test_tags_are_listed_once_sorted_and_filtered_by_a_part(storage: LocalStorage) -> None:
    for tag in ("result-b", "model", "result-a", "model", None):
        save(storage, b"x", tag)
    assert storage.tags(None) == ["model", "result-a", "result-b"]
    assert storage.tags("sult") == ["result-a", "result-b"]
    assert storage.tags("%") == []
    assert storage.tags("") == ["model", "result-a", "result-b"]


def test_the_end_of_a_project_removes_its_objects(storage: LocalStorage, tmp_path: Path) -> None:
    old = save(storage, b"old", "fit")
    time.sleep(0.02)
    now = time.time()
    save(storage, b"new", "fit")
    assert storage.expire(now) == 1
    assert read(storage, storage.tagged("fit", "all")) == [b"new"]
    with pytest.raises(UnknownObject):
        storage.open(old)
    assert not list(tmp_path.rglob(old))


def test_an_ended_analysis_leaves_only_what_is_tagged(storage: LocalStorage) -> None:
    kept = save(storage, b"kept", "fit", analysis="one")
    other = save(storage, b"other", None, analysis="two")
    gone = save(storage, b"gone", None, analysis="one")
    assert storage.drop_untagged("one") == 1
    assert read(storage, [kept, other]) == [b"kept", b"other"]
    with pytest.raises(UnknownObject):
        storage.open(gone)


def test_analyses_of_one_node_save_at_once(tmp_path: Path) -> None:
    def work(number: int) -> None:
        storage = LocalStorage(tmp_path, "p")
        for _ in range(10):
            save(storage, b"%d" % number, f"tag-{number}", analysis=str(number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    storage = LocalStorage(tmp_path, "p")
    for number in range(6):
        assert read(storage, storage.tagged(f"tag-{number}", "all")) == [b"%d" % number] * 10


def test_a_project_that_has_ended_keeps_nothing(tmp_path: Path) -> None:
    now = time.time()
    today = datetime.fromtimestamp(now, UTC).date()
    over, going = LocalStorage(tmp_path, "over"), LocalStorage(tmp_path, "going")
    gone, kept = save(over, b"x", "fit"), save(going, b"x", "fit")
    end = StorageEnd(tmp_path, {"over": today - timedelta(days=1), "going": today}, days=30)
    assert end.apply(now) == 1
    with pytest.raises(UnknownObject):
        over.open(gone)
    assert over.tags(None) == []
    assert going.open(kept).read() == b"x"


def test_what_is_too_old_ends_also_of_a_project_that_nobody_knows(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path, "forgotten")
    gone = save(storage, b"x", "fit")
    end = StorageEnd(tmp_path, {}, days=30)
    assert end.apply(time.time() + 29 * 86_400) == 0
    assert storage.tags(None) == ["fit"]
    assert end.apply(time.time() + 31 * 86_400) == 1
    assert storage.tags(None) == []
    with pytest.raises(UnknownObject):
        storage.open(gone)
    assert StorageEnd(tmp_path / "none", {"p": None}, days=1).apply() == 0


def test_an_analysis_leaves_what_is_tagged_and_nothing_else(tmp_path: Path) -> None:
    """Two runs of one project: the first one's tags are there, its untagged data are not."""
    bed = FlameTestBed(tmp_path, ["node-c"])
    first = bed.run(
        BOTH + "flame.save_intermediate_data(1, 'local', tag='kept')\n"
        "id = flame.save_intermediate_data(2, 'local')['id']\n"
        "assert flame.get_intermediate_data('local', id) == 2\nsubmit(id)"
    )
    second = bed.run(
        BOTH + "id = flame.get_parameters()['id']\n"
        "submit([flame.get_intermediate_data('local', tag='kept'),"
        " refusal(flame.get_intermediate_data, 'local', id)[0]])",
        parameters={"id": json.loads(first.texts[0])},
    )
    assert json.loads(second.texts[0]) == [[1], "UnknownObject"]


def test_a_byte_that_changed_at_rest_is_noticed(tmp_path: Path) -> None:
    bed = FlameTestBed(tmp_path, ["node-c"])
    assert bed.run(
        BOTH + "flame.save_intermediate_data(b'abcdef' * 1000, 'local', tag='kept')\nsubmit(1)"
    ).succeeded
    [object] = [path for path in (tmp_path / "store").rglob("objects/*") if path.suffix != ".json"]
    data = bytearray(object.read_bytes())
    data[-100] ^= 1
    object.write_bytes(data)
    run = bed.run(BOTH + "flame.get_intermediate_data('local', tag='kept')\nsubmit(1)")
    assert not run.succeeded
    assert "DamagedObject" in run.reason("node-c")
