"""The published version of each fragment, and rows that wait to be published with enough others."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from federated_analytics.fedmed.fragments import Fragment

if TYPE_CHECKING:
    from federated_analytics.fedmed.privacy import NewSamples


@dataclass(frozen=True)
class _Held:
    """One fragment: what is shown, what waits, and the number of what is shown."""

    shown: Fragment
    waiting: Fragment | None
    version: int


class Versions:
    """Fragments by name; safe among threads: a reader has one version for as long as she reads.

    Args:
        folder: keeps them over restarts; None where each start gives the data anew.
        new_samples: when waiting rows are shown; at once where None.
    """

    def __init__(self, folder: Path | None, new_samples: NewSamples | None) -> None:
        self._folder = folder / "versions" if folder and new_samples else None
        self._rule = new_samples
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()
        if self._folder:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def names(self) -> list[str]:
        return list(self._held)

    def put(self, name: str, data: Any) -> None:
        """Assign a fragment's data; what is shown changes when enough rows are new."""
        found = Fragment.of(data)
        with self._lock:
            before = self._held.get(name) or self._read(name)
            self._set(name, self._after(before, found))

    def append(self, name: str, rows: Any) -> None:
        """Add rows behind what is there, shown or waiting."""
        added = Fragment.of(rows)
        with self._lock:
            before = self._held[name]
            latest = before.waiting or before.shown
            self._set(name, self._after(before, latest.joined(added)))

    def published(self, name: str) -> tuple[Fragment, int]:
        """What is shown, and the number of that version."""
        held = self._held[name]
        return held.shown, held.version

    def remove(self, name: str) -> None:
        with self._lock:
            self._held.pop(name, None)
            if self._folder:
                for path in self._paths(name):
                    path.unlink(missing_ok=True)

    def _after(self, before: _Held | None, latest: Fragment) -> _Held:
        if before is None:
            return _Held(latest, None, 1)
        if _same(before.shown, latest):
            return _Held(before.shown, None, before.version)
        if self._rule is None or self._new(before.shown, latest) >= self._rule.min:
            return _Held(latest, None, before.version + 1)
        return _Held(before.shown, latest, before.version)

    def _new(self, shown: Fragment, latest: Fragment) -> int:
        """Rows, or persons, that were not among what is shown.

        Of rows without a person column only their number is known to be new: a changed row may
        be the same person's.
        """
        assert self._rule is not None
        key = (self._rule.person,)
        if self._rule.person and key in shown.columns and key in latest.columns:
            known = set(shown.columns[key].dropna().tolist())
            return len(set(latest.columns[key].dropna().tolist()) - known)
        return latest.rows - shown.rows

    def _set(self, name: str, held: _Held) -> None:
        self._held[name] = held
        if self._folder:
            self._write(name, held)

    def _paths(self, name: str) -> tuple[Path, Path, Path]:
        assert self._folder is not None
        stem = hashlib.sha256(name.encode()).hexdigest()[:32]
        return tuple(self._folder / f"{stem}.{end}" for end in ("shown", "waiting", "json"))  # type: ignore[return-value]

    def _write(self, name: str, held: _Held) -> None:
        shown, waiting, about = self._paths(name)
        _save(held.shown, shown)
        if held.waiting is None:
            waiting.unlink(missing_ok=True)
        else:
            _save(held.waiting, waiting)
        temporary = about.with_suffix(".tmp")
        temporary.write_text(json.dumps({"name": name, "version": held.version}))
        temporary.replace(about)

    def _read(self, name: str) -> _Held | None:
        """What was shown before a restart."""
        if not self._folder:
            return None
        shown, waiting, about = self._paths(name)
        if not about.exists():
            return None
        version = int(json.loads(about.read_text())["version"])
        pending = _load(waiting) if waiting.exists() else None
        return _Held(_load(shown), pending, version)


def _same(a: Fragment, b: Fragment) -> bool:
    return a.kinds == b.kinds and all(a.columns[k].equals(b.columns[k]) for k in a.columns)


def _save(fragment: Fragment, path: Path) -> None:
    """Columns one after the other, as Parquet: they need not be of one length."""
    import io
    import zipfile

    import pandas as pd

    temporary = path.with_name(path.name + ".tmp")
    with zipfile.ZipFile(temporary, "w") as archive:
        for keys, column in fragment.columns.items():
            buffer = io.BytesIO()
            pd.DataFrame({"column": column}).to_parquet(buffer)
            archive.writestr(json.dumps(list(keys)), buffer.getvalue())
    temporary.replace(path)


def _load(path: Path) -> Fragment:
    import io
    import zipfile

    import pandas as pd

    columns = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            series = pd.read_parquet(io.BytesIO(archive.read(name)))["column"]
            columns[tuple(json.loads(name))] = series
    kinds = {}
    for keys, series in columns.items():
        one = Fragment.of(series)
        columns[keys], kinds[keys] = one.columns[()], one.kinds[()]
    return Fragment(columns, kinds)
