"""`FlameCoreSDK`: what a FLAME analysis script imports as `flame` or `flamesdk`."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from federated_analytics.flame.aggregate import Aggregate
from federated_analytics.flame.arguments import node_ids, seconds
from federated_analytics.flame.broker import nodeID
from federated_analytics.flame.errors import InvalidArgument, NodeUnavailable
from federated_analytics.flame.logs import LogMethods
from federated_analytics.flame.node_connection import NodeConnection
from federated_analytics.flame.omop import Omop
from federated_analytics.flame.sources import SourceMethods
from federated_analytics.flame.storage import StorageMethods

ADDRESS_VARIABLE = "FLAME_SOCKET"
NODE_VARIABLE = "FLAME_NODE_ID"


class FlameCoreSDK(StorageMethods, SourceMethods, LogMethods):
    """One node's connection to its analysis.

    Args:
        aggregator_requires_data: kept for scripts that pass it; an aggregator has its data
            sources anyway.
        silent: suppress the SDK's own lines on the console.

    Raises:
        NodeUnavailable: the script runs outside of a node.
    """

    _token: ClassVar[str] = ""
    _reconnect_seconds: ClassVar[float] = 60.0
    _open: ClassVar[list[FlameCoreSDK]] = []

    def __init__(self, aggregator_requires_data: bool = False, silent: bool = False) -> None:
        LogMethods.__init__(self)
        self._silent = silent
        address = os.environ.get(ADDRESS_VARIABLE, "")
        if not address:
            raise NodeUnavailable("This script does not run at a node.")
        self._connection = NodeConnection(
            address, type(self)._token, reconnect_seconds=type(self)._reconnect_seconds
        )
        self._config: dict[str, Any] = self._connection.call("start")
        self._node: str = self._config["node"]
        self._role: str = self._config["role"]
        FlameCoreSDK._open.append(self)
        self._say(f"ready: node {self._node}, role {self._role}")

    @property
    def omop(self) -> Omop:
        """Studies of this node's OMOP database, through its site's policy."""
        return Omop(self._connection)

    @property
    def aggregate(self) -> Aggregate:
        """What sites have released, sent to the aggregator and merged there."""
        return Aggregate(self)

    def ready_check(
        self,
        nodes: list[nodeID] | str = "all",
        attempt_interval: int = 30,
        timeout: int | None = None,
    ) -> dict[nodeID, bool]:
        """Wait until the scripts of other nodes have made their `FlameCoreSDK`.

        Args:
            nodes: ids, or "all" for all partners.
            attempt_interval: seconds until the hub is asked again; news wakes it earlier.
            timeout: seconds; None waits until each node is ready or known to be gone.
        """
        interval = seconds(attempt_interval, "attempt_interval")
        if not interval:
            raise InvalidArgument(
                "attempt_interval is a number of seconds.",
                where="attempt_interval",
                remedy="Use a number above 0.",
            )
        asked = self.get_participant_ids() if nodes == "all" else node_ids(nodes, "nodes")
        limit = seconds(timeout, "timeout")
        return dict(self._connection.call("ready", nodes=asked, interval=interval, timeout=limit))

    def get_aggregator_id(self) -> nodeID | None:
        """The aggregator's id; None at the aggregator itself."""
        for participant in self.get_participants():
            if participant["nodeType"] == "aggregator":
                return participant["nodeId"]
        return None

    def get_participants(self) -> list[dict[str, str]]:
        """The other nodes: {"nodeId", "nodeType"}."""
        return [
            {"nodeId": id, "nodeType": type}
            for id, type in self._config["nodes"].items()
            if id != self._node
        ]

    def get_participant_ids(self) -> list[nodeID]:
        """The other nodes' ids."""
        return [participant["nodeId"] for participant in self.get_participants()]

    def get_analysis_id(self) -> str:
        return str(self._config["analysis"])

    def get_project_id(self) -> str:
        return str(self._config["project"])

    def get_id(self) -> nodeID:
        """This node's id."""
        return self._node

    def get_role(self) -> str:
        """ "aggregator" or "default"."""
        return self._role

    def get_parameters(self) -> dict[str, Any]:
        """What the analyst gave as `--param k=v`."""
        return dict(self._config["parameters"])

    def analysis_finished(self) -> bool:
        """End the analysis on every node; a second time changes nothing."""
        self._flush_log()
        self._connection.call("end_analysis")
        return True
