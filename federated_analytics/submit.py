"""Submit a study to a Flower federation and bring its result back to this machine."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from federated_analytics.connections import NoSuperLink, connection
from federated_analytics.errors import (
    FederatedAnalyticsError,
    FederationError,
    WireError,
)
from federated_analytics.federation import Event
from federated_analytics.local.program import program
from federated_analytics.payload import from_lines, is_payload
from federated_analytics.progress import event_of

if TYPE_CHECKING:
    from federated_analytics.report.result import Result
    from federated_analytics.site_terms import Introduction
    from federated_analytics.study import Study

_STARTED = re.compile(r"Successfully started run (\d+)")
_ERROR = re.compile(r"error ([a-z_]+): (.*)")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
APP_FILES = ("pyproject.toml", "README.md", "LICENSE")
"""Beside the package and `studies`, what a Flower app is made of."""
READ_AGAIN = 2
"""How often a log is read again when its result does not add up."""


class RunFailed(FederationError):
    """A run that ended without a result."""

    code = "run_failed"


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
        if found := _STARTED.search(line):
            self.run_id = found[1]
        if found := _ERROR.match(line.strip()):
            self.error = (found[1], found[2])
        self.said.append(line)
        show(line)


def submit(
    study: Study,
    *,
    superlink: str,
    min_sites: int = 2,
    deadline_seconds: float = 300,
    root_certificates: str | Path | None = None,
    on_progress: Callable[[Event], None] | None = None,
    on_line: Callable[[str], None] | None = None,
    key: str | Path | None = None,
    project: str = "",
    known_sites: Path | None = None,
    secure: bool = False,
) -> Result:
    """Run a study over a federation and return its result.

    Args:
        superlink: a connection's name in Flower's config.toml, or HOST:PORT of a SuperLink.
        root_certificates: for HOST:PORT with TLS; without, the connection is insecure.
        on_progress: told what happens, as by `federation.run_study`.
        on_line: shown the other lines of the run's log.
        key: file of the analyst's key: requests are signed with it, and the sites' signatures
            on what comes back are verified here.
        project: with `key`, the project that the sites have admitted her to.
        known_sites: with `key`, the file of the sites' public keys; her own where left out.
        secure: add the sites' numbers up behind masks; sites want a key for it.
    Raises:
        NoSuperLink: no such connection, or nothing answers there.
        RunFailed: the run ended without a result; the message says why.
    """
    from federated_analytics.report.formats import from_json

    show = _shown(superlink, on_progress, on_line)
    config = {
        "study-json": study.to_json(with_source=True),
        "min-sites": int(min_sites),
        "deadline-seconds": int(deadline_seconds),
        "return-result": True,
        "secure": secure,
    }
    if key is None:
        return from_json(run_app(config, superlink, root_certificates, show), where=superlink)
    from federated_analytics import wire
    from federated_analytics.attested import KNOWN_SITES, check, unpacked
    from federated_analytics.federation import request_of

    request = wire.encode_request(request_of(study, deadline_seconds, secure=secure))
    envelope = signed_request(request, study.digest, Path(key), project, deadline_seconds + 600)
    config["signed-request"] = base64.b64encode(envelope).decode()
    text, replies = unpacked(run_app(config, superlink, root_certificates, show))
    result = from_json(text, where=superlink)
    known = known_sites or KNOWN_SITES
    check(result, study, envelope, replies, min_sites=min_sites, known=known, secure=secure)
    return result


def signed_request(request: bytes, digest: str, key: Path, project: str, seconds: float) -> bytes:
    """A request, signed with the key in a file.

    Args:
        digest: of what it asks, which the signature names.
        seconds: how long it may be used.
    """
    from federated_analytics.code_digest import code_digest
    from federated_analytics.signing import SigningKey, sign

    return sign(
        request,
        SigningKey.load(key),
        project=project,
        study=digest,
        code=code_digest(),
        seconds=seconds,
    )


def ask_terms(
    superlink: str, *, min_sites: int = 1, root_certificates: str | Path | None = None
) -> list[Introduction]:
    """What every connected site says of its policy; errors as of `submit`."""
    from federated_analytics.site_terms import from_json

    config = {"site-terms": True, "min-sites": int(min_sites), "return-result": True}
    return from_json(run_app(config, superlink, root_certificates, lambda line: None))


def run_app(
    config: Mapping[str, Any],
    superlink: str,
    root_certificates: str | Path | None,
    show: Callable[[str], None],
) -> str:
    """Run the app with a run-config and bring back what its ServerApp returns.

    Args:
        show: given the other lines of the run's log.
    Raises:
        NoSuperLink, RunFailed: as of `submit`.
    """
    with _app() as app, connection(superlink, root_certificates) as (name, environment):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "run-config.toml"
            file.write_text(tomli_w.dumps(config), encoding="utf-8")
            command = ["run", str(app), name, "--run-config", str(file), "--stream"]
            log = _stream(command, environment, show)
        return _payload(log, name, app, environment)


def _shown(
    superlink: str,
    on_progress: Callable[[Event], None] | None,
    on_line: Callable[[str], None] | None,
) -> Callable[[str], None]:
    """Lines of a run's log told apart: progress as events, others as they are."""
    started = time.monotonic()

    def show(line: str) -> None:
        event, elapsed = event_of(line), time.monotonic() - started
        if event is not None:
            event = replace(event, elapsed_seconds=elapsed)
        if found := _STARTED.search(line):
            message = f"run {found[1]} started on {superlink}"
            event = Event("start", 0, "", 0, 0, elapsed, message)
        if event is not None and on_progress is not None:
            on_progress(event)
        elif on_line is not None:
            on_line(line)

    return show


def _stream(arguments: list[str], environment: dict[str, str], show: Callable[[str], None]) -> _Log:
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
    try:
        for line in process.stdout:
            log.take(line, show)
        process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        if log.run_id:
            name = arguments[2]
            subprocess.run(
                [program("flwr"), "stop", log.run_id, name],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                check=False,
            )
        raise
    return log


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
