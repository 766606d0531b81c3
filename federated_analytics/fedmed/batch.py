"""Everything asked and not yet answered, and how it goes out: one request a server."""

from __future__ import annotations

import itertools
import secrets
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, cast, runtime_checkable

from federated_analytics.fedmed.errors import Failure
from federated_analytics.fedmed.protocol import MAX_ASKS, MAX_NODES, Ask, Asks

if TYPE_CHECKING:
    from federated_analytics.messages import Answer, Disclosure

_serial = itertools.count()
_claiming = threading.Lock()


@dataclass(frozen=True)
class Fault:
    """Why nothing came back from a server at all."""

    code: str
    message: str
    remedy: str = ""


class Channel(Protocol):
    """A way to one or more servers. Equal channels share a request."""

    @property
    def seconds(self) -> float:
        """How long to wait for an answer."""
        ...

    def exchange(self, requests: Mapping[str, bytes]) -> Mapping[str, bytes | Fault]:
        """Send each server its request and bring back a release, or why there is none."""
        ...


Begun = Callable[[], Mapping[str, "bytes | Fault"]]
"""Waits for the replies to requests that were sent."""


@runtime_checkable
class Beginning(Protocol):
    """A channel that can send without waiting, so that one thread asks many servers at once."""

    def begin(self, requests: Mapping[str, bytes]) -> Begun | None:
        """Send what an open connection takes; None where `exchange` must first make one."""
        ...


class Source(Protocol):
    """One fragment: where it is, and its name there."""

    @property
    def channel(self) -> Channel: ...

    @property
    def server(self) -> str: ...

    @property
    def fragment(self) -> str: ...


@dataclass(frozen=True)
class Reply:
    """One server's answer to one ask; `min_count` of its policy, 1 where it has none."""

    answer: Answer
    min_count: int


@dataclass(eq=False)
class Query:
    """One reduction over all fragments: an ask for each of them, answered together.

    Args:
        explain: called where a server refuses the kind of its values: raises what says more, such
            as how the fragments differ.
    """

    sources: tuple[Source, ...]
    asks: tuple[Ask, ...]
    partial: bool = False
    explain: Callable[[], None] = field(default=lambda: None, repr=False)
    serial: int = field(default_factory=lambda: next(_serial))
    replies: tuple[Reply | Failure, ...] = ()
    _taken: bool = False
    _done: threading.Event = field(default_factory=threading.Event, repr=False)

    def __post_init__(self) -> None:
        _waiting().add(self)
        for batch in _open():
            batch.queries.append(self)

    @property
    def is_answered(self) -> bool:
        return self._done.is_set()

    def resolve(self) -> None:
        """Ask, together with everything else that this thread has pending."""
        resolve([self])


class _Pending(threading.local):
    """Each thread's own: what another thread wrote down is not sent with it."""

    def __init__(self) -> None:
        self.queries: weakref.WeakSet[Query] = weakref.WeakSet()
        self.batches: list[Batch] = []


_pending = _Pending()


def _waiting() -> weakref.WeakSet[Query]:
    return _pending.queries


def _open() -> list[Batch]:
    return _pending.batches


class Batch:
    """Sends everything that is asked inside at its end, in one request a server.

    >>> from federated_analytics import fedmed as fm
    >>> data = fm.FedData([fm.Local([1, 2, 3]), fm.Local([4.5])])
    >>> with fm.Batch():
    ...     total, rows = data.sum(), data.len()
    >>> float(total), int(rows)
    (10.5, 4)

    Raises:
        AskFailed: at the end, where a server did not answer.
    """

    def __init__(self) -> None:
        self.queries: list[Query] = []

    def __enter__(self) -> Self:
        _open().append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _open().remove(self)
        if error is not None:
            return
        from federated_analytics.fedmed.gathered import gather

        resolve(self.queries)
        for query in self.queries:
            gather(query)


def resolve(queries: Sequence[Query]) -> None:
    """Send these and all that is pending in this thread; return when these are answered."""
    if any(not query.is_answered for query in queries):
        mine = _claim([*queries, *_waiting()])
        try:
            _send(mine)
        except BaseException:
            for query in mine:
                query._taken = False
            raise
    for query in queries:
        query._done.wait()


def _claim(queries: Iterable[Query]) -> list[Query]:
    with _claiming:
        mine = {q.serial: q for q in queries if not q._taken}
        for query in mine.values():
            query._taken = True
            _waiting().discard(query)
    return [mine[serial] for serial in sorted(mine)]


@dataclass
class _Server:
    """What one server is asked: its asks, each once, and who waits for which."""

    asks: dict[str, Ask] = field(default_factory=dict)
    waiting: list[tuple[Query, int, str]] = field(default_factory=list)

    def add(self, query: Query, position: int) -> None:
        ask = query.asks[position]
        text = Asks((ask,)).to_json()
        self.asks[text] = ask
        self.waiting.append((query, position, text))


def _send(queries: Sequence[Query]) -> None:
    channels: dict[Channel, dict[str, _Server]] = {}
    requests = _Requests()
    for query in queries:
        for position, source in enumerate(query.sources):
            servers = channels.setdefault(source.channel, {})
            servers.setdefault(source.server, _Server()).add(query, position)
    found: dict[tuple[int, int], Reply | Failure] = {}
    for replies in _at_once(channels, requests):
        found.update(replies)
    for query in queries:
        query.replies = tuple(found[query.serial, i] for i in range(len(query.sources)))
        query._done.set()


