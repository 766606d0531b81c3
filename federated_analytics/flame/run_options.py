"""What a run on this machine is asked for, and what comes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from federated_analytics.flame.errors import RunFailed
from federated_analytics.flame.worker_process import Limits

_NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class RunOptions:
    """What runs where.

    Fields:
        script: the analysis; `scripts` may give single nodes another one
        nodes: all of them, the aggregator among them
        data: a folder with a folder of data for each node
        store: the nodes' local storage, kept between runs
        limit: seconds after which a node that still runs has failed
        absent: nodes that never come (a test's), known to be absent after `absent_after` seconds
        epsilon_budget: what local_dp may spend in all runs of the project with this store;
            None: without a limit
        record: keep every call, for `flame replay`

    Raises (by `check`):
        RunFailed: they name no script, or no nodes with one aggregator.
    """

    script: Path
    nodes: Sequence[str]
    aggregator: str
    out: Path
    data: Path | None = None
    store: Path | None = None
    project: str = "local"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    limit: float | None = 3600.0
    limits: Limits = field(default_factory=Limits)
    scripts: Mapping[str, Path] = field(default_factory=dict)
    absent: Sequence[str] = ()
    absent_after: float = 0.0
    network: bool = False
    grace_seconds: float = 10.0
    epsilon_budget: float | None = None
    record: bool = False

    @property
    def types(self) -> dict[str, str]:
        """The type of each node: "aggregator" or "default"."""
        return {n: "aggregator" if n == self.aggregator else "default" for n in self.nodes}

    def check(self) -> None:
        for script in (self.script, *self.scripts.values()):
            if not script.is_file():
                raise RunFailed(
                    "There is no such script.", where=str(script), remedy="Name a Python file."
                )
        check_nodes(self.nodes, self.aggregator)


@dataclass(frozen=True)
class RunResult:
    """A run's end: its state, each node's, and whether the aggregator submitted and ended well."""

    state: str
    nodes: Mapping[str, Mapping[str, str]]
    submissions: int
    succeeded: bool
    out: Path


def check_nodes(nodes: Sequence[str], aggregator: str) -> None:
    """RunFailed where these are no nodes with one aggregator among them."""
    for node in nodes:
        if not _NODE_ID.fullmatch(node):
            raise RunFailed(
                f"{node!r} cannot be a node's id.",
                where="--nodes",
                remedy="Use letters, digits, hyphens, dots and underscores: node-a,node-b.",
            )
    if len(set(nodes)) != len(nodes):
        raise RunFailed("A node is named twice.", where="--nodes", remedy="Name each once.")
    if aggregator not in nodes:
        raise RunFailed(
            f"The aggregator {aggregator!r} is not among the nodes.",
            where="--aggregator",
            remedy="Name one of --nodes.",
        )
