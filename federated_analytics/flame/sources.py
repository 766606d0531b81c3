"""The data source client's methods of `FlameCoreSDK`."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any

from federated_analytics.flame.errors import FlameError, UnknownDataSource
from federated_analytics.flame.node_connection import NodeConnection
from federated_analytics.flame.transfer import loaded

if TYPE_CHECKING:
    import httpx


class SourceMethods:
    """The node's FHIR servers and S3 stores. The node asks them; the script sees no credential."""

    _connection: NodeConnection

    def get_data_sources(self) -> list[dict[str, str]]:
        """Id, name and type of each source that this project has at this node."""
        return [dict(source) for source in self._connection.call("sources")]

    def get_data_client(self, data_id: str) -> httpx.AsyncClient:
        """A client for one source: paths below the FHIR server, or keys of the S3 store.

        Raises:
            UnknownDataSource: (a ValueError, and logged) no source has the id.
        """
        if all(source["id"] != data_id for source in self.get_data_sources()):
            error = UnknownDataSource(f"There is no data source {data_id!r}.", where="data_id")
            self._connection.call("log", level="error", text=str(error))
            raise error
        return _client(self._connection, data_id)

    def get_fhir_data(
        self, fhir_queries: list[str] | None = None
    ) -> list[dict[str, str | dict[str, Any]]] | None:
        """For each FHIR server a dictionary with the queries as keys; None without queries.

        Links to further pages are followed. A query that fails is missing, with a logged error.
        """
        if not fhir_queries:
            return None
        found: list[dict[str, str | dict[str, Any]]] = loaded(
            self._connection, "fhir", queries=[str(query) for query in fhir_queries]
        )
        return found

    def get_s3_data(self, s3_keys: list[str] | None = None) -> list[dict[str, str]] | None:
        """For each S3 store a dictionary of contents by key; all keys when none is given.

        Contents are text where they are valid UTF-8, else bytes.
        """
        found: list[dict[str, str]] = loaded(
            self._connection, "s3", keys=[str(key) for key in s3_keys or []]
        )
        return found


def _client(connection: NodeConnection, data_id: str) -> httpx.AsyncClient:
    """An AsyncClient whose requests the node makes."""
    import httpx

    class ThroughNode(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            body = await request.aread()
            target = request.url.raw_path.decode().lstrip("/")
            try:
                value, content = await asyncio.to_thread(
                    _forwarded, connection, data_id, request.method, target, request.headers, body
                )
            except FlameError as error:
                raise httpx.TransportError(str(error), request=request) from error
            return httpx.Response(
                value["status"], headers=value["headers"], content=content, request=request
            )

    return httpx.AsyncClient(transport=ThroughNode(), base_url="http://data-source")


def _forwarded(
    connection: NodeConnection, data_id: str, method: str, target: str, headers: Any, body: bytes
) -> tuple[dict[str, Any], bytes]:
    kept = {name: value for name, value in headers.items() if name in _KEPT_HEADERS}
    value, stream = connection.open(
        "forward",
        io.BytesIO(body) if body else None,
        data_id=data_id,
        method=method,
        target=target,
        headers=kept,
    )
    return value, b"".join(iter(lambda: stream.read(1 << 20), b""))


_KEPT_HEADERS = frozenset(
    {"accept", "content-type", "prefer", "if-match", "if-none-match", "if-modified-since", "range"}
)
