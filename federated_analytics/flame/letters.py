"""Numbered, confirmed letters: exactly-once delivery over a carrier that loses and repeats.

Each side numbers what it sends from 1 and keeps it until the other side has confirmed it; the
receiver takes number n only after n - 1. A bundle is `{"confirmed": n, "letters": [[n, …]]}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

Letter = Mapping[str, Any]


def bundle(confirmed: int, letters: Iterable[tuple[int, Letter]]) -> dict[str, Any]:
    """What one side hands to the other."""
    return {"confirmed": confirmed, "letters": [[number, letter] for number, letter in letters]}


class Outgoing:
    """Letters that the other side has not confirmed yet, in order."""

    def __init__(self) -> None:
        self._letters: dict[int, Letter] = {}
        self._last = 0

    def __bool__(self) -> bool:
        return bool(self._letters)

    def add(self, letter: Letter) -> None:
        self._last += 1
        self._letters[self._last] = letter

    def confirm(self, number: int) -> None:
        """Forget what has arrived; an old confirmation changes nothing."""
        for known in [known for known in self._letters if known <= number]:
            del self._letters[known]

    def waiting(self, max_bytes: int) -> list[tuple[int, Letter]]:
        """The first unconfirmed letters, about `max_bytes` of them, and at least one."""
        return first_bytes(self._letters.items(), max_bytes)


class Arrivals:
    """How far the other side's letters have been taken."""

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def accept(self, number: int) -> bool:
        """True exactly once for each number, in order."""
        if number != self.last + 1:
            return False
        self.last = number
        return True

    @contextmanager
    def kept(self) -> Iterator[None]:
        """What is taken within, unless it fails: then it is not confirmed, and comes again."""
        before = self.last
        try:
            yield
        except BaseException:
            self.last = before
            raise


def first_bytes(letters: Iterable[tuple[int, Letter]], max_bytes: int) -> list[tuple[int, Letter]]:
    """The first letters of about `max_bytes` together, and at least one."""
    taken: list[tuple[int, Letter]] = []
    size = 0
    for number, letter in letters:
        size += _size(letter)
        if taken and size > max_bytes:
            break
        taken.append((number, letter))
    return taken


def _size(letter: Letter) -> int:
    """About how many bytes a letter takes; only messages, logs and objects are large."""
    for name in ("payload", "text", "data", "release"):
        if isinstance(text := letter.get(name), str):
            return 300 + len(text)
    return 300 if len(letter) < 8 else len(json.dumps(letter))
