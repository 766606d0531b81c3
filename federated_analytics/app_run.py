"""Flower's own commands: a run of the app, its log read line by line, its stop."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from federated_analytics.connections import NoSuperLink, connection
from federated_analytics.errors import FederatedAnalyticsError, FederationError, WireError
from federated_analytics.local.program import program
from federated_analytics.payload import from_lines, is_payload

STARTED = re.compile(r"Successfully started run (\d+)")
_ERROR = re.compile(r"error ([a-z_]+): (.*)")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
APP_FILES = ("pyproject.toml", "README.md", "LICENSE")
"""Beside the package and `studies`, what a Flower app is made of."""
STOP_LOOK_SECONDS = 0.2
READ_AGAIN = 2
"""How often a log is read again when its result does not add up."""


class RunFailed(FederationError):
    """A run that ended without a result."""

    code = "run_failed"


class RunStopped(RunFailed):
    """A run that was stopped from here, as whoever waits for it wished."""

    code = "run_stopped"


@dataclass
class _Log:
    """What the stream of a run has said so far."""

    run_id: str = ""
    payload: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    error: tuple[str, str] | None = None

    def take(self, line: str, show: Callable[[str], None]) -> None:
        line = _ANSI.sub("", line.rstrip("\n"))
        if is_payload(line):
            self.payload.append(line)
            return
        if found := STARTED.search(line):
            self.run_id = found[1]
        if found := _ERROR.match(line.strip()):
            self.error = (found[1], found[2])
        self.said.append(line)
        show(line)


def run_app(
    config: Mapping[str, Any],
    superlink: str,
    root_certificates: str | Path | None,
    show: Callable[[str], None],
    stopped: Callable[[], bool] = lambda: False,
) -> str:
    """Run the app with a run-config and bring back what its ServerApp returns.

    Args:
        show: given the other lines of the run's log.
        stopped: asked a few times a second; once true, the run is stopped at its SuperLink.
    Raises:
        NoSuperLink, RunFailed: as of `submit`; RunStopped: `stopped` was true.
    """
    with _app() as app, connection(superlink, root_certificates) as (name, environment):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "run-config.toml"
            file.write_text(tomli_w.dumps(config), encoding="utf-8")
            command = ["run", str(app), name, "--run-config", str(file), "--stream"]
            log = _stream(command, environment, show, stopped)
        return _payload(log, name, app, environment)


def stop_run(run_id: str, superlink: str, root_certificates: str | Path | None) -> None:
    """Stop a run at its SuperLink; nothing happens where it has ended."""
    with connection(superlink, root_certificates) as (name, environment):
        _stop_run(run_id, name, environment)


def _stop_run(run_id: str, name: str, environment: dict[str, str]) -> None:
    subprocess.run(
        [program("flwr"), "stop", run_id, name],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        check=False,
    )


def _stream(
    arguments: list[str],
    environment: dict[str, str],
    show: Callable[[str], None],
    stopped: Callable[[], bool] = lambda: False,
) -> _Log:
    """Run `flwr` and read what it prints; a Ctrl-C here also stops the run."""
    log = _Log()
    process = subprocess.Popen(
        [program("flwr"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    )
    assert process.stdout is not None
    ended = threading.Event()
    watch = threading.Thread(
        target=_end_when, args=(stopped, process, log, ended), name="stop", daemon=True
    )
    watch.start()
    try:
        for line in process.stdout:
            log.take(line, show)
        process.wait()
        if ended.is_set():
            raise RunStopped("The run was stopped.", where=f"run {log.run_id}")
    except BaseException:
        process.terminate()
        process.wait()
        if log.run_id:
            _stop_run(log.run_id, arguments[2], environment)
        raise
    return log


def _end_when(
    stopped: Callable[[], bool], process: subprocess.Popen[str], log: _Log, ended: threading.Event
) -> None:
    """End `flwr` once a stop is asked for and the run is known by its number."""
    while process.poll() is None:
        if log.run_id and stopped():
            ended.set()
            process.terminate()
            return
        time.sleep(STOP_LOOK_SECONDS)


def _payload(log: _Log, name: str, app: Path, environment: dict[str, str]) -> str:
    """The result's text; the log is read again where lines of it are missing."""
    for attempt in range(READ_AGAIN + 1):
        try:
            return from_lines(log.payload)
        except WireError:
            if log.error is not None:
                code, text = log.error
                failed = RunFailed(text)
                failed.code = code
                raise failed from None
            if not log.run_id or attempt == READ_AGAIN:
                break
        again = _stream(["log", log.run_id, name, "--show"], environment, lambda line: None)
        log = _Log(log.run_id, again.payload, [*log.said, *again.said], again.error)
    raise _explained(log, name)


def _explained(log: _Log, name: str) -> FederatedAnalyticsError:
    text = "\n".join(log.said)
    last = " ".join(line.strip(" │╭╰─╮╯") for line in log.said[-8:]).strip()
    if not log.run_id:
        return NoSuperLink(
            f"The run was not started: {last[-400:]}",
            where=name,
            remedy="Is the SuperLink running? `flwr ls` with the same connection tells.",
        )
    if "Exit Code" in text or "raised an exception" in text:
        message = "The ServerApp failed; its log above says why."
    else:
        message = "The run ended, or its SuperLink went away, before the result had come."
    return RunFailed(
        message,
        where=f"run {log.run_id}",
        remedy=f"`flwr log {log.run_id} {name}` shows its log; run the study again.",
    )


@contextmanager
def _app() -> Iterator[Path]:
    """A folder that `flwr run` takes: a copy of the package with what makes it an app.

    A copy also of a checkout: Flower walks the whole folder, environments and data with it.
    """
    package = Path(__file__).parent
    checkout = package.parent / "pyproject.toml"
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "federated-analytics"
        ignored = shutil.ignore_patterns("__pycache__", "app")
        shutil.copytree(package, app / package.name, ignore=ignored)
        if checkout.is_file():
            shutil.copytree(checkout.with_name("studies"), app / "studies")
            for name in APP_FILES:
                shutil.copy(checkout.with_name(name), app / name)
        else:
            shutil.copytree(package / "app", app, dirs_exist_ok=True)
        yield app
