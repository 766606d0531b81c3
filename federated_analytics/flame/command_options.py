"""The options of `federated-analytics flame run`, and how their texts are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from federated_analytics.errors import ConfigError

if TYPE_CHECKING:
    from federated_analytics.flame.federation_run import FederationOptions
    from federated_analytics.flame.run_options import RunOptions

Script = Annotated[Path, typer.Argument(help="The analysis script, unchanged.")]
Nodes = Annotated[str, typer.Option(help="Ids of all nodes, with commas; the aggregator too.")]
Aggregator = Annotated[str, typer.Option(help="Which of the nodes aggregates.")]
Data = Annotated[Path | None, typer.Option(help="A folder with one folder of data for each node.")]
Store = Annotated[Path | None, typer.Option(help="Keeps the nodes' local storage between runs.")]
Project = Annotated[str, typer.Option(help="Whose local storage the script sees.")]
OutFolder = Annotated[Path, typer.Option(help="Folder for what the run leaves.")]
Limit = Annotated[float, typer.Option(min=0.1, help="Seconds that the script may take.")]
Param = Annotated[list[str] | None, typer.Option(help="k=v, for the script; repeat for each.")]
MemoryGb = Annotated[
    float | None,
    typer.Option(min=0.1, help="Of each worker; 8, or half of a smaller machine's."),
]
Network = Annotated[bool, typer.Option(help="Leave the script the network.")]
EpsilonBudget = Annotated[
    float | None,
    typer.Option(min=0, help="What local_dp may spend in all runs of the project with this store."),
]
Record = Annotated[bool, typer.Option(help="Keep every call, for `flame replay`.")]
SuperLink = Annotated[
    str, typer.Option(help="On a federation instead: a connection's name, or HOST:PORT.")
]
Key = Annotated[
    Path | None, typer.Option(help="With --superlink: your key's file; the sites verify it.")
]
ApprovalSeconds = Annotated[
    float, typer.Option(min=1, help="With --superlink: how long to wait for approvals.")
]
RootCertificates = Annotated[
    Path | None, typer.Option(help="With --superlink HOST:PORT: the CA of its certificate.")
]
Out = Annotated[Path, typer.Argument(help="The folder of a run: what --out named.")]


def named_nodes(text: str) -> list[str]:
    """Ids, with commas between them."""
    return [node.strip() for node in text.split(",") if node.strip()]


def parameters(pairs: list[str] | None) -> dict[str, Any]:
    """k=v pairs; a value that reads as JSON is that, any other is text."""
    found: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ConfigError(
                f"{pair!r} is no parameter.", where="--param", remedy="Write --param k=v."
            )
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            found[key] = value
    return found


def here(
    both: Mapping[str, Any],
    data: Path | None,
    store: Path | None,
    memory_gb: float | None,
    network: bool,
    record: bool,
) -> RunOptions:
    """A run on this machine; ConfigError where there is no folder `data`."""
    from federated_analytics.flame.run_options import RunOptions
    from federated_analytics.flame.worker_process import Limits

    if data is not None and not data.is_dir():
        raise ConfigError(
            "There is no such folder.",
            where=f"--data {data}",
            remedy="Make it, with a folder in it for each node.",
        )
    memory = Limits() if memory_gb is None else Limits(memory_bytes=int(memory_gb * 2**30))
    return RunOptions(data=data, store=store, limits=memory, network=network, record=record, **both)


def there(
    both: Mapping[str, Any],
    superlink: str,
    key: Path | None,
    approval_seconds: float,
    root_certificates: Path | None,
) -> FederationOptions:
    """A run on a federation; ConfigError where no key is given."""
    from federated_analytics.flame.federation_run import FederationOptions

    if key is None:
        raise ConfigError(
            "Sites run no script that is not signed.",
            where="--key",
            remedy="Give --key; `federated-analytics key new` makes one.",
        )
    return FederationOptions(
        superlink=superlink,
        key=key,
        approval_seconds=approval_seconds,
        root_certificates=root_certificates,
        **both,
    )
