"""Flower's connections: those of its config.toml, and one for HOST:PORT."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tomli_w

from federated_analytics.errors import ConfigError, did_you_mean
from federated_analytics.local.program import with_own_programs


class NoSuperLink(ConfigError):
    """A connection that Flower's config.toml does not have, or that nothing answers."""

    code = "no_superlink"


@contextmanager
def connection(
    superlink: str, root_certificates: str | Path | None
) -> Iterator[tuple[str, dict[str, str]]]:
    """The connection's name and the environment in which Flower knows it."""
    import os

    plain = {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "200"}
    environment = with_own_programs({**os.environ, **plain})
    if ":" not in superlink:
        _must_exist(superlink, environment)
        yield superlink, environment
        return
    with tempfile.TemporaryDirectory() as home:
        settings: dict[str, object] = {"address": superlink, "insecure": True}
        if root_certificates is not None:
            path = str(Path(root_certificates).resolve())
            settings = {"address": superlink, "root-certificates": path}
        write_connections(Path(home), {"here": settings})
        yield "here", environment | {"FLWR_HOME": home}


def write_connections(home: Path, connections: dict[str, dict[str, object]]) -> None:
    """Flower's config.toml with these connections, the first the default."""
    home.mkdir(parents=True, exist_ok=True)
    table: dict[str, object] = {"default": next(iter(connections)), **connections}
    (home / "config.toml").write_text(tomli_w.dumps({"superlink": table}), encoding="utf-8")


def _must_exist(name: str, environment: dict[str, str]) -> None:
    import tomllib

    home = Path(environment.get("FLWR_HOME") or Path.home() / ".flwr")
    known: list[str] = []
    try:
        data = tomllib.loads((home / "config.toml").read_text(encoding="utf-8"))
        known = [k for k, v in data.get("superlink", {}).items() if isinstance(v, dict)]
    except (OSError, tomllib.TOMLDecodeError):
        known = []
    if name not in known:
        raise NoSuperLink(
            f"Flower's config.toml has no connection {name!r}.",
            where=str(home / "config.toml"),
            remedy=did_you_mean(name, known)
            or (f"It has: {', '.join(known)}." if known else "")
            or f"Write [superlink.{name}] with address and insecure = true, or give HOST:PORT.",
        )
