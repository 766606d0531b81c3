"""The calls that a worker's SDK makes to its node, by name; each a method of `NodeCalls`."""

from __future__ import annotations

import asyncio
import io
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Protocol, cast

from federated_analytics.flame.errors import (
    InvalidArgument,
    NotTheAggregator,
    UnknownDataSource,
)
from federated_analytics.flame.intermediate import IntermediateData
from federated_analytics.flame.local_storage import LocalStorage
from federated_analytics.flame.node_host import NodeHost
from federated_analytics.flame.release_calls import OwnSite, ReleaseCalls
from federated_analytics.flame.router import GONE

Answer = tuple[Any, BinaryIO | None]


class Sources(Protocol):
    """A node's data sources: `data_sources.DataSources`."""

    def listed(self) -> list[dict[str, str]]: ...
    def fhir(self, queries: list[str] | None) -> list[dict[str, Any]] | None: ...
    def s3(self, keys: list[str] | None) -> list[dict[str, str | bytes]] | None: ...
    async def forward(
        self, data_id: str, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]: ...


class NodeCalls(ReleaseCalls):
    """Answers one worker.

    Args:
        sources: None where the node has no data.
        own_site: None where it has no OMOP database.
    """

    def __init__(
        self,
        host: NodeHost,
        data: IntermediateData,
        local: LocalStorage,
        submit: Callable[[BinaryIO], str],
        sources: Sources | None = None,
        charge: Callable[[float], None] = lambda epsilon: None,
        own_site: OwnSite | None = None,
    ) -> None:
        self._host = host
        self._data = data
        self._local = local
        self._submit = submit
        self._sources = sources
        self._charge = charge
        self._own_site = own_site

    def answer(
        self,
        client: str,
        number: int,
        name: str,
        arguments: Mapping[str, Any],
        stream: BinaryIO | None,
    ) -> Answer:
        """Do a call; one that was done before a restart is answered as it was then."""
        method = getattr(self, f"call_{name}", None)
        if method is None:
            raise InvalidArgument(f"There is no call {name[:40]!r}.")
        if name == "receive":
            return self._receive(client, number, **arguments), None
        given = {**arguments, "stream": stream} if stream is not None else dict(arguments)
        if name not in _ONCE | _AT_ONCE:
            value = method(**given)
            return value if isinstance(value, tuple) else (value, None)
        host = self._host
        with host.locked():
            kept = host.state.answered(client, number)
        if kept is not None:
            return kept["value"], None
        if name not in _AT_ONCE:
            value = method(**given)
            with host.locked(), host.state.change():
                host.state.keep_answer(client, number, {"value": value})
            return value, None
        with host.locked(), host.state.change():
            value = method(**given)
            host.state.keep_answer(client, number, {"value": value})
        host.announce()
        return value, None

    # lifecycle

    def call_start(self) -> dict[str, Any]:
        """Who this node is; from now on it is running."""
        settings = self._host.settings
        self._host.set_status("running")
        return {
            "node": settings.node,
            "role": settings.role,
            "nodes": dict(settings.nodes),
            "analysis": settings.analysis,
            "project": settings.project,
            "parameters": dict(settings.parameters),
        }

    def call_script_ended(self, status: str, reason: str) -> None:
        ended_by = self._host.ended_by
        if status == "failed" and ended_by and self._host.settings.role != "aggregator":
            status, reason = "finished", f"ended by {ended_by}; then: {reason}"
        self._host.set_status(status if status in GONE else "failed", reason)

    def call_end_analysis(self) -> None:
        self._host.end_analysis()

    def call_ready(
        self, nodes: list[str], interval: float, timeout: float | None
    ) -> dict[str, bool]:
        """Wait until all are ready or can no longer be; the hub is asked again each interval."""
        host = self._host
        host.check_nodes(nodes, "nodes")
        end = None if timeout is None else time.monotonic() + timeout

        def settled() -> bool:
            return all(self._ready(node) or host.gone(node) for node in nodes)

        while not host.wait_for(settled, _sooner(time.monotonic() + interval, end)):
            if end is not None and time.monotonic() >= end:
                break
            host.post({"kind": "asked", "nodes": nodes})
        return {node: self._ready(node) for node in nodes}

    def _ready(self, node: str) -> bool:
        if node == self._host.settings.node:
            return True
        partner = self._host.partner(node)
        return bool(partner["ready"]) and partner["status"] in ("running", "finished")

    # messages

    def call_send(
        self,
        id: str,
        receivers: list[str],
        category: str,
        payload: str,
        limit: float | None,
    ) -> list[str]:
        """Send and wait for acknowledgements; those that came."""
        self._host.check_nodes(receivers, "receivers")
        deadline = None if limit is None else time.monotonic() + limit
        self._host.send(id, receivers, category, payload)
        return self._host.wait_for_acknowledgements(id, receivers, deadline)

    def call_receive(self) -> None:
        """See `_receive`."""

    def _receive(
        self,
        client: str,
        number: int,
        *,
        senders: list[str],
        category: str,
        id: str | None,
        after: int,
        timeout: float | None,
    ) -> dict[str, Any]:
        host = self._host
        host.check_nodes(senders, "senders")
        with host.locked():
            kept = host.state.answered(client, number)
        if kept is not None:
            return host.handed_over(kept)
        return host.receive(
            senders,
            category,
            id=id,
            after=after,
            deadline=None if timeout is None else time.monotonic() + timeout,
            keep=lambda numbers: host.state.keep_answer(client, number, numbers),
        )

    def call_last_arrival(self) -> int:
        return self._host.last_arrival()

    def call_messages(self, status: str) -> list[dict[str, Any]]:
        return self._host.messages(status)

    def call_delete(self, ids: list[str]) -> int:
        return self._host.state.delete(ids)

    def call_clear(self, status: Any, min_age: float | None) -> int:
        before = None if min_age is None else time.time() - min_age
        return self._host.state.clear(status, before)

    # storage

    def call_save_local(self, stream: BinaryIO, tag: str | None) -> dict[str, str]:
        return self._data.save_local(stream, tag)

    def call_save_global(self, stream: BinaryIO) -> dict[str, str]:
        return self._data.save_global(stream)

    def call_save_sealed(
        self, stream: BinaryIO, receivers: list[str], timeout: float | None, partial: bool
    ) -> dict[str, dict[str, str]]:
        return self._data.save_sealed(stream, receivers, timeout, partial)

    def call_open_local(self, id: str) -> Answer:
        return None, self._data.open_local(id)

    def call_open_global(self, id: str, sender: str | None) -> Answer:
        return None, self._data.open_global(id, sender)

    def call_tagged(self, tag: str, option: Any) -> list[str]:
        return self._local.tagged(tag, option)

    def call_tags(self, containing: str | None) -> list[str]:
        return self._local.tags(containing)

    def call_charge(self, epsilon: float) -> None:
        self._only_aggregator()
        self._charge(epsilon)

    def call_submit(self, stream: BinaryIO, id: str, output_type: str) -> dict[str, str]:
        self._only_aggregator()
        stored = self._submit(stream)
        self._host.post(
            {"kind": "submission", "id": id, "output_type": output_type, "object": stored}
        )
        return {"status": "success", "id": id}

    def _only_aggregator(self) -> None:
        if self._host.settings.role != "aggregator":
            raise NotTheAggregator("Only the aggregator submits a final result.")

    # data sources

    def call_sources(self) -> list[dict[str, str]]:
        return self._sources.listed() if self._sources is not None else []

    def call_fhir(self, queries: list[str]) -> Answer:
        return None, _dumped(self._sources.fhir(queries) if self._sources is not None else [])

    def call_s3(self, keys: list[str]) -> Answer:
        return None, _dumped(self._sources.s3(keys or None) if self._sources is not None else [])

    def call_forward(
        self,
        data_id: str,
        method: str,
        target: str,
        headers: dict[str, str],
        stream: BinaryIO | None = None,
    ) -> Answer:
        """A request of a worker's `AsyncClient`, made by the node with its own credentials."""
        if self._sources is None or all(s["id"] != data_id for s in self._sources.listed()):
            raise UnknownDataSource(f"There is no data source {data_id[:80]!r}.", where="data_id")
        body = stream.read() if stream is not None else b""
        status, kept, content = asyncio.run(
            self._sources.forward(data_id, method, target, headers, body)
        )
        return {"status": status, "headers": kept}, io.BytesIO(content)

    # log and progress

    def call_log(self, level: str, text: str) -> None:
        self._host.state.post({"kind": "log", "level": level, "text": text[:MAX_LOG_TEXT]})

    def call_progress(self) -> int:
        with self._host.locked():
            return int(self._host.state.get("progress", 0))

    def call_set_progress(self, value: int) -> None:
        with self._host.locked():
            self._host.state.put("progress", value)
        self._host.post({"kind": "progress", "value": value})


MAX_LOG_TEXT = 100_000
_ONCE = frozenset({"save_local", "save_global", "save_sealed", "submit", "charge"}) | frozenset(
    {"omop", "send_release", "await_releases"}
)
_AT_ONCE = frozenset({"delete", "clear", "log"})
"""Done and answered in one transaction: a service that is killed has done both or neither."""


def _sooner(first: float, second: float | None) -> float:
    return first if second is None else min(first, second)


def _dumped(value: Any) -> BinaryIO:
    """A value as a file that travels to the worker; not kept in memory when it is large."""
    from federated_analytics.flame.serialisation import dump

    out = cast(BinaryIO, tempfile.SpooledTemporaryFile(1 << 20))  # noqa: SIM115
    dump(value, out)
    out.seek(0)
    return out
