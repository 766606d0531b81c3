"""The ServerApp: reads the run-config, runs the study over the grid, writes the result."""

from __future__ import annotations

import base64
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from federated_analytics.errors import ConfigError, FederatedAnalyticsError

if TYPE_CHECKING:
    from federated_analytics.couriers import Courier

app = ServerApp()


class StudyFailed(Exception):
    """Ends the run as failed. Flower keeps the log only of an app that returns or raises."""


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run one study. A failure ends the run as failed, with its code and remedy in the log."""
    try:
        _run(grid, context.run_config)
    except FederatedAnalyticsError as error:
        print(f"error {error.code}: {error}", flush=True)
        logging.getLogger("flwr").addFilter(_without_traceback)
        raise StudyFailed(f"{error.code}: {error}") from None


def _without_traceback(record: logging.LogRecord) -> bool:
    """The error has been said with its remedy: where it was raised tells an analyst nothing."""
    if record.exc_info and isinstance(record.exc_info[1], StudyFailed):
        record.exc_info = None
    return True


def _run(grid: Grid, run_config: Any) -> None:
    from federated_analytics.attested import packed
    from federated_analytics.couriers import GridCourier
    from federated_analytics.federation import Terms, run_study
    from federated_analytics.payload import to_lines
    from federated_analytics.progress import line
    from federated_analytics.report.formats import to_json
    from federated_analytics.report.table_text import to_text
    from federated_analytics.run_config import whole
    from federated_analytics.study import Study

    terms = Terms.from_run_config(run_config)
    wait = whole(run_config, "wait-seconds", 30, 0, 3_600)
    returned = _flag(run_config, "return-result")
    courier = GridCourier(grid, terms.min_sites, wait)
    if _flag(run_config, "site-terms"):
        _introduce(courier, returned)
        return
    signed = _bytes(run_config, "signed-request")
    if request := _bytes(run_config, "request"):
        _of_another_kind(courier, request, signed, run_config)
        return
    study = Study.from_run_config(run_config, Path(__file__).parents[1])
    replies: dict[str, bytes] = {}
    result = run_study(
        study,
        courier,
        terms,
        on_progress=lambda e: print(line(e), flush=True),
        signed_request=signed,
        replies=replies,
        secure=_flag(run_config, "secure"),
    )
    if returned:
        text = to_json(result)
        for piece in to_lines(packed(text, replies) if signed else text):
            print(piece, flush=True)
        return
    print(to_text(result), flush=True)
    folder = str(run_config.get("results-dir", "")).strip()
    if folder:
        for path in result.save(Path(folder)):
            print(f"wrote {path}", flush=True)


def _introduce(courier: Courier, returned: bool) -> None:
    from federated_analytics.payload import to_lines
    from federated_analytics.site_terms import site_terms, to_json, to_text

    found = site_terms(courier)
    for text in to_lines(to_json(found)) if returned else [to_text(found)]:
        print(text, flush=True)


def _of_another_kind(
    courier: Courier, request: bytes, signed: bytes | None, run_config: Any
) -> None:
    """What is no study: a script, or expressions over fragments; the answer goes into the log."""
    from federated_analytics import wire
    from federated_analytics.payload import to_lines
    from federated_analytics.run_config import whole

    decoded = wire.decode_request(request)
    deadline = float(whole(run_config, "deadline-seconds", 300, 1, 86_400))
    if decoded.kind == "flame" and signed is None:
        import json

        from federated_analytics.flame.stopping import stop_at_sites

        text = json.dumps(stop_at_sites(courier, decoded.run, "stopped by the analyst"))
    elif decoded.kind == "flame":
        from federated_analytics.flame.order import ScriptOrder
        from federated_analytics.flame.over_flower import run_script
        from federated_analytics.flame.run_lines import one_line

        text = run_script(
            courier,
            ScriptOrder.from_json(decoded.study),
            signed or b"",
            analysis=decoded.run,
            project=str(run_config.get("project", "")),
            deadline_seconds=deadline,
            say=lambda line: print(one_line(line), flush=True),
        ).to_json()
    elif decoded.kind == "fedmed":
        from federated_analytics.fedmed.over_flower import run

        text = run(courier, request, signed)
    else:
        raise ConfigError("`request` is of no known kind.", where="run-config: request")
    for line in to_lines(text):
        print(line, flush=True)


def _bytes(run_config: Any, key: str) -> bytes | None:
    text = run_config.get(key, "")
    if not text:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"`{key}` is not what the `federated-analytics` command writes.",
            where=f"run-config: {key}",
        ) from error


def _flag(run_config: Any, key: str) -> bool:
    value = run_config.get(key, False)
    if not isinstance(value, bool):
        raise ConfigError(f"`{key}` is true or false.", where=f"run-config: {key}")
    return value
