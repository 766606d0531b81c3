"""The published version of each fragment, and rows that wait to be published with enough others."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from federated_analytics.fedmed.fragments import Fragment
from federated_analytics.fedmed.versions_folder import Stamp, Stored, VersionsFolder

if TYPE_CHECKING:
    from federated_analytics.fedmed.privacy import NewSamples


@dataclass(frozen=True)
class _Held:
    """One fragment: what is shown, what waits, and the number of what is shown.

    Fields:
        stored: how it stands in the state folder
        stamp: of the state folder when it was read or written
    """

    shown: Fragment
    waiting: Fragment | None
    version: int
    stored: Stored | None = None
    stamp: Stamp | None = None


class Versions:
    """Fragments by name; safe among threads: a reader has one version for as long as she reads.

    Args:
        folder: keeps them over restarts and for all processes of a server; None where each start
            gives the data anew.
        new_samples: when waiting rows are shown; at once where None.
    """

    def __init__(self, folder: Path | None, new_samples: NewSamples | None) -> None:
        self._folder = VersionsFolder(folder / "versions") if folder and new_samples else None
        self._rule = new_samples
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        return list(self._held)

    def put(self, name: str, data: Any) -> None:
        """Assign a fragment's data; what is shown changes when enough rows are new.

        A program that starts again assigns what it assigned before: that takes nothing back of
        what was added since.
        """
        found = Fragment.of(data)
        with self._lock:
            if self._folder is None:
                self._held[name] = self._after(self._held.get(name), found)
                return
            given = _digest(found)
            with self._folder.alone():
                is_start = name not in self._held
                before = self._current(name)
                known = before.stored if before is not None else None
                if is_start and before is not None and known and known.given == given:
                    self._held[name] = before
                    return
                self._write(name, before, self._after(before, found), given)

    def append(self, name: str, rows: Any) -> None:
        """Add rows behind what is there, shown or waiting. KeyError where there is no fragment."""
        added = Fragment.of(rows)
        with self._lock:
            if self._folder is None:
                self._held[name] = self._joined(self._held[name], added)
                return
            with self._folder.alone():
                before = self._current(name) if name in self._held else None
                if before is None or before.stored is None:
                    raise KeyError(name)
                self._write(name, before, self._joined(before, added), before.stored.given)

    def published(self, name: str) -> tuple[Fragment, int]:
        """What is shown, and the number of that version."""
        held = self._seen(name)
        return held.shown, held.version

    def waiting(self, name: str) -> Fragment | None:
        """What will be shown once there is enough of it; None where that is shown already."""
        return self._seen(name).waiting

    def remove(self, name: str) -> None:
        with self._lock:
            self._held.pop(name, None)
            if self._folder:
                with self._folder.alone():
                    self._folder.remove(name)

    def _seen(self, name: str) -> _Held:
        """A fragment as the folder has it: another process may have published a version."""
        held = self._held[name]
        if self._folder is None or self._folder.stamp(name) == held.stamp:
            return held
        with self._lock, self._folder.alone():
            current = self._current(name)
            if current is None:
                del self._held[name]
                raise KeyError(name)
            self._held[name] = current
            return current

    def _current(self, name: str) -> _Held | None:
        """What the folder has now, under its lock; rows that are in memory are not read again."""
        assert self._folder is not None
        held, stamp = self._held.get(name), self._folder.stamp(name)
        if held is not None and held.stamp == stamp:
            return held
        stored = self._folder.read(name)
        if stored is None:
            return None
        if held is not None and held.stored is not None and held.stored.shown == stored.shown:
            shown = held.shown
        else:
            shown = self._folder.load(stored.shown)
        waiting = self._folder.load(stored.waiting) if stored.waiting else None
        return _Held(shown, waiting, stored.version, stored, stamp)

    def _write(self, name: str, before: _Held | None, after: _Held, given: str) -> None:
        assert self._folder is not None
        is_shown = before is not None and before.stored is not None and before.shown is after.shown
        if is_shown:
            assert before is not None
            assert before.stored is not None
            shown = before.stored.shown
        else:
            shown = self._folder.save(name, after.shown)
        waiting = self._folder.save(name, after.waiting) if after.waiting is not None else ""
        stored = Stored(after.version, shown, waiting, given)
        self._folder.write(name, stored)
        self._held[name] = replace(after, stored=stored, stamp=self._folder.stamp(name))

    def _joined(self, before: _Held, added: Fragment) -> _Held:
        return self._after(before, (before.waiting or before.shown).joined(added))

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


def _same(a: Fragment, b: Fragment) -> bool:
    return a.kinds == b.kinds and all(a.columns[k].equals(b.columns[k]) for k in a.columns)


def _digest(fragment: Fragment) -> str:
    """Of all rows, in their order: the same data has the same over restarts."""
    import pandas as pd

    digest = hashlib.sha256()
    for keys, column in fragment.columns.items():
        digest.update(repr((keys, fragment.kinds[keys], len(column))).encode())
        digest.update(pd.util.hash_pandas_object(column, index=False).to_numpy().tobytes())
    return digest.hexdigest()
