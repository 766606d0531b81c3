"""Objects of an S3 store, read-only: a real endpoint through obstore, or a folder of files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

import httpx

from federated_analytics.errors import ConfigError, MissingExtra
from federated_analytics.flame.chunks import CHUNK
from federated_analytics.flame.errors import DataSourceFailed, FlameError

_TIMEOUTS = {"connect_timeout": "10s", "read_timeout": "30s", "timeout": "3600s"}
_RETRIES = {"max_retries": 2, "retry_timeout": timedelta(seconds=60)}


class InvalidKey(FlameError, ValueError):
    """A key that points out of its store."""

    code = "invalid_key"
    default_remedy = "Use a key as get_s3_data() lists it: no '..', no leading '/', no backslash."


class ObjectStore(Protocol):
    """What both kinds of store can do."""

    def keys(self) -> list[str]:
        """All keys, sorted."""

    def stream(self, key: str) -> Iterator[bytes]:
        """An object in pieces; KeyError when there is none."""


class FolderStore:
    """The files of a folder, at any depth; their names with '/' are the keys.

    Files whose name begins with a dot, and links that lead out of the folder, are not listed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def keys(self) -> list[str]:
        found = []
        for place, folders, files in os.walk(self._folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [Path(place) / name for name in files if not name.startswith(".")]
        inside = [path for path in found if self._holds(path)]
        return sorted(path.relative_to(self._folder).as_posix() for path in inside)

    def stream(self, key: str) -> Iterator[bytes]:
        check_key(key)
        path = self._folder / key
        if not self._holds(path):
            raise InvalidKey("The key leads out of its store.", where="s3_keys")
        try:
            file = path.open("rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise KeyError(key) from None
        with file:
            while piece := file.read(CHUNK):
                yield piece

    def _holds(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self._folder)


class EndpointStore:
    """A bucket, or a prefix of one, at an S3 endpoint.

    Args:
        url: `http[s]://host[:port]/bucket[/prefix]`, or `s3://bucket[/prefix]` for AWS itself.
        credentials: `access_key_id` and `secret_access_key`; without them those of the site's
            own process (`AWS_ACCESS_KEY_ID` …), and where it has none requests are not signed.
    """

    def __init__(self, url: str, *, region: str = "", credentials: dict[str, str] | None = None):
        parts = urlsplit(url)
        at_aws = parts.scheme == "s3"
        path = parts.path.strip("/")
        bucket, prefix = (parts.hostname or "", path) if at_aws else _first(path)
        if not bucket:
            raise ConfigError(
                "The address of an S3 source names no bucket.",
                where="datasources.json: url",
                remedy="Write https://host/bucket or s3://bucket.",
            )
        options: dict[str, Any] = {"region": region or _region()}
        options |= credentials or _ambient() or _of_an_emulator(parts.hostname)
        if not at_aws:
            host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
            port = f":{parts.port}" if parts.port else ""
            options |= {
                "endpoint": f"{parts.scheme}://{host}{port}",
                "virtual_hosted_style_request": False,
            }
        self._store = _s3_store(bucket, prefix, options, plain=parts.scheme == "http")

    def keys(self) -> list[str]:
        import obstore

        with _translated():
            pages = obstore.list(self._store)
            return sorted(str(entry["path"]) for page in pages for entry in page)

    def stream(self, key: str) -> Iterator[bytes]:
        import obstore

        check_key(key)
        try:
            with _translated():
                for piece in obstore.get(self._store, key).stream(min_chunk_size=CHUNK):
                    yield bytes(piece)
        except _Missing:
            raise KeyError(key) from None


class StoreTransport(httpx.AsyncBaseTransport):
    """Answers `GET /key`, `HEAD /key` and `GET /` (the keys, as ListObjectsV2 does), no more.

    A client over it has no credential and can reach nothing but its store.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        import asyncio

        return await asyncio.to_thread(self._answer, request)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.method not in ("GET", "HEAD"):
            return httpx.Response(405, text="A data source is read-only.", request=request)
        key = unquote(request.url.raw_path.decode().partition("?")[0].lstrip("/"))
        try:
            if not key:
                body = _listing(self._store.keys(), request.url.params.get("prefix", ""))
                return httpx.Response(200, content=body, headers=_XML, request=request)
            content = b"".join(self._store.stream(key))
        except KeyError:
            return httpx.Response(404, text="There is no such key.", request=request)
        except FlameError as fault:
            status = 400 if isinstance(fault, InvalidKey) else 502
            return httpx.Response(status, text=str(fault), request=request)
        if request.method == "HEAD":
            length = {"content-length": str(len(content))}
            return httpx.Response(200, headers=length, request=request)
        return httpx.Response(200, content=content, request=request)


_XML = {"content-type": "application/xml"}


def _listing(keys: list[str], prefix: str) -> bytes:
    chosen = [key for key in keys if key.startswith(prefix)]
    contents = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in chosen)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<KeyCount>{len(chosen)}</KeyCount><IsTruncated>false</IsTruncated>{contents}"
        "</ListBucketResult>"
    ).encode()


def check_key(key: str) -> None:
    """Refuse a key that could mean a place outside its store.

    Raises:
        InvalidKey: `..`, an absolute path, a backslash, a null byte, or no text at all.
    """
    steps = key.split("/") if isinstance(key, str) else []
    bad = any(step in ("", ".", "..") for step in steps) or "\\" in key or "\0" in key
    if not steps or bad or (len(key) > 1 and key[1] == ":"):
        raise InvalidKey("A key does not name an object inside its store.", where="s3_keys")


def text_or_bytes(content: bytes) -> str | bytes:
    """Text where the bytes are valid UTF-8, else the bytes."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


class _Missing(Exception):
    """There is no object of this key."""


@contextmanager
def _translated() -> Iterator[None]:
    """An endpoint's faults without its address, its answer or a credential."""
    from obstore import exceptions

    try:
        yield
    except (FileNotFoundError, exceptions.NotFoundError):
        raise _Missing from None
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError):
        raise DataSourceFailed("The S3 store refused the site's credentials.") from None
    except (exceptions.BaseError, OSError):
        raise DataSourceFailed("The S3 store did not answer.") from None


def _ambient() -> dict[str, str]:
    """The credentials of the site's own process, by the names that every AWS client reads."""
    names = ("access_key_id", "secret_access_key", "session_token")
    found = {name: os.environ.get(f"AWS_{name.upper()}", "") for name in names}
    complete = found["access_key_id"] and found["secret_access_key"]
    return {name: value for name, value in found.items() if value} if complete else {}


def _region() -> str:
    named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return named or "us-east-1"


def _of_an_emulator(host: str | None) -> dict[str, Any]:
    """No signature; on this machine, where emulators stand that want one of any key, theirs."""
    if host in ("127.0.0.1", "localhost", "::1"):
        return {"access_key_id": "test", "secret_access_key": "test"}
    return {"skip_signature": True}


def _first(path: str) -> tuple[str, str]:
    bucket, _, prefix = path.partition("/")
    return bucket, prefix


def _s3_store(bucket: str, prefix: str, options: dict[str, Any], *, plain: bool) -> Any:
    try:
        from obstore.store import S3Store
    except ImportError:
        raise MissingExtra("obstore", "flame", "An S3 source") from None
    client: Any = {**_TIMEOUTS, "allow_http": plain}
    retries: Any = _RETRIES
    return S3Store(
        bucket, prefix=prefix or None, client_options=client, retry_config=retries, **options
    )
