"""`federated-analytics db …`: PostgreSQL servers on this machine, with synthetic OMOP data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from federated_analytics.databases.postgres import Cluster, clusters, known_clusters
from federated_analytics.databases.roles import READER

app = typer.Typer(
    no_args_is_help=True,
    help="Databases to try things on: PostgreSQL with synthetic OMOP CDM 5.4 data.",
)

Persons = Annotated[int, typer.Option(help="Synthetic persons in each database.")]
Seed = Annotated[int, typer.Option(help="Equal seeds give equal data.")]
Schema = Annotated[str, typer.Option(help="Name of a schema; made if it is not there.")]
Docker = Annotated[bool, typer.Option("--docker", help="Use Docker's postgres:18 instead.")]
Replace = Annotated[bool, typer.Option("--replace", help="Drop other synthetic data first.")]
State = Annotated[
    Path | None,
    typer.Option(help="Folder of the servers' data; also FEDERATED_ANALYTICS_STATE."),
]
Remove = Annotated[bool, typer.Option("--remove", help="Delete their data as well.")]
Port = Annotated[int, typer.Option(min=1024, max=65535, help="Of the first; the others follow.")]


@app.command(epilog="Example: federated-analytics db start 3 --persons 5000")
def start(
    count: Annotated[int, typer.Argument(min=1, max=50, help="How many databases.")] = 2,
    persons: Persons = 2_000,
    seed: Seed = 1,
    port: Port = 5433,
    replace: Replace = False,
    docker: Docker = False,
    state: State = None,
    stop: Annotated[bool, typer.Option("--stop", help="Stop them instead.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Say which run, instead.")] = False,
) -> None:
    """Start databases on 5433, 5434, …, each a synthetic hospital of its own.

    What runs already is left as it is: doing it twice changes nothing.
    """
    if stop:
        _stop(docker, state, remove=False)
    elif status:
        _status(state)
    else:
        for site, cluster in enumerate(_started(count, port, docker, state)):
            _load(cluster.owner_url(), site, persons, seed, replace)
            print(
                f"ready: 127.0.0.1:{cluster.port}, database omop, read by {READER}; "
                f'--node-config="db-port={cluster.port}"'
            )


@app.command(epilog="Example: federated-analytics db init postgresql://USER:PASSWORD@HOST/DB")
def init(
    url: Annotated[str, typer.Argument(help="URL of a database whose user may create tables.")],
    persons: Persons = 2_000,
    seed: Seed = 1,
    site: Annotated[int, typer.Option(help="Which hospital: its case mix and units.")] = 0,
    cdm_schema: Schema = "public",
    vocabulary_schema: Schema = "",
    results_schema: Schema = "",
    replace: Replace = False,
) -> None:
    """Define the OMOP CDM 5.4 tables in any PostgreSQL and load synthetic data.

    Vocabulary and results stand in the CDM's schema unless they are given another.
    """
    from federated_analytics.databases.generator import generate

    summary = generate(
        url,
        persons=persons,
        seed=seed,
        site=site,
        cdm_schema=cdm_schema,
        vocabulary_schema=vocabulary_schema or cdm_schema,
        results_schema=results_schema or cdm_schema,
        replace=replace,
        on_progress=lambda line: print(line, flush=True),
    )
    print(summary.to_text())


@app.command(epilog="Example: federated-analytics db stop")
def stop(docker: Docker = False, state: State = None, remove: Remove = False) -> None:
    """Stop the databases that `db start` started; their data stay."""
    _stop(docker, state, remove)


@app.command(epilog="Example: federated-analytics db status")
def status(state: State = None) -> None:
    """Which databases there are, and which of them run."""
    _status(state)


def _started(count: int, port: int, docker: bool, state: Path | None) -> list[Cluster]:
    if docker:
        from federated_analytics.databases.docker import start_containers

        return start_containers(count, port)
    ready = []
    for cluster in clusters(count, port=port, state=state):
        fresh = cluster.start()
        print(f"{'started' if fresh else 'running'}: 127.0.0.1:{cluster.port}", flush=True)
        ready.append(cluster)
    return ready


def _load(url: str, site: int, persons: int, seed: int, replace: bool) -> None:
    from federated_analytics.databases.case_mix import profile, site_name
    from federated_analytics.databases.generator import generate

    name = site_name(site)
    summary = generate(
        url,
        persons=persons,
        seed=seed,
        site=site,
        replace=replace,
        on_progress=lambda line: print(f"{name}: {line}", flush=True),
    )
    print(f"{name} ({profile(site).title}): {summary.to_text()}", flush=True)


def _stop(docker: bool, state: Path | None, remove: bool) -> None:
    if docker:
        from federated_analytics.databases.docker import stop_containers

        stop_containers(remove)
        return
    for cluster in known_clusters(state):
        stopped = cluster.stop()
        if remove:
            cluster.remove()
        if stopped or remove:
            print(f"{'removed' if remove else 'stopped'}: 127.0.0.1:{cluster.port}")


def _status(state: Path | None) -> None:
    known = known_clusters(state)
    for cluster in known:
        now = "running" if cluster.is_running() else "stopped"
        print(f"{now}: 127.0.0.1:{cluster.port}  {cluster.directory}")
    if not known:
        print("no databases; federated-analytics db start makes some")
