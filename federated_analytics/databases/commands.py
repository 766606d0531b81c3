"""`federated-analytics db …`: PostgreSQL servers on this machine, with synthetic OMOP data."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)

Persons = Annotated[int, typer.Option(min=1, help="Synthetic persons in each database.")]
Seed = Annotated[int, typer.Option(help="Equal seeds give equal data.")]
Schema = Annotated[str, typer.Option(help="Name of a schema.")]
Docker = Annotated[bool, typer.Option("--docker", help="Use Docker's postgres:18 instead.")]


@app.command(epilog="Example: federated-analytics db start 3 --persons 5000")
def start(
    count: Annotated[int, typer.Argument(min=1, max=50, help="How many databases.")] = 2,
    persons: Persons = 2_000,
    seed: Seed = 1,
    port: Annotated[int, typer.Option(help="Of the first; the others follow.")] = 5433,
    docker: Docker = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop them instead.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Say which run, instead.")] = False,
) -> None:
    """Start databases on 5433, 5434, …, each a synthetic hospital of its own."""
    from federated_analytics.databases import postgres

    if stop:
        _stop(docker)
    elif status:
        _status()
    elif docker:
        _compose("up", "--detach", "--wait", *(f"database-{i + 1}" for i in range(min(count, 2))))
        for i in range(min(count, 2)):
            cluster = postgres.Cluster(Path("docker"), port + i)
            postgres.define(cluster)
            _generate(cluster.owner_url(), persons, seed, i)
    else:
        ports = [port + i for i in range(count)]
        for position, cluster in enumerate(postgres.start_clusters(count, ports=ports)):
            _generate(cluster.owner_url(), persons, seed, position)
            print(f"ready: 127.0.0.1:{cluster.port}  node config: db-port={cluster.port}")


@app.command(epilog="Example: federated-analytics db init postgresql://USER:PW@HOST/DB")
def init(
    url: Annotated[str, typer.Argument(help="URL of a database whose user may create tables.")],
    persons: Persons = 2_000,
    seed: Seed = 1,
    site: Annotated[int, typer.Option(min=0, help="Which hospital: units and case mix.")] = 0,
    cdm_schema: Schema = "public",
    vocabulary_schema: Schema = "public",
    results_schema: Schema = "public",
    replace: Annotated[bool, typer.Option("--replace", help="Drop other synthetic data.")] = False,
) -> None:
    """Define the OMOP CDM 5.4 tables in any PostgreSQL and load synthetic data."""
    from federated_analytics.databases.generator import generate

    counts = generate(
        url,
        persons=persons,
        seed=seed,
        site=site,
        cdm_schema=cdm_schema,
        vocabulary_schema=vocabulary_schema,
        results_schema=results_schema,
        replace=replace,
        on_progress=lambda text: print(text, flush=True),
    )
    for table, rows in counts.items():
        print(f"{rows:>12,}  {table}")


@app.command(epilog="Example: federated-analytics db stop")
def stop(docker: Docker = False) -> None:
    """Stop the databases that `db start` started; their data stay."""
    _stop(docker)


@app.command(epilog="Example: federated-analytics db status")
def status() -> None:
    """Which databases run, and where."""
    _status()


def _generate(url: str, persons: int, seed: int, site: int) -> None:
    from federated_analytics.databases.generator import generate

    say = lambda text: print(f"hospital {site + 1}: {text}", flush=True)  # noqa: E731
    generate(url, persons=persons, seed=seed, site=site, on_progress=say)


def _stop(docker: bool) -> None:
    from federated_analytics.databases import postgres

    if docker:
        _compose("stop")
    for cluster in postgres.known_clusters():
        if cluster.is_running():
            cluster.stop()
            print(f"stopped: 127.0.0.1:{cluster.port}")


def _status() -> None:
    from federated_analytics.databases import postgres

    clusters = postgres.known_clusters()
    for cluster in clusters:
        state = "running" if cluster.is_running() else "stopped"
        print(f"{state}: 127.0.0.1:{cluster.port}  {cluster.directory}")
    if not clusters:
        print("no databases: `federated-analytics db start` makes some")


def _compose(*arguments: str) -> None:
    from federated_analytics.databases.postgres import ServerError

    file = Path(__file__).parents[2] / "deploy" / "compose.yaml"
    command = ["docker", "compose", "--file", str(file), "--profile", "databases", *arguments]
    remedy = "Install and start Docker, or leave --docker out: no Docker is needed then."
    try:
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise ServerError("Docker is not installed.", where="--docker", remedy=remedy) from error
    if done.returncode != 0:
        raise ServerError("Docker could not start the databases.", where="--docker", remedy=remedy)
