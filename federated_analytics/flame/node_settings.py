"""Who a node is, in which analysis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class NodeSettings:
    """A node's identity and what its script is given.

    nodes: the type ("aggregator" | "default") of every node, its own among them.
    """

    node: str
    nodes: Mapping[str, str]
    analysis: str
    project: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def role(self) -> str:
        return self.nodes[self.node]
