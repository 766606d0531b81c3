"""Stopping a study from another thread: the statement that runs is cancelled in the database."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlalchemy as sa

CANCEL_SECONDS = 5.0
"""How long the database may take to hear that a statement is to be cancelled."""


class Stopped(Exception):
    """The study is not to go on.

    None of `errors`, on purpose: an analysis that fails is refused by itself and the others go
    on, but this ends the whole study.
    """


@dataclass
class Stop:
    """One study's. `ask` may be called from any thread, and as often as one likes.

    Fields:
        reason: why it is to stop; "" while it is not
    """

    reason: str = ""
    _connection: Any = field(default=None, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def ask(self, reason: str) -> None:
        """Stop it: no further statement begins, and the one that runs is cancelled.

        A statement that was about to begin may be missed: ask again until the study has ended.
        """
        import psycopg

        with self._lock:
            self.reason = self.reason or reason
            if self._connection is not None:
                # Lost or slow: then the statement's own time limit ends it.
                with contextlib.suppress(psycopg.Error, OSError):
                    self._connection.cancel_safe(timeout=CANCEL_SECONDS)

    def check(self) -> None:
        """Stopped where it is to stop."""
        if self.reason:
            raise Stopped(self.reason)

    @contextlib.contextmanager
    def over(self, connection: sa.Connection) -> Iterator[None]:
        """While this lasts, the connection's statements are those that `ask` cancels."""
        import sqlalchemy as sa

        def before(*_: object) -> None:
            self.check()

        self.check()
        sa.event.listen(connection, "before_cursor_execute", before)
        with self._lock:
            self._connection = connection.connection.driver_connection
        try:
            yield
        finally:
            # Once nobody cancels it any more: a cancel that came late would hit the next study.
            with self._lock:
                self._connection = None
            sa.event.remove(connection, "before_cursor_execute", before)
