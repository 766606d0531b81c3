"""The worker: one process that runs an analysis script as `__main__`, and nothing else of ours."""

from __future__ import annotations

import atexit
import contextlib
import os
import runpy
import sys
import threading
import traceback
from typing import Any

from federated_analytics.flame.confinement import (
    confine_files,
    die_with_parent,
    drop_capabilities,
    limit_resources,
)
from federated_analytics.flame.errors import FlameError
from federated_analytics.flame.modules import register
from federated_analytics.flame.node_connection import NodeConnection
from federated_analytics.flame.reasons import remedy_of
from federated_analytics.flame.sdk import ADDRESS_VARIABLE, NODE_VARIABLE, FlameCoreSDK


def work(order: dict[str, Any]) -> int:
    """Confine this process, run the script, tell the node how it ended.

    Returns:
        The exit code: 0 when the script ran to its end, or left with sys.exit(0).
    """
    _settle(order)
    register()
    connection = NodeConnection(
        order["address"], order["token"], reconnect_seconds=order["reconnect_seconds"]
    )
    FlameCoreSDK._token = order["token"]
    FlameCoreSDK._reconnect_seconds = order["reconnect_seconds"]
    status, reason = _run(order)
    atexit._run_exitfuncs()
    with contextlib.suppress(FlameError):
        for sdk in FlameCoreSDK._open:
            sdk._flush_log()
        connection.call("script_ended", status=status, reason=reason)
    return 0 if status == "finished" else 1


def _settle(order: dict[str, Any]) -> None:
    """Own session, directory, environment and limits."""
    die_with_parent()
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.umask(0o077)
    os.chdir(order["directory"])
    os.environ.clear()
    os.environ[NODE_VARIABLE] = order["node"]
    os.environ[ADDRESS_VARIABLE] = order["address"]
    limit_resources(order["limits"])
    drop_capabilities()
    confine_files(
        [order["directory"]],
        order["readable"],
        tcp=order["network"] or _on_loopback(order["address"]),
    )
    sys.argv = [order["script"], *(f"{k}={v}" for k, v in order["parameters"].items())]


def _run(order: dict[str, Any]) -> tuple[str, str]:
    """The script's state at its end, and why."""
    named = {k: v for k, v in order["parameters"].items() if k.isidentifier()}
    try:
        runpy.run_path(order["script"], init_globals=named, run_name="__main__")
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and not thread.daemon:
                thread.join()
    except SystemExit as exit:
        if exit.code in (None, 0):
            return "finished", ""
        code = exit.code if isinstance(exit.code, int) else 1
        if not isinstance(exit.code, int):
            print(exit.code, file=sys.stderr)
        return "failed", f"the script left with exit code {code}"
    except BaseException as error:
        traceback.print_exc()
        return "failed", _reason(error, order)
    return "finished", ""


def _reason(error: BaseException, order: dict[str, Any]) -> str:
    """What and in which line; an error's own text only where it stays with the analyst.

    Texts of our own errors hold no data, so they are always told.
    """
    line = error.lineno if isinstance(error, SyntaxError) else None
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == order["script"]:
            line = frame.lineno
    place = f" (line {line} of the script)" if line else ""
    text = str(error)
    if text and (order["full_reasons"] or isinstance(error, FlameError)):
        return f"{type(error).__name__}: {text[:500]}{place}{remedy_of(error)}"
    return f"{type(error).__name__}{place}{remedy_of(error)}"


def _on_loopback(address: str) -> bool:
    return address.startswith("127.0.0.1:")
