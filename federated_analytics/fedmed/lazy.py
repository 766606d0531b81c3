"""Values that are computed when they are used, with what a reader must know of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from federated_analytics.fedmed.batch import Query, resolve

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
UNTOLD = "missing: "
"""Starts the mark of a number of which a server does not tell how many rows had no value."""


@dataclass(frozen=True)
class Outcome(Generic[T_co]):
    """A value and what stands behind it.

    Fields:
        missing: rows without a value, which were skipped
        bounds: the true number lies between them; None where the value is exact
        marks: what else must be said wherever the value is shown
        versions: (server, fragment, version) of all that was read
    """

    value: T_co
    missing: int = 0
    bounds: tuple[Any, Any] | None = None
    marks: tuple[str, ...] = ()
    versions: frozenset[tuple[str, str, str]] = frozenset()

    @property
    def notes(self) -> tuple[str, ...]:
        """All that is said beside the value."""
        notes = list(self.marks)
        if self.bounds is not None:
            notes.append(f"between {_end(self.bounds[0])} and {_end(self.bounds[1])}")
        if self.missing and not any(mark.startswith(UNTOLD) for mark in self.marks):
            notes.append(f"{self.missing} missing")
        if len({name[:2] for name in self.versions}) < len(self.versions):
            notes.append("stands on more than one version of a fragment")
        return tuple(notes)


def _end(bound: Any) -> str:
    return f"{bound:g}" if isinstance(bound, int | float) else str(bound)


class Lazy(Generic[T]):
    """A value that is asked for when it is first used.

    Args:
        queries: what must be answered first; sent together with all else that is pending.
        compute: makes the value of the answers.
        parts: other values that `compute` uses; they are computed before, from the first on, so
            that a sum of thousands in a loop is no deep recursion.
    """

    def __init__(
        self,
        queries: Iterable[Query],
        compute: Callable[[], Outcome[T]],
        parts: Iterable[Lazy[Any]] = (),
    ) -> None:
        self._queries = tuple(queries)
        self._compute = compute
        self._parts = tuple(parts)
        self._outcome: Outcome[T] | None = None
        self._lock = threading.Lock()

    @property
    def outcome(self) -> Outcome[T]:
        """The value with its bounds, missing rows, marks and versions. AskFailed where none."""
        if self._outcome is None:
            resolve(self._queries)
            for value in _unfinished(self):
                value._finish()
        return self._finish()

    def _finish(self) -> Outcome[T]:
        with self._lock:
            if self._outcome is None:
                self._outcome = self._compute()
            return self._outcome

    @property
    def value(self) -> T:
        return self.outcome.value

    @property
    def missing(self) -> int:
        """Rows without a value, which the number leaves out."""
        return self.outcome.missing

    @property
    def notes(self) -> tuple[str, ...]:
        return self.outcome.notes

    @property
    def queries(self) -> tuple[Query, ...]:
        return self._queries

    def __repr__(self) -> str:
        notes = self.notes
        return f"{self._shown()} ({'; '.join(notes)})" if notes else self._shown()

    def _shown(self) -> str:
        return str(self.value)


def _unfinished(value: Lazy[Any]) -> list[Lazy[Any]]:
    """The values below one that are not computed yet, each behind those that it is made of."""
    found: dict[int, Lazy[Any]] = {}
    waiting = [(value, False)]
    while waiting:
        one, are_parts_found = waiting.pop()
        if one._outcome is not None or id(one) in found:
            continue
        if are_parts_found:
            found[id(one)] = one
            continue
        waiting.append((one, True))
        waiting.extend((part, False) for part in one._parts)
    return list(found.values())


def combined(function: Callable[..., T], parts: Iterable[Lazy[Any]]) -> Callable[[], Outcome[T]]:
    """Computes a function of several values, with the notes of all of them."""
    held = tuple(parts)

    def compute() -> Outcome[T]:
        outcomes = [part.outcome for part in held]
        value = function(*(outcome.value for outcome in outcomes))
        return joined(value, outcomes)

    return compute


def joined(value: T, outcomes: Iterable[Outcome[Any]]) -> Outcome[T]:
    """A value made of several: their marks, their versions, and that one was approximate."""
    held = list(outcomes)
    marks = list(dict.fromkeys(mark for outcome in held for mark in outcome.marks))
    approximate = "of a number that is known between bounds"
    if any(outcome.bounds for outcome in held) and approximate not in marks:
        marks.append(approximate)
    versions = frozenset[tuple[str, str, str]]().union(*(outcome.versions for outcome in held))
    missing = max((outcome.missing for outcome in held), default=0)
    return Outcome(value, missing, None, tuple(marks), versions)
