"""A node's own storage for one project: saved objects and their tags, over all its analyses."""

from __future__ import annotations

import hashlib
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

from federated_analytics.flame.blob_store import BlobStore
from federated_analytics.flame.errors import InvalidArgument, InvalidTag, UnknownTag

TagOption = Literal["all", "first", "last"]
TAG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
MAX_TAG = 32
_INDEX = "saved.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS saved (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    tag TEXT,
    analysis TEXT NOT NULL,
    saved_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS saved_by_tag ON saved (tag, number);
"""


class LocalStorage:
    """One node, one project; it outlives analyses and restarts.

    Args:
        folder: the node's storage, shared by its projects.
        project: nothing of another project can be listed or opened.
    """

    def __init__(self, folder: Path, project: str) -> None:
        own = _own(folder, project)
        self._project = project
        self._objects = BlobStore(own / "objects")
        self._path = own / _INDEX
        with self._index() as index:
            index.executescript(_SCHEMA)

    @staticmethod
    def exists(folder: Path, project: str) -> bool:
        """Whether a project has ever saved anything here."""
        return _own(folder, project).is_dir()

    def save(self, source: BinaryIO, *, tag: str | None, analysis: str) -> str:
        """Keep a stream, and return its id.

        Raises:
            InvalidTag: before anything is written.
        """
        if tag is not None:
            check_tag(tag)
        id = self._objects.put(source, owner=self._project, readers=(), analysis=self._project)
        with self._index() as index:
            index.execute(
                "INSERT INTO saved (id, tag, analysis, saved_at) VALUES (?, ?, ?, ?)",
                (id, tag, analysis, time.time()),
            )
        return id

    def open(self, id: str) -> BinaryIO:
        """The bytes of an object of this node and project.

        Raises:
            UnknownObject: there is none with this id.
        """
        return self._objects.open(id, reader=self._project, analysis=self._project)

    def tagged(self, tag: str, option: TagOption) -> list[str]:
        """Ids saved under a tag, oldest first; for `first` and `last` exactly one.

        Raises:
            InvalidTag: no tag can look like this.
            InvalidArgument: there is no such option.
            UnknownTag: `first` or `last` of a tag that was never used.
        """
        check_tag(tag)
        if option not in ("all", "first", "last"):
            raise InvalidArgument(
                f"{option!r} is no tag_option.",
                where="tag_option",
                remedy="Use 'all', 'first' or 'last'.",
            )
        with self._index() as index:
            rows = index.execute("SELECT id FROM saved WHERE tag = ? ORDER BY number", (tag,))
            ids = [str(id) for (id,) in rows]
        if option == "all":
            return ids
        if not ids:
            raise UnknownTag(f"Nothing is saved under the tag {tag!r}.", where="tag")
        return ids[:1] if option == "first" else ids[-1:]

    def tags(self, containing: str | None) -> list[str]:
        """The tags in use, sorted; those that hold a text, when one is given."""
        with self._index() as index:
            rows = index.execute("SELECT DISTINCT tag FROM saved WHERE tag IS NOT NULL")
            tags = sorted(str(tag) for (tag,) in rows)
        return [tag for tag in tags if containing is None or containing in tag]

    def expire(self, before: float) -> int:
        """Remove what was saved before a time (seconds since 1970), tags included."""
        return self._drop("saved_at < ?", before)

    def drop_untagged(self, analysis: str) -> int:
        """Remove what an ended analysis saved without a tag; nothing can ask for it any more."""
        return self._drop("tag IS NULL AND analysis = ?", analysis)

    def _drop(
        self, condition: Literal["saved_at < ?", "tag IS NULL AND analysis = ?"], value: object
    ) -> int:
        with self._index() as index:
            rows = index.execute(f"DELETE FROM saved WHERE {condition} RETURNING id", (value,))
            ids = [str(id) for (id,) in rows.fetchall()]
        for id in ids:
            self._objects.delete(id, owner=self._project)
        return len(ids)

    @contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=30)) as index, index:
            yield index


def expire_folder(own: Path, before: float) -> int:
    """As `LocalStorage.expire`, of one project's folder, whosever it is; how many objects."""
    if not (own / _INDEX).is_file():
        return 0
    with closing(sqlite3.connect(own / _INDEX, timeout=30)) as index, index:
        index.execute("DELETE FROM saved WHERE saved_at < ?", (before,))
    return BlobStore(own / "objects").expire(before)


def _own(folder: Path, project: str) -> Path:
    """A project's folder: its name is a digest, as a project's may hold what a file's may not."""
    return folder / hashlib.sha256(project.encode()).hexdigest()[:32]


def check_tag(tag: str) -> None:
    """Raises:
    InvalidTag: the tag is not 1 to 32 lower-case letters and digits, joined by hyphens.
    """
    if not isinstance(tag, str) or len(tag) > MAX_TAG or not TAG.fullmatch(tag):
        raise InvalidTag(f"{tag!r} cannot be a tag.", where="tag")
