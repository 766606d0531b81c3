"""A socket's permissions, and everybody else's."""

from __future__ import annotations

import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from federated_analytics import unix_sockets


@pytest.mark.parametrize("mode", [0o600, 0o660])
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_socket_has_the_mode_that_was_asked_for(tmp_path: Path, mode: int, umask: int) -> None:
    path = tmp_path / "s"
    before = os.umask(umask)
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            unix_sockets.bind(opened, path, mode)
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)


def test_sockets_that_are_bound_side_by_side_leave_the_umask_alone(tmp_path: Path) -> None:
    """Another thread's folders keep their permissions, during and afterwards."""
    before = os.umask(0o022)
    try:
        start = threading.Barrier(9)

        def bind(number: int) -> None:
            start.wait()
            for turn in range(50):
                with socket.socket(socket.AF_UNIX) as opened:
                    unix_sockets.bind(opened, tmp_path / f"{number}-{turn}", 0o600)

        threads = [threading.Thread(target=bind, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        start.wait()
        modes = set()
        for turn in range(400):
            folder = tmp_path / f"folder-{turn}"
            folder.mkdir()
            modes.add(stat.S_IMODE(folder.stat().st_mode))
        for thread in threads:
            thread.join()
        assert modes == {0o755}
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
