"""What can go wrong when a database is started, defined or filled."""

from __future__ import annotations

from pathlib import Path

from federated_analytics.errors import (
    DatabaseRefused,
    DatabaseUnreachable,
    FederatedAnalyticsError,
    MissingGrant,
)


class PortInUse(FederatedAnalyticsError):
    """Another program listens on the port that a server was to use."""

    code = "port_in_use"


class DiskFull(FederatedAnalyticsError):
    """Too little room for a database."""

    code = "disk_full"
    default_remedy = (
        "Free some space, or set FEDERATED_ANALYTICS_STATE to a folder on another disk."
    )


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


def refusal(error: BaseException | None) -> FederatedAnalyticsError:
    """What PostgreSQL refuses, as one of our errors."""
    state = getattr(error, "sqlstate", None) or ""
    said = str(error)
    if state.startswith("53") or "No space left" in said:
        return DiskFull("The database has no room left.", where="database")
    if state == "42501":
        return MissingGrant(
            "The role may not create tables or schemas there.",
            where="database",
            remedy="Give the URL of a role that may: GRANT CREATE ON DATABASE … TO …",
        )
    no_entry = "authentication failed" in said or "does not exist" in said
    if state.startswith(("28", "3D")) or (not state and no_entry):
        return DatabaseRefused(
            "The database refused the user, the password or the database's name.",
            where="URL",
            remedy="Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE; the database must exist.",
        )
    if not state:
        return DatabaseUnreachable(
            "The database does not answer.",
            where="URL",
            remedy="Start it (federated-analytics db start), or correct host and port.",
        )
    return ServerFailed(f"PostgreSQL refused: {said.splitlines()[0]}", where="database")


def failed_server(what: str, said: str, directory: Path) -> FederatedAnalyticsError:
    """What PostgreSQL's programs say when they fail, as one of our errors."""
    if "No space left" in said:
        return DiskFull(f"{what}: the disk is full.", where=str(directory))
    if "Address already in use" in said or "could not bind" in said:
        return PortInUse(
            f"{what}: its port is in use.",
            where=str(directory),
            remedy="Stop the other program, or choose other ports: --port 5500.",
        )
    return ServerFailed(
        f"{what}: {said[-600:] or 'it said nothing'}",
        where=str(directory),
        remedy="Make it anew: federated-analytics db stop --remove",
    )
