"""Why a node ended, in words that say what to do about it."""

from __future__ import annotations

import contextlib
import signal

NEVER_CAME = (
    "the node never came; its operator starts the site's service, or leave it out of --nodes"
)
_OF_EXCEPTIONS = {
    MemoryError: "use less memory at once, or ask for a larger --memory-gb",
    PermissionError: "a script writes in its working directory alone, and has no network",
    ModuleNotFoundError: "use what is installed at the node, or ask its operator for the package",
    SyntaxError: "correct the script; `federated-analytics flame run` tries it on one machine",
}


def at_limit(seconds: float) -> str:
    """Of a script that took longer than it may."""
    return f"stopped at its limit of {seconds:g} s; end its loops, or give it a larger --limit"


def killed_by(number: int) -> str:
    """Of a worker that a signal ended."""
    name = f"signal {number}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(number).name
    remedy = "run it again"
    if number == signal.SIGKILL:
        remedy = "if the machine's memory ran out use less at once, else run it again"
    elif number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT):
        remedy = "a library of the script crashed: the node's own log has its last words"
    return f"the worker was killed by {name}; {remedy}"


def remedy_of(error: BaseException) -> str:
    """What to do about an exception that a script did not catch; "" where its text says it all."""
    for kind, remedy in _OF_EXCEPTIONS.items():
        if isinstance(error, kind):
            return f"; {remedy}"
    return ""
