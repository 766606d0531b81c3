"""Whole commands: `flwr run --stream` of the baseline and of ours over one federation."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tomli_w

from benchmarks.data import CDM_FEATURES, FLAT_FEATURES, FLAT_TABLE
from benchmarks.memory import Peaks, sampled
from federated_analytics.errors import WireError
from federated_analytics.local.processes import LocalFederation, program
from federated_analytics.payload import from_lines, is_payload
from federated_analytics.report.formats import from_json
from federated_analytics.report.result import Result

ROOT = Path(__file__).resolve().parents[1]
BASELINE_APP = Path(__file__).with_name("baseline_app")
MOMENTS, EVERYTHING = "mean,std", "mean,std,quantiles,histogram"
LIMIT_SECONDS = 600

_FLAT = {"selected-features": ",".join(FLAT_FEATURES), "table-name": FLAT_TABLE}
_OMOP = {"selected-features": ",".join(CDM_FEATURES), "population": "everyone"}
QUESTIONS: Mapping[str, Mapping[str, str]] = {
    "flat": {**_FLAT, "feature-aggregation": MOMENTS},
    "flat+": {**_FLAT, "feature-aggregation": EVERYTHING},
    "omop": {**_OMOP, "feature-aggregation": MOMENTS},
    "omop+": {**_OMOP, "feature-aggregation": EVERYTHING},
}
"""run-config of each question; a trailing + asks for quantiles and histograms as well."""


class RunFailed(Exception):
    """A benchmarked command that ended without its answer; holds the end of its log."""


@dataclass
class Run:
    """One command as it was measured.

    Fields:
        seconds: wall time, from starting `flwr run` to its end
        site_seconds: work of each site as it reports it; empty for the baseline
        bytes_sent: size of each site's answer
        means: mean of each feature, to check that everybody answers the same
        phases: seconds from the start to the first line of the log that shows each phase
    """

    seconds: float
    peaks: Peaks
    bytes_sent: list[int]
    means: dict[str, float]
    site_seconds: list[float] = field(default_factory=list)
    rounds: int = 1
    phases: dict[str, float] = field(default_factory=dict)


_PHASES = {
    "run accepted": re.compile(r"Successfully started run"),
    "ServerApp runs": re.compile(r"[>*] \[.*\] round 1  0/\d+  asking"),
    "request sent": re.compile(r"[>*] \[.*\] round 1  0/\d+  round 1"),
    "last site answered": re.compile(r"\+ \["),
    "result merged": re.compile(r"= \["),
}


def ours(federation: LocalFederation, question: str) -> Run:
    """One question through federated_analytics."""
    config = {**QUESTIONS[question], "return-result": True}
    seconds, lines, peaks = _flwr_run(federation, ROOT, config)
    result = from_json(_payload(lines))
    return Run(
        seconds,
        peaks,
        [int(value) for value in _participation(result, "bytes_received")],
        means(result),
        [float(value) for value in _participation(result, "site_seconds")],
        phases=_phases(lines),
    )


def baseline(federation: LocalFederation) -> Run:
    """Mean and standard deviation of the flat table the way Flower's example finds them."""
    config = {"selected-features": ",".join(FLAT_FEATURES), "table-name": FLAT_TABLE}
    seconds, lines, peaks = _flwr_run(federation, BASELINE_APP, config)
    said = [line.partition("baseline ")[2] for _, line in lines if line.startswith("baseline {")]
    if not said:
        raise RunFailed("\n".join(line for _, line in lines[-15:]))
    answer = json.loads(said[0])
    means = {name: values["mean"] for name, values in answer["answers"].items()}
    return Run(seconds, peaks, answer["bytes"], means)


def _flwr_run(
    federation: LocalFederation, app: Path, config: Mapping[str, object]
) -> tuple[float, list[tuple[float, str]], Peaks]:
    """Wall seconds, the log's lines with the second each came, and peaks of memory."""
    file = federation.folder / "run-config.toml"
    file.write_text(tomli_w.dumps(config), encoding="utf-8")
    command = [program("flwr"), "run", str(app), "local-deployment"]
    command += ["--run-config", str(file), "--stream"]
    environment = {**os.environ, **federation.environment}
    environment |= {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "200"}
    servers = [federation.superlink, *federation.supernodes.values()]
    lines: list[tuple[float, str]] = []
    started = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        roots = [process.pid, *(server.pid for server in servers if server is not None)]
        try:
            with sampled(roots) as peaks:
                for line in process.stdout:
                    lines.append((time.monotonic() - started, line.rstrip("\n")))
                    if lines[-1][0] > LIMIT_SECONDS:
                        break
        finally:
            process.terminate()
    seconds = time.monotonic() - started
    if not any("Successfully started run" in line for _, line in lines):
        raise RunFailed("\n".join(line for _, line in lines[-15:]))
    return seconds, lines, peaks


def _phases(lines: Sequence[tuple[float, str]]) -> dict[str, float]:
    """When each phase last showed in the log."""
    found = {}
    for name, pattern in _PHASES.items():
        seconds = [second for second, line in lines if pattern.search(line)]
        if seconds:
            found[name] = seconds[-1]
    return found


def _payload(lines: Sequence[tuple[float, str]]) -> str:
    try:
        return from_lines(line for _, line in lines if is_payload(line))
    except WireError as error:
        raise RunFailed("\n".join(line for _, line in lines[-15:])) from error


def _participation(result: Result, name: str) -> list[str]:
    """One estimate of each site that answered."""
    return [
        row.estimate_value
        for row in result.rows
        if row.variable_name == "participation" and row.estimate_name == name
    ]


def means(result: Result) -> dict[str, float]:
    """Pooled mean of each feature of a result."""
    return {
        row.variable_name: float(row.estimate_value)
        for row in result.rows
        if row.estimate_name == "mean" and row.cdm_name == "pooled"
    }
