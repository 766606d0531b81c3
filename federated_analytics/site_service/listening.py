"""The socket that a service listens on: made with its final mode, removed when it stops."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import socket
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from federated_analytics import unix_sockets
from federated_analytics.errors import ConfigError
from federated_analytics.site_service.address import HOST, Address

BACKLOG = 2_048
SOCKET_MODE = 0o660
WHERE = "the site service's socket"


def user_ids(names: Iterable[str]) -> frozenset[int]:
    """Numeric ids of system users, and this process's own; ConfigError for an unknown name."""
    found = {os.geteuid()}
    for name in names:
        try:
            found.add(int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid)
        except KeyError as error:
            raise ConfigError(
                f"There is no system user {name[:60]!r}.",
                where="service.users",
                remedy="Write the name of the user that runs the SuperNode.",
            ) from error
    return frozenset(found)


@contextlib.contextmanager
def listening(address: Address, group: str = "") -> Iterator[socket.socket]:
    """A listening socket.

    Args:
        group: the system group that may write to a Unix socket; this process's own by default.

    Raises:
        ConfigError: it is taken, or cannot be made.
    """
    family = socket.AF_UNIX if address.path else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as opened:
        try:
            if address.path:
                _bind(opened, Path(address.path), group)
            else:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                opened.bind((HOST, address.port))
            opened.listen(BACKLOG)
        except OSError as error:
            raise ConfigError(
                f"The service cannot listen there ({error.strerror}).",
                where=WHERE,
                remedy="Name a folder that the service may write to, or a free port.",
            ) from error
        inode = _inode(address.path)
        try:
            yield opened
        finally:
            # Another service may have taken the name meanwhile: its socket stays.
            if inode and _inode(address.path) == inode:
                os.unlink(address.path)


def _bind(opened: socket.socket, path: Path, group: str) -> None:
    _remove_stale(path)
    unix_sockets.bind(opened, path, SOCKET_MODE)
    if group:
        try:
            os.chown(path, -1, int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid)
        except KeyError as error:
            raise ConfigError(f"There is no system group {group[:60]!r}.", where=WHERE) from error


def _remove_stale(path: Path) -> None:
    """Remove the socket that a killed service left; ConfigError where one still answers."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(
            "There is a file of this name, which is not a socket.",
            where=WHERE,
            remedy="Give another path, or move the file away yourself.",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise ConfigError(
        "Another service listens there.", where=WHERE, remedy="Stop it first, or give another path."
    )


def _inode(path: str) -> tuple[int, int] | None:
    if not path:
        return None
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        return found.st_dev, found.st_ino
    return None
