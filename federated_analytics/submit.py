"""Submit a study to a Flower federation and bring its result back to this machine."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from federated_analytics.app_run import STARTED, RunFailed, run_app
from federated_analytics.connections import NoSuperLink
from federated_analytics.federation import Event
from federated_analytics.progress import event_of

if TYPE_CHECKING:
    from federated_analytics.report.result import Result
    from federated_analytics.site_terms import Introduction
    from federated_analytics.study import Study

__all__ = ["NoSuperLink", "RunFailed", "ask_terms", "run_app", "signed_request", "submit"]


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
        if found := STARTED.search(line):
            message = f"run {found[1]} started on {superlink}"
            event = Event("start", 0, "", 0, 0, elapsed, message)
        if event is not None and on_progress is not None:
            on_progress(event)
        elif on_line is not None:
            on_line(line)

    return show
