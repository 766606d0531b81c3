"""What the platform enforces around a worker, as far as it can: limits, no network, Landlock.

Everything here is tried and reported, never assumed: a kernel or a container that forbids a
mechanism leaves the others in force. Linux only, but for the resource limits.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import struct
import sys
from collections.abc import Iterable, Mapping
from typing import Any

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CAPABILITY_VERSION_3 = 0x20080522
_PATH_BENEATH, _O_PATH = 1, 0o10000000
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_TREE_CHANGES = sum(1 << bit for bit in range(4, 13))  # remove and make, of every kind
_REFER = 1 << 13
_TCP = 3
_ABSTRACT_SOCKETS_AND_SIGNALS = 3
_SYSTEM_READABLE = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/proc", "/dev", "/sys")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/tty")


def limit_resources(limits: Mapping[str, Any]) -> None:
    """Bounds that a worker and all that it starts cannot raise again.

    Args:
        limits: `memory_bytes` (address space), `processes` (and threads, beyond those that the
            user has now; the kernel does not hold root to it), `cpu_seconds`; each a number or
            None.
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, limits.get("memory_bytes"))
    if limits.get("processes") is not None:
        _limit(resource.RLIMIT_NPROC, _threads_of_user() + limits["processes"])
    _limit(resource.RLIMIT_CPU, limits.get("cpu_seconds"))


def _limit(kind: int, value: int | None) -> None:
    if value is None:
        return
    hard = resource.getrlimit(kind)[1]
    allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with contextlib.suppress(OSError, ValueError):  # macOS knows some of them by name only
        resource.setrlimit(kind, (allowed, allowed))


def _threads_of_user() -> int:
    """How many threads this process's user has: what the kernel counts for the limit."""
    count, own = 0, os.getuid()
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if name.isdigit() and os.stat(f"/proc/{name}").st_uid == own:
                    count += len(os.listdir(f"/proc/{name}/task"))
    return count


def die_with_parent() -> None:
    """The kernel kills this process when its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, 9)


def adopt_orphans() -> bool:
    """Descendants whose parent ends become children of this process. False where it cannot be."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def leave_network() -> bool:
    """Move into a network namespace without any interface; False where the platform forbids it."""
    if not sys.platform.startswith("linux"):
        return False
    if _unshare(_CLONE_NEWNET):
        return True
    uid, gid = os.getuid(), os.getgid()
    if not _unshare(_CLONE_NEWNET | _CLONE_NEWUSER):
        return False
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with contextlib.suppress(OSError), open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    return True


def drop_capabilities() -> bool:
    """Give up what makes root more than a user, for this process and all that it starts."""
    if not sys.platform.startswith("linux"):
        return False
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    return not _libc().capset(header, bytes(24))


def confine_files(
    writable: Iterable[str], readable: Iterable[str] | None, *, tcp: bool
) -> frozenset[str]:
    """Landlock: write below `writable` only, and read below `readable` only unless it is None.

    A confined process can also not trace, nor (from version 6 of Landlock) signal, a process
    outside, nor (from version 4) use TCP unless `tcp`.

    Returns:
        What is in force, of "files", "reads", "tcp" and "signals".
    """
    version = _syscall(_CREATE_RULESET, None, 0, 1) if sys.platform.startswith("linux") else 0
    if version < 1:
        return frozenset()
    change = _WRITE_FILE | _TREE_CHANGES
    change |= _REFER if version >= 2 else 0
    change |= _TRUNCATE if version >= 3 else 0
    read = 0 if readable is None else _EXECUTE | _READ_FILE | _READ_DIR
    net = _TCP if version >= 4 and not tcp else 0
    scoped = _ABSTRACT_SOCKETS_AND_SIGNALS if version >= 6 else 0
    attributes = struct.pack("=QQQ", change | read, net, scoped)
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = _syscall(_CREATE_RULESET, attributes, size, 0)
    if rules < 0:
        return frozenset()
    try:
        for path in writable:
            _allow(rules, path, change | read)
        for path in _DEVICES:
            _allow(rules, path, (_WRITE_FILE | _TRUNCATE) & change | read & _READ_FILE)
        _allow(rules, "/dev/shm", change | read)
        for path in () if readable is None else (*_SYSTEM_READABLE, *readable):
            _allow(rules, path, read if os.path.isdir(path) else read & (_EXECUTE | _READ_FILE))
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        if _syscall(_RESTRICT_SELF, rules, 0) < 0:
            return frozenset()
    finally:
        os.close(rules)
    in_force = {"files", "reads" if read else "", "tcp" if net else "", "signals" if scoped else ""}
    return frozenset(in_force - {""})


def _allow(rules: int, path: str, access: int) -> None:
    try:
        place = os.open(path, _O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no rule
    try:
        _syscall(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", access, place), 0)
    finally:
        os.close(place)


def _unshare(flags: int) -> bool:
    return bool(_libc().unshare(ctypes.c_int(flags)) == 0)


def _prctl(option: int, value: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    zero = ctypes.c_ulong(0)
    failed = _libc().prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero)
    return not failed


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return int(_libc().syscall(ctypes.c_long(number), *converted))


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)