def _at_once(
    channels: Mapping[Channel, Mapping[str, _Server]], requests: _Requests
) -> Iterator[dict[tuple[int, int], Reply | Failure]]:
    """First what can be sent at once is, to every server; a thread each waits for the others."""
    begun = {channel: _begun(channel, servers, requests) for channel, servers in channels.items()}
    ours = [channel for channel, first in begun.items() if first is not None]
    theirs = [channel for channel, first in begun.items() if first is None]
    if theirs and not ours:
        ours.append(theirs.pop())
    if not theirs:
        yield from (_ask(c, channels[c], requests, begun[c]) for c in ours)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=min(64, len(theirs))) as pool:
        waiting = [pool.submit(_ask, c, channels[c], requests) for c in theirs]
        yield from (_ask(c, channels[c], requests, begun[c]) for c in ours)
        yield from (one.result() for one in waiting)


def _begun(channel: Channel, servers: Mapping[str, _Server], requests: _Requests) -> Begun | None:
    if not _begins(type(channel)):
        return None
    first = {name: next(_portions(server)) for name, server in servers.items()}
    bodies = {name: requests.body(portion, channel) for name, portion in first.items()}
    return cast(Beginning, channel).begin(bodies)


@cache
def _begins(channel: type[Channel]) -> bool:
    return issubclass(channel, Beginning)


def _ask(
    channel: Channel,
    servers: Mapping[str, _Server],
    requests: _Requests,
    first: Begun | None = None,
) -> dict[tuple[int, int], Reply | Failure]:
    """Every reply of a channel's servers, by query and position."""
    answered: dict[tuple[str, str], Reply | Fault] = {}
    waves = itertools.zip_longest(*(_portions(server) for server in servers.values()))
    for wave in waves:
        portions = {n: p for n, p in zip(servers, wave, strict=True) if p is not None}
        if first is not None:
            replies, first = first(), None
        else:
            replies = channel.exchange(
                {name: requests.body(portion, channel) for name, portion in portions.items()}
            )
        for name, portion in portions.items():
            for text, reply in _read(replies[name], portion).items():
                answered[name, text] = reply
    return {
        (query.serial, position): _named(answered[name, text], query, position)
        for name, server in servers.items()
        for query, position, text in server.waiting
    }


def _portions(server: _Server) -> Iterator[dict[str, Ask]]:
    """As few requests as the limits of one allow: almost always one."""
    portion: dict[str, Ask] = {}
    nodes = 0
    for text, ask in server.asks.items():
        size = sum(e.size for e in (*ask.rows, *ask.by))
        if portion and (len(portion) == MAX_ASKS or nodes + size > MAX_NODES):
            yield portion
            portion, nodes = {}, 0
        portion[text] = ask
        nodes += size
    yield portion


@dataclass
class _Requests:
    """The bodies of one run's requests; servers that are asked the same get the same."""

    run: str = field(default_factory=lambda: secrets.token_hex(16))
    made: dict[tuple[object, ...], bytes] = field(default_factory=dict)

    def body(self, portion: Mapping[str, Ask], channel: Channel) -> bytes:
        from federated_analytics import wire
        from federated_analytics.messages import Request

        key = channel.seconds, *portion
        if key not in self.made:
            asks = Asks(tuple(portion.values())).to_json()
            request = Request(asks, 1, self.run, channel.seconds, kind="fedmed")
            self.made[key] = wire.encode_request(request)
        return self.made[key]


def _read(reply: bytes | Fault, portion: Mapping[str, Ask]) -> dict[str, Reply | Fault]:
    from federated_analytics import wire
    from federated_analytics.errors import FederatedAnalyticsError

    if isinstance(reply, Fault):
        return dict.fromkeys(portion, reply)
    try:
        disclosure = wire.decode_release(reply)
    except FederatedAnalyticsError as error:
        return dict.fromkeys(portion, Fault(error.code, error.message, error.remedy))
    if disclosure.refusal is not None:
        refusal = disclosure.refusal
        return dict.fromkeys(portion, Fault(refusal.code, refusal.message, refusal.remedy))
    answers = {answer.analysis: answer for answer in disclosure.answers}
    return {text: _one(answers.get(i), disclosure) for i, text in enumerate(portion)}


def _one(answer: Answer | None, disclosure: Disclosure) -> Reply | Fault:
    if answer is None:
        return Fault("invalid_message", "The server left this operation without an answer.")
    if answer.refusal is not None:
        refusal = answer.refusal
        place = f"{refusal.where}: " if refusal.where else ""
        return Fault(refusal.code, place + refusal.message, refusal.remedy)
    return Reply(answer, disclosure.terms.min_count if disclosure.terms else 1)


def _named(reply: Reply | Fault, query: Query, position: int) -> Reply | Failure:
    if isinstance(reply, Reply):
        return reply
    source, ask = query.sources[position], query.asks[position]
    return Failure(
        source.server, source.fragment, str(ask), reply.code, reply.message, reply.remedy
    )
