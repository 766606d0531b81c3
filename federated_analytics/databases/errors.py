"""What can go wrong when a database is started, defined or filled."""

from __future__ import annotations

from federated_analytics.errors import FederatedAnalyticsError


class PortInUse(FederatedAnalyticsError):
    """Another program listens on the port that a server was to use."""

    code = "port_in_use"


class DiskFull(FederatedAnalyticsError):
    """Too little room for a database."""

    code = "disk_full"
    default_remedy = "Free some space, or set FEDERATED_ANALYTICS_STATE to a folder on another disk."


class MissingProgram(FederatedAnalyticsError):
    """A program that is needed is not installed."""

    code = "missing_program"


class ServerFailed(FederatedAnalyticsError):
    """A PostgreSQL server that did not start or stop."""

    code = "server_failed"


class StateFolderError(FederatedAnalyticsError):
    """A state folder that cannot hold a database server."""

    code = "invalid_state_folder"


class OtherDataThere(FederatedAnalyticsError):
    """A database that holds something else than what was asked for."""

    code = "other_data_there"
