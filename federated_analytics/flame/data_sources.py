"""A node's data sources: FHIR servers and S3 stores, by the site's own configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError

from federated_analytics.errors import ConfigError, FederatedAnalyticsError
from federated_analytics.flame.errors import DataSourceFailed, FlameError, UnknownDataSource
from federated_analytics.flame.fhir import FhirServer, SourceGround
from federated_analytics.flame.s3 import (
    EndpointStore,
    FolderStore,
    ObjectStore,
    StoreTransport,
    check_key,
    text_or_bytes,
)

FILE_NAME = "datasources.json"
_AT_ONCE = 4
Log = Callable[[str, str], None]
"""Takes a level of the hub's log ("error") and a text without values, hosts or credentials."""


class Source(BaseModel):
    """One entry of `datasources.json`.

    Fields:
        url: FHIR: the base. S3: `https://host/bucket[/prefix]`, `s3://bucket[/prefix]`, or a
            folder (`file:///…`, or a path relative to the file)
        projects: who may read it; empty: every project of this node
        token_file: a file with a bearer token, relative to this one
        headers: sent with each request to the FHIR server
        access_key_id, secret_access_key, region: of the S3 store
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    id: str = Field(min_length=1)
    name: str = ""
    type: Literal["fhir", "s3"]
    url: SecretStr
    projects: tuple[str, ...] = ()
    headers: dict[str, SecretStr] = {}
    token: SecretStr | None = None
    token_file: str = ""
    access_key_id: SecretStr | None = None
    secret_access_key: SecretStr | None = None
    region: str = ""


class DataSources:
    """The sources of one node that one project may read.

    Args:
        log: told of every query that failed; its text may leave the site.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        folder: Path = Path(),
        project: str | None = None,
        log: Log | None = None,
        fhir_timeout: float = 30.0,
        fhir_limit: float = 600.0,
    ) -> None:
        allowed = [s for s in sources if not s.projects or project in s.projects]
        self._sources = {source.id: source for source in allowed}
        self._log = log or (lambda level, text: None)
        self._servers = {
            s.id: FhirServer(_ground(s, folder), timeout=fhir_timeout, limit=fhir_limit)
            for s in allowed
            if s.type == "fhir"
        }
        self._stores = {s.id: _store(s, folder) for s in allowed if s.type == "s3"}

    @classmethod
    def from_folder(
        cls, folder: Path, *, project: str | None = None, log: Log | None = None
    ) -> DataSources:
        """The sources that a folder's `datasources.json` lists; without it the folder itself.

        A folder without the file is one S3 store whose keys are the file names; a folder that
        does not exist has no source.

        Raises:
            ConfigError: the file cannot be used; the message shows none of its values.
        """
        path = folder / FILE_NAME
        if path.is_file():
            return cls(_read(path), folder=folder, project=project, log=log)
        if not folder.is_dir():
            return cls([], project=project, log=log)
        own = Source(id=folder.name or "data", name=folder.name, type="s3", url=SecretStr("."))
        return cls([own], folder=folder, project=project, log=log)

    def listed(self) -> list[dict[str, str]]:
        """Id, name and type of each source; addresses and credentials stay with the site."""
        return [
            {"id": s.id, "name": s.name or s.id, "type": s.type} for s in self._sources.values()
        ]

    def client(self, data_id: str) -> httpx.AsyncClient:
        """A client bound to one source: FHIR's REST interface, or `GET /key` of a store.

        Raises:
            UnknownDataSource: no source of this project has the id.
        """
        if data_id in self._servers:
            return self._servers[data_id].client()
        if data_id in self._stores:
            transport = StoreTransport(self._stores[data_id])
            return httpx.AsyncClient(base_url="http://s3", transport=transport)
        raise UnknownDataSource(f"There is no data source {data_id!r}.", where="data_id")

    async def forward(
        self, data_id: str, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Make a worker's request in its place: the worker has no network and no credential.

        Args:
            target: path and query below the source, without a host.

        Returns:
            Status, headers and decoded body.

        Raises:
            OutsideSource: the target is not below the source.
            DataSourceFailed: the source did not answer.
        """
        async with self.client(data_id) as client:
            try:
                response = await client.request(method, target, headers=dict(headers), content=body)
            except (httpx.HTTPError, httpx.InvalidURL):
                raise DataSourceFailed(f"The source {data_id!r} did not answer.") from None
            kept = {k: v for k, v in response.headers.items() if k not in _HOP_HEADERS}
            return response.status_code, kept, response.content

    def fhir(self, queries: list[str] | None) -> list[dict[str, Any]] | None:
        """One dictionary a FHIR server, its keys the queries that it answered.

        A query that fails is missing from its dictionary, and an error is logged.

        Returns:
            None when there is no query.
        """
        if not queries:
            return None
        asked = [(id, query) for id in self._servers for query in dict.fromkeys(queries)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            answers = list(pool.map(lambda one: self._asked(*one), asked))
        found: dict[str, dict[str, Any]] = {id: {} for id in self._servers}
        for (id, query), answer in zip(asked, answers, strict=True):
            if answer is not None:
                found[id][query] = answer
        return list(found.values())

    def s3(self, keys: list[str] | None) -> list[dict[str, str | bytes]] | None:
        """One dictionary a store, from key to content: text where it is valid UTF-8.

        Args:
            keys: which to read; None or empty: all. A key that a store lacks is missing from
                its dictionary, and an error is logged when no store has it.

        Raises:
            InvalidKey: a key that points out of its store.
        """
        for key in keys or []:
            check_key(key)
        found = [self._contents(id, store, keys) for id, store in self._stores.items()]
        for key in keys or []:
            if not any(key in contents for contents in found):
                self._log("error", f"No S3 store of this node has the key {key!r}.")
        return found

    def stream(self, data_id: str, key: str) -> Iterator[bytes]:
        """One object in pieces of about 1 MiB; KeyError when there is none."""
        if data_id not in self._stores:
            raise UnknownDataSource(f"There is no S3 store {data_id!r}.", where="data_id")
        return self._stores[data_id].stream(key)

    def _asked(self, id: str, query: str) -> dict[str, Any] | None:
        try:
            return self._servers[id].query(query)
        except FederatedAnalyticsError as fault:
            self._log("error", f"The query {query!r} of the source {id!r} failed: {fault.message}")
            return None

    def _contents(
        self, id: str, store: ObjectStore, keys: list[str] | None
    ) -> dict[str, str | bytes]:
        contents: dict[str, str | bytes] = {}
        try:
            for key in dict.fromkeys(keys or store.keys()):
                with suppress(KeyError):
                    contents[key] = text_or_bytes(b"".join(store.stream(key)))
        except FlameError as fault:
            self._log("error", f"The S3 store {id!r} could not be read: {fault.message}")
        return contents


_HOP_HEADERS = frozenset({"content-encoding", "content-length", "transfer-encoding", "set-cookie"})


def _read(path: Path) -> list[Source]:
    try:
        sources = TypeAdapter(list[Source]).validate_json(path.read_bytes())
    except ValidationError as fault:
        first = fault.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        raise ConfigError(
            f"{first['msg']}.",
            where=f"{FILE_NAME}: {place}" if place else FILE_NAME,
            remedy='Write a list of {"id": …, "name": …, "type": "fhir" or "s3", "url": …}.',
        ) from None
    ids = [source.id for source in sources]
    if len(set(ids)) < len(ids):
        raise ConfigError(
            "Two data sources have one id.", where=FILE_NAME, remedy="Give each its own id."
        )
    return sources


def _ground(source: Source, folder: Path) -> SourceGround:
    parts = urlsplit(source.url.get_secret_value())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            "The address of a FHIR source is not one.",
            where=f"{FILE_NAME}: {source.id}.url",
            remedy="Write https://host/path.",
        )
    headers = {name: value.get_secret_value() for name, value in source.headers.items()}
    token = _token(source, folder)
    if token:
        headers["authorization"] = f"Bearer {token}"
    elif parts.username:
        named = httpx.BasicAuth(unquote(parts.username), unquote(parts.password or ""))
        request = next(named.auth_flow(httpx.Request("GET", "http://fhir")))
        headers["authorization"] = request.headers["authorization"]
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
    return SourceGround(bare.geturl(), headers)


def _token(source: Source, folder: Path) -> str:
    if source.token is not None:
        return source.token.get_secret_value()
    if not source.token_file:
        return ""
    try:
        return (folder / source.token_file).read_text().strip()
    except OSError:
        raise ConfigError(
            "The token's file cannot be read.",
            where=f"{FILE_NAME}: {source.id}.token_file",
            remedy="Name a file that the site's service may read.",
        ) from None


def _store(source: Source, folder: Path) -> ObjectStore:
    url = source.url.get_secret_value()
    parts = urlsplit(url)
    if parts.scheme in ("", "file"):
        return FolderStore(folder / unquote(parts.path))
    if parts.scheme not in ("http", "https", "s3"):
        raise ConfigError(
            "The address of an S3 source is not one.",
            where=f"{FILE_NAME}: {source.id}.url",
            remedy="Write https://host/bucket, s3://bucket or a folder.",
        )
    credentials: dict[str, str] = {}
    if source.access_key_id and source.secret_access_key:
        credentials["access_key_id"] = source.access_key_id.get_secret_value()
        credentials["secret_access_key"] = source.secret_access_key.get_secret_value()
    elif parts.username:
        credentials["access_key_id"] = unquote(parts.username)
        credentials["secret_access_key"] = unquote(parts.password or "")
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    return EndpointStore(bare.geturl(), region=source.region, credentials=credentials)
