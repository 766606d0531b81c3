"""The guard of one worker: starts it confined, ends it at its limit, leaves nothing running.

Its order comes as one line of JSON on standard input. It ends the worker and everything that
the worker started when the worker ends, at the time limit, at SIGTERM, and (with `tied`) when
standard input closes, which it does when whoever gave the order dies. A worker that is not tied
outlives its service for `reconnect_seconds`: the service holds a lock on the order's `leash`.
What happened is written to the order's `outcome` file: {"code", "reason"}.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import sys
import time
import traceback
from typing import Any

from federated_analytics.flame.confinement import adopt_orphans, leave_network

_SWEEP_SECONDS = 10.0
_LOOK_SECONDS = 1.0


def guard() -> int:
    """Run one worker to its end; the worker's exit code, 1 when it was killed."""
    line = sys.stdin.buffer.readline()
    if not line:
        return 1  # whoever would have given the order is gone
    order = json.loads(line)
    adopt_orphans()
    if not order["network"] and not order["address"].startswith("127.0.0.1:"):
        leave_network()
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    worker = os.fork()
    if worker == 0:
        _become_worker(order)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    code, reason = _watch(order, worker, woken)
    _sweep(worker)
    _write(order["outcome"], {"code": code, "reason": reason})
    return 0 if code == 0 else 1


def _become_worker(order: dict[str, Any]) -> None:
    """In the child; never returns."""
    code = 70
    try:
        from federated_analytics.flame.worker import work

        code = work(order)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _watch(order: dict[str, Any], worker: int, woken: int) -> tuple[int | None, str]:
    """Wait for the worker's end, or a cause to end it: exit code (None: killed) and reason."""
    limit = order["limits"].get("seconds")
    deadline = None if limit is None else time.monotonic() + limit
    watched = [woken, 0] if order["tied"] else [woken]
    away_since: float | None = None
    while True:
        done, status = os.waitpid(worker, os.WNOHANG)
        if done:
            return _ending(status)
        now = time.monotonic()
        rest = None if deadline is None else deadline - now
        if rest is not None and rest <= 0:
            return None, f"stopped at its limit of {limit:g} s"
        if order["leash"]:
            rest = _LOOK_SECONDS if rest is None else min(rest, _LOOK_SECONDS)
            away_since = None if _held(order["leash"]) else away_since or now
            if away_since is not None and now - away_since > order["reconnect_seconds"]:
                return None, "stopped, as its site's service did not come back"
        ready, _, _ = select.select(watched, [], [], rest)
        if 0 in ready and not os.read(0, 4096):
            return None, "stopped, as the run that it belongs to has ended"
        if woken in ready and {signal.SIGTERM, signal.SIGINT} & set(os.read(woken, 4096)):
            return None, "stopped"


def _held(leash: str) -> bool:
    """Whether a process of the node's service is there, which holds a lock on this file."""
    try:
        with open(leash) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _ending(status: int) -> tuple[int | None, str]:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return code, "" if code == 0 else f"the worker ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return None, f"the worker was killed by {signal.Signals(-code).name}"
    return None, f"the worker was killed by signal {-code}"


def _sweep(worker: int) -> None:
    """Kill the worker and all its descendants, adopted ones too, and wait for their end.

    Orphans are children of this process, in whatever session they are, so its descendants are
    killed until there is none.
    """
    deadline = time.monotonic() + _SWEEP_SECONDS
    for kill in (os.kill, os.killpg):
        with contextlib.suppress(OSError):
            kill(worker, signal.SIGKILL)
    while time.monotonic() < deadline:
        for process in _descendants(os.getpid()):
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        try:
            done, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not done:
            time.sleep(0.01)


def _descendants(pid: int) -> list[int]:
    """All below a process, by /proc; empty where there is none."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                for child in map(int, file.read().split()):
                    found += [child, *_descendants(child)]
    return found


def _write(path: str, outcome: dict[str, Any]) -> None:
    with open(path + ".tmp", "w") as file:
        json.dump(outcome, file)
    os.replace(path + ".tmp", path)
