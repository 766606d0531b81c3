"""How much a service takes: of bytes, connections, seconds and studies at once."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from federated_analytics.site_service.metrics import Metrics
from federated_analytics.site_service.socket_client import MAX_BODY_BYTES

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """Units: bytes, seconds, connections, studies.

    Fields:
        concurrent: studies that run at once
        queue: studies that wait for a place; the next is told that the site is busy
        bodies_bytes: what all requests that are held at once may have together
        read_seconds: a request has to be here whole after so long
        keep_alive_seconds: how long a connection may stay open without a request
        stop_seconds: how long running studies may take to finish once the service is stopped
    """

    concurrent: int = 2
    queue: int = 16
    body_bytes: int = MAX_BODY_BYTES
    bodies_bytes: int = 16 * MAX_BODY_BYTES
    header_bytes: int = 16_384
    connections: int = 256
    read_seconds: float = 10.0
    keep_alive_seconds: int = 5
    stop_seconds: int = 30


@dataclass
class Places:
    """Places for studies that run at once, and a queue for those that wait; one event loop's."""

    limits: Limits
    metrics: Metrics
    _free: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.limits.concurrent)

    @property
    def full(self) -> bool:
        """Whether one more study would find no place, not even to wait."""
        taken = self.metrics.running + self.metrics.queued
        return taken >= self.limits.concurrent + self.limits.queue

    async def run(self, work: Callable[[], T], wanted: Callable[[], Awaitable[bool]]) -> T | None:
        """`work()` in a thread, once a place is free; None where nobody wants it any more."""
        self.metrics.queued += 1
        try:
            await self._free.acquire()
        finally:
            self.metrics.queued -= 1
        self.metrics.running += 1
        try:
            if not await wanted():
                return None
            return await in_thread(work)
        finally:
            self.metrics.running -= 1
            self._free.release()


async def in_thread(work: Callable[[], T]) -> T:
    """`work()` in a thread of its own, which does not keep a stopped process alive."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # handed on to the waiting task
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, daemon=True, name="study").start()
    return await done
