"""A FHIR R4 server as a data source: queries with their paging followed, on its own ground only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import httpx

from federated_analytics.flame.errors import DataSourceFailed, FlameError

MAX_PAGES = 10_000
MAX_BYTES = 1 << 30
"""Of one query's answer, all pages together."""
_ACCEPT = {"accept": "application/fhir+json, application/json;q=0.9"}


class FhirQueryFailed(DataSourceFailed):
    """A query without an answer; its message names neither the server nor what it said."""

    code = "fhir_query_failed"
    default_remedy = "Check the query against FHIR's search rules; the site operator the server."


class OutsideSource(FlameError, ValueError):
    """A request that would leave its data source."""

    code = "outside_source"
    default_remedy = "Use a relative address: client.get('Patient', params={'_count': 100})."


class SourceGround:
    """The one place a source's requests may go to.

    Args:
        url: the source's base; requests stay on its scheme, host and port, below its path.
        headers: the site's own (a token), added to requests that stay there and to no other.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._base = httpx.URL(url.rstrip("/") + "/")
        self._headers = dict(headers)

    @property
    def base(self) -> str:
        return str(self._base)

    def admit(self, request: httpx.Request) -> None:
        """Add the site's headers, or refuse.

        Raises:
            OutsideSource: another scheme, host, port or path.
        """
        if not self.holds(request.url):
            raise OutsideSource("The request leaves its data source.")
        request.headers.update(self._headers)

    def holds(self, url: httpx.URL) -> bool:
        path = unquote(url.path)
        below = path.startswith(self._base.path) or path == self._base.path.rstrip("/")
        same = (url.scheme, url.host, _port(url)) == (
            self._base.scheme,
            self._base.host,
            _port(self._base),
        )
        return same and below and ".." not in path.split("/")


class GroundedTransport(httpx.AsyncBaseTransport):
    """What a script's client travels through: its source, nothing else, no redirects."""

    def __init__(self, ground: SourceGround) -> None:
        self._ground = ground
        self._inner = httpx.AsyncHTTPTransport(trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._ground.admit(request)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


class FhirServer:
    """One FHIR base.

    Args:
        timeout: seconds for a server's silence.
        limit: seconds for all pages of one query.
    """

    def __init__(self, ground: SourceGround, *, timeout: float = 30.0, limit: float = 600.0):
        self._ground = ground
        self._timeout = timeout
        self._limit = limit

    def client(self) -> httpx.AsyncClient:
        """A client on this base, for a script's own requests."""
        return httpx.AsyncClient(
            base_url=self._ground.base,
            headers=_ACCEPT,
            timeout=self._timeout,
            transport=GroundedTransport(self._ground),
        )

    def query(self, query: str) -> dict[str, Any]:
        """The answer to `Patient?gender=female`; a bundle's further pages are joined to it.

        Raises:
            FhirQueryFailed: no answer, an error, no JSON, or paging without an end.
            OutsideSource: a query that names another place than this server.
        """
        deadline = time.monotonic() + self._limit
        with httpx.Client(
            headers=_ACCEPT, timeout=self._timeout, follow_redirects=False, trust_env=False
        ) as http:
            reader = _PageReader(http, self._ground, deadline)
            url = httpx.URL(self._ground.base).join(_relative(query))
            return _joined(reader, url)


class _PageReader:
    """Pages of one query within its time and size."""

    def __init__(self, http: httpx.Client, ground: SourceGround, deadline: float) -> None:
        self._http = http
        self._ground = ground
        self._deadline = deadline
        self._room = MAX_BYTES

    def page(self, url: httpx.URL) -> dict[str, Any]:
        request = self._http.build_request("GET", url)
        self._ground.admit(request)
        try:
            response = self._http.send(request, stream=True)
            try:
                content = self._content(response)
            finally:
                response.close()
        except httpx.TimeoutException:
            raise FhirQueryFailed("The FHIR server did not answer in time.") from None
        except httpx.HTTPError:
            raise FhirQueryFailed("The FHIR server could not be reached.") from None
        return _resource(response, content)

    def _content(self, response: httpx.Response) -> bytes:
        pieces = []
        for piece in response.iter_bytes():
            self._room -= len(piece)
            if self._room < 0:
                raise FhirQueryFailed(
                    "The answer is larger than 1 GiB.", remedy="Ask for less: _elements, _summary."
                )
            if time.monotonic() > self._deadline:
                raise FhirQueryFailed("The FHIR server did not end its answer in time.")
            pieces.append(piece)
        return b"".join(pieces)


def _resource(response: httpx.Response, content: bytes) -> dict[str, Any]:
    import json

    if response.status_code != 200:
        raise FhirQueryFailed(f"The FHIR server answered with status {response.status_code}.")
    try:
        resource = json.loads(content)
    except ValueError:
        raise FhirQueryFailed("The FHIR server's answer is not JSON.") from None
    if not isinstance(resource, dict):
        raise FhirQueryFailed("The FHIR server's answer is not a resource.")
    return resource


def _joined(reader: _PageReader, url: httpx.URL) -> dict[str, Any]:
    first = page = reader.page(url)
    seen = {str(url)}
    entries = list(first.get("entry") or [])
    while (following := _next_link(page)) is not None:
        url = _next_url(url, following)
        if str(url) in seen or len(seen) >= MAX_PAGES:
            raise FhirQueryFailed("The pages of the answer have no end.")
        seen.add(str(url))
        try:
            page = reader.page(url)
        except OutsideSource:
            raise FhirQueryFailed(
                "The link to the next page leads to another server.",
                remedy="The site operator sets the FHIR server's own base address.",
            ) from None
        entries += page.get("entry") or []
    if len(seen) == 1:
        return first
    links = [link for link in first["link"] if link.get("relation") != "next"]
    return {**first, "link": links, "entry": entries}


def _next_url(url: httpx.URL, following: str) -> httpx.URL:
    try:
        return url.join(following)
    except httpx.InvalidURL:
        raise FhirQueryFailed("The link to the next page is not an address.") from None


def _next_link(page: dict[str, Any]) -> str | None:
    links = page.get("link")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("relation") == "next":
            return str(link.get("url") or "") or None
    return None


def _relative(query: str) -> str:
    """A query as an address below the base; `/Patient` means the same as `Patient`."""
    address = query.strip().lstrip("/") if isinstance(query, str) else ""
    try:
        inside = bool(address) and not httpx.URL(address).is_absolute_url
    except httpx.InvalidURL:
        inside = False
    if not inside:
        raise OutsideSource(
            "A FHIR query names a resource of its own server.",
            where="fhir_queries",
            remedy="Write it without the server: 'Patient?_summary=count'.",
        )
    return address


def _port(url: httpx.URL) -> int | None:
    return url.port or {"http": 80, "https": 443}.get(url.scheme)
