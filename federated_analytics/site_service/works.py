"""The studies that a service works on: so many at once, each until it is done or stopped.

A study is stopped when nobody has asked for it for a while, when the operator cancels it, when
its time is over, and when the service ends.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal

from federated_analytics.errors import LedgerError
from federated_analytics.omop.stop import Stop, Stopped
from federated_analytics.privacy.running import RunningStudies

log = logging.getLogger(__name__)

Reason = Literal["abandoned", "cancelled", "timeout", "stopped"]
ABANDONED: Final = "abandoned"
CANCELLED: Final = "cancelled"
TIMEOUT: Final = "timeout"
STOPPED: Final = "stopped"
TICK_SECONDS = 0.25
"""How often it is looked whether a study is to stop."""
SHOWN_AFTER_SECONDS = 0.5
"""A study that is done before costs no write to the state folder."""
GRACE_SECONDS = 15.0
"""A study that has not stopped so long after it was told to is left to itself, unreleased."""


@dataclass
class Work:
    """One study that is worked on.

    Args:
        request: SHA-256 of the signed request
        asked: the study's name, or the kind of the request
        seconds: how long it may work, from when it has a place
        make: its answer; may raise Stopped, and nothing else
        settle: told once what became of it: its answer, or why it was stopped
    """

    request: str
    analyst: str
    project: str
    asked: str
    seconds: float
    make: Callable[[Stop], bytes]
    settle: Callable[[bytes | None, str], None]
    stop: Stop = field(default_factory=Stop, init=False)
    done: threading.Event = field(default_factory=threading.Event, init=False)
    asked_at: float = field(default_factory=time.monotonic, init=False)
    waiting: int = field(default=0, init=False)
    started: float = field(default=0.0, init=False)
    told: float = field(default=0.0, init=False)
    holds_place: bool = field(default=False, init=False)
    settled: bool = field(default=False, init=False)


@dataclass
class Works:
    """All that one service works on.

    Args:
        concurrent: studies that work at once; the others wait for a place
        abandon_seconds: a study that nobody has asked for so long is stopped
    """

    concurrent: int
    abandon_seconds: float
    running: RunningStudies
    _works: dict[str, Work] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _ends_at: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._places = threading.Semaphore(self.concurrent)
        self.running.clear()

    @property
    def stopping(self) -> bool:
        """Whether no more work is begun."""
        return self._ends_at is not None

    def counts(self) -> tuple[int, int]:
        """How many studies work, and how many wait for a place."""
        with self._lock:
            started = sum(bool(work.started) for work in self._works.values())
            return started, len(self._works) - started

    def start(self, work: Work) -> None:
        """Begin it, in threads of its own."""
        with self._lock:
            self._works[work.request] = work
        threading.Thread(target=self._run, args=(work,), daemon=True, name="study").start()
        threading.Thread(target=self._watch, args=(work,), daemon=True, name="watch").start()

    def stop_of(self, request: str) -> Stop | None:
        """What stops the study that is worked on for a request; None where none is."""
        with self._lock:
            work = self._works.get(request)
        return work.stop if work else None

    def wait(self, request: str, seconds: float) -> Work | None:
        """Until it is done, for so long at most; somebody asks for it as long as this lasts."""
        with self._lock:
            work = self._works.get(request)
            if work is None:
                return None
            work.waiting += 1
        try:
            work.done.wait(seconds)
        finally:
            with self._lock:
                work.waiting -= 1
                work.asked_at = time.monotonic()
        return work

    def end(self, seconds: float) -> None:
        """Let those that work finish for so long, then stop them; begin no more."""
        self._ends_at = time.monotonic() + seconds
        with self._lock:
            left = list(self._works.values())
        for work in left:
            work.done.wait(max(0.0, self._ends_at + GRACE_SECONDS - time.monotonic()))
        with suppress(LedgerError):  # it is cleared at the next start as well
            self.running.clear()

    def _run(self, work: Work) -> None:
        body: bytes | None = None
        try:
            while not self._places.acquire(timeout=TICK_SECONDS):
                work.stop.check()
            work.holds_place = True
            work.stop.check()
            work.started = time.monotonic()
            body = work.make(work.stop)
        except Stopped:
            log.info("a study was stopped: %s", work.stop.reason)
        except Exception:
            log.exception("the study could not be worked on")
        self._finish(work, body)
        self._free(work)  # where it was left to itself before it had its place

    def _finish(self, work: Work, body: bytes | None) -> None:
        """Settled once: by its own thread, or by the one that watches it."""
        with self._lock:
            if work.settled:
                return
            work.settled = True
        try:
            work.settle(body, "" if body is not None else work.stop.reason)
        except Exception:
            log.exception("the answer could not be kept")
        finally:
            with self._lock:
                if self._works.get(work.request) is work:  # it may have been begun again
                    del self._works[work.request]
            self._free(work)
            work.done.set()

    def _free(self, work: Work) -> None:
        with self._lock:
            held, work.holds_place = work.holds_place, False
        if held:
            self._places.release()

    def _watch(self, work: Work) -> None:
        begun = time.monotonic()
        shown = False
        while not work.done.wait(TICK_SECONDS):
            try:
                if not shown and time.monotonic() - begun > SHOWN_AFTER_SECONDS:
                    self.running.begin(work.request, work.analyst, work.project, work.asked)
                    shown = True
            except LedgerError:
                log.warning("a study that runs cannot be shown to the operator")
            self._look(work, shown)
        if shown:
            try:
                self.running.end(work.request)
            except LedgerError:
                log.warning("a study that ended is still shown as running")

    def _look(self, work: Work, shown: bool) -> None:
        now = time.monotonic()
        reason = work.stop.reason or self._why(work, shown, now)
        if not reason:
            return
        work.told = work.told or now
        work.stop.ask(reason)
        if now - work.told > GRACE_SECONDS:
            log.warning("a study did not stop: it is left to itself")
            self._finish(work, None)

    def _why(self, work: Work, shown: bool, now: float) -> Reason | None:
        if self._ends_at is not None and now > self._ends_at:
            return STOPPED
        if work.started and now - work.started > work.seconds:
            return TIMEOUT
        if not work.waiting and now - work.asked_at > self.abandon_seconds:
            return ABANDONED
        return CANCELLED if shown and self._is_cancelled(work.request) else None

    def _is_cancelled(self, request: str) -> bool:
        try:
            found = self.running.find(request)
        except LedgerError:
            return False  # said when it was to be shown; the other reasons still stop it
        return found is not None and bool(found.cancelled_by)
