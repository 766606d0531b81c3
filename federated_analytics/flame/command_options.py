"""The options of `federated-analytics flame run`, and how their texts are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from federated_analytics.errors import ConfigError

if TYPE_CHECKING:
    from federated_analytics.flame.worker_process import Limits

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


def limits(memory_gb: float | None) -> Limits:
    """Of each worker."""
    from federated_analytics.flame.worker_process import Limits

    return Limits() if memory_gb is None else Limits(memory_bytes=int(memory_gb * 2**30))


def data_folder(path: Path | None) -> Path | None:
    if path is not None and not path.is_dir():
        raise ConfigError(
            "There is no such folder.",
            where=f"--data {path}",
            remedy="Make it, with a folder in it for each node.",
        )
    return path


def key_file(path: Path | None) -> Path:
    if path is None:
        raise ConfigError(
            "Sites run no script that is not signed.",
            where="--key",
            remedy="Give --key; `federated-analytics key new` makes one.",
        )
    return path
