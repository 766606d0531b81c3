"""A Unix socket that only those whom it is for can reach, from its first moment."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path


def bind(opened: socket.socket, path: Path, mode: int) -> None:
    """Bind a socket at `path`, which never has more permissions than `mode`.

    The process's umask is left alone: it is every thread's, and another thread's folder that
    is made meanwhile would lose its permissions.

    Errors:
        OSError: there is a file of this name, or the folder cannot be written to.
    """
    with contextlib.suppress(OSError):  # Linux takes the file's mode from here; others refuse it
        os.fchmod(opened.fileno(), mode)
    opened.bind(str(path))
    os.chmod(path, mode)  # the umask may have taken too much
