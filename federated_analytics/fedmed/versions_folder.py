"""The versions of fragments in a server's state folder: what is shown, and what waits.

Of each fragment there is one small file that names the others. It is replaced last, in one step, so
that a server that is killed at any moment leaves the state before or the state after. Processes of
one server share the folder: a change is made under a lock, and seen by all at their next request.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import secrets
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from federated_analytics.errors import ConfigError
from federated_analytics.fedmed.fragments import Fragment

Stamp = tuple[int, int, int]
"""Tells one state of a fragment from the next."""


@dataclass(frozen=True)
class Stored:
    """A fragment's state as it is written.

    Fields:
        shown, waiting: names of files of rows; "" where nothing waits
        given: digest of what the owner's program last assigned
    """

    version: int
    shown: str
    waiting: str
    given: str


@dataclass(frozen=True)
class VersionsFolder:
    """The folder; made where there is none."""

    path: Path

    def __post_init__(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """One process and thread at a time. The system takes it from a process that is killed."""
        file = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)

    def stamp(self, name: str) -> Stamp | None:
        """Of a fragment's state as it is now; None where there is none."""
        try:
            found = self._about(name).stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def read(self, name: str) -> Stored | None:
        """A fragment's state. ConfigError where it cannot be read: it is not begun anew."""
        try:
            plain = json.loads(self._about(name).read_text())
            return Stored(*(plain[key] for key in ("version", "shown", "waiting", "given")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                "What was shown of the fragment before cannot be read.",
                where=str(self._about(name)),
                remedy="Bring the state folder back from a copy; without it new rows might show.",
            ) from error

    def write(self, name: str, stored: Stored) -> None:
        """The new state, and away with the files of the one before."""
        about = {"name": name, **vars(stored)}
        replaced(self._about(name), json.dumps(about).encode())
        self._clear(name, {self._about(name).name, stored.shown, stored.waiting})

    def save(self, name: str, fragment: Fragment) -> str:
        """Columns one after the other, as Parquet: they need not be of one length."""
        import pandas as pd

        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for keys, column in fragment.columns.items():
                one = io.BytesIO()
                pd.DataFrame({"column": column}).to_parquet(one)
                archive.writestr(json.dumps(list(keys)), one.getvalue())
        file = f"{_stem(name)}.{secrets.token_hex(8)}.rows"
        replaced(self.path / file, buffer.getvalue())
        return file

    def load(self, file: str) -> Fragment:
        """The rows of a file that a state names; to be read under the lock."""
        import pandas as pd

        columns, kinds = {}, {}
        with zipfile.ZipFile(self.path / file) as archive:
            for name in archive.namelist():
                series = pd.read_parquet(io.BytesIO(archive.read(name)))["column"]
                one = Fragment.of(series)
                keys = tuple(json.loads(name))
                columns[keys], kinds[keys] = one.columns[()], one.kinds[()]
        return Fragment(columns, kinds)

    def remove(self, name: str) -> None:
        self._about(name).unlink(missing_ok=True)
        self._clear(name, set())

    def _clear(self, name: str, kept: set[str]) -> None:
        """Also what a process that was killed has begun to write."""
        for path in self.path.glob(f"{_stem(name)}.*"):
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def _about(self, name: str) -> Path:
        return self.path / f"{_stem(name)}.json"


def replaced(path: Path, content: bytes) -> None:
    """A file with new content: after a crash or a power loss it has the old or the new one."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    _written(temporary, content)
    temporary.replace(path)
    _synced(path.parent)


def made_once(path: Path, content: bytes) -> bytes:
    """A file's content, made of `content` where there is none: of two processes one makes it."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    if not path.exists():
        _written(temporary, content)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        temporary.unlink()
        _synced(path.parent)
    return path.read_bytes()


def _written(path: Path, content: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "wb") as writing:
        writing.write(content)
        writing.flush()
        os.fsync(writing.fileno())


def _synced(folder: Path) -> None:
    """The folder's entries are durable too."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _stem(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]
