"""The same databases in Docker: the `databases` profile of deploy/compose.yaml."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from federated_analytics.databases.errors import MissingProgram, ServerFailed
from federated_analytics.databases.postgres import HOST, Cluster
from federated_analytics.databases.roles import OWNER, READER, define_reader, password
from federated_analytics.errors import ConfigError

SERVICES = ("database-1", "database-2")
_NO_DOCKER = "Install and start Docker, or leave --docker out: it is not needed then."


def compose_file() -> Path:
    """deploy/compose.yaml of the checkout."""
    file = Path(__file__).parents[2] / "deploy" / "compose.yaml"
    if not file.is_file():
        raise MissingProgram(
            "The compose file is not installed with the package.",
            where="--docker",
            remedy="Run it in a checkout of the repository, or leave --docker out.",
        )
    return file


def start_containers(count: int, port: int) -> list[Cluster]:
    """Start `count` of the compose file's databases on `port`, `port + 1`; wait until they answer.

    Raises:
        MissingProgram: no Docker. ServerFailed: Docker could not start them.
        ConfigError: more databases than the compose file has.
    """
    import psycopg

    if count > len(SERVICES):
        raise ConfigError(
            f"The compose file has {len(SERVICES)} databases.",
            where="--docker",
            remedy=f"Ask for {len(SERVICES)} at most, or leave --docker out.",
        )
    _compose("up", "--detach", "--wait", *SERVICES[:count], port=port)
    clusters = [Cluster(Path("/"), port + i) for i in range(count)]
    for cluster in clusters:
        with psycopg.connect(
            cluster.owner_url(), connect_timeout=10, autocommit=True
        ) as connection:
            define_reader(connection)
    return clusters


def stop_containers(remove: bool = False) -> None:
    """Stop the databases; with `remove` delete their containers and volumes too."""
    _compose(*(("down", "--volumes") if remove else ("stop", *SERVICES)))


def _compose(*arguments: str, port: int | None = None) -> None:
    command = ["docker", "compose", "--file", str(compose_file()), "--profile", "databases"]
    # Passwords go through the environment: a command line can be read by every user.
    environment = os.environ | {
        "FEDERATED_ANALYTICS_DB_PASSWORD": password(OWNER),
        "FEDERATED_ANALYTICS_DB_READER_PASSWORD": password(READER),
        "FEDERATED_ANALYTICS_DB_ADDRESS": HOST,
    }
    if port is not None:
        environment |= {f"DATABASE_{i + 1}_PORT": str(port + i) for i in range(len(SERVICES))}
    try:
        done = subprocess.run(
            [*command, *arguments], check=False, stdin=subprocess.DEVNULL, env=environment
        )
    except OSError as error:
        raise MissingProgram(
            "Docker is not installed.", where="--docker", remedy=_NO_DOCKER
        ) from error
    if done.returncode:
        raise ServerFailed(
            "Docker could not do it; its own words are above.", where="--docker", remedy=_NO_DOCKER
        )
