"""A script on a Flower federation, from the analyst's machine: signed, submitted, brought back."""

from __future__ import annotations

import base64
import io
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from federated_analytics import wire
from federated_analytics.app_run import RunStopped, run_app, stop_run
from federated_analytics.attested import KNOWN_SITES, pinned_keys
from federated_analytics.errors import FederatedAnalyticsError
from federated_analytics.flame.errors import RunFailed
from federated_analytics.flame.live_run import LiveRun
from federated_analytics.flame.order import ScriptOrder
from federated_analytics.flame.router import Event
from federated_analytics.flame.run_folder import RunFolder
from federated_analytics.flame.run_options import RunResult, check_nodes
from federated_analytics.flame.stopping import stop_request
from federated_analytics.messages import Request
from federated_analytics.submit import signed_request

APPROVAL_SECONDS = 3_600.0
STOPPED = "stopped by the analyst"


@dataclass(frozen=True)
class FederationOptions:
    """What runs where.

    Fields:
        nodes: names of the sites that take part, and the aggregator's, which is no site
        key: file of the analyst's key; sites run no script that is not signed
        project: the project that the sites have admitted her to
        approval_seconds: how long the sites' approvals are waited for
        epsilon_budget: what local_dp may spend in this run; the sites charge it to the project
        known_sites: file of the sites' public keys; the analyst's own where left out
    """

    script: Path
    nodes: Sequence[str]
    aggregator: str
    superlink: str
    key: Path
    project: str
    out: Path
    parameters: Mapping[str, Any] = field(default_factory=dict)
    limit: float = 3_600.0
    approval_seconds: float = APPROVAL_SECONDS
    epsilon_budget: float | None = None
    root_certificates: Path | None = None
    known_sites: Path | None = None

    def order(self) -> ScriptOrder:
        """The order that is signed; RunFailed where the options make none."""
        if not self.script.is_file():
            raise RunFailed("There is no such script.", where=str(self.script))
        check_nodes(self.nodes, self.aggregator)
        types = {n: "aggregator" if n == self.aggregator else "default" for n in self.nodes}
        text = self.script.read_text(encoding="utf-8")
        known = pinned_keys(self.known_sites or KNOWN_SITES)
        return ScriptOrder(
            self.script.name,
            text,
            types,
            dict(self.parameters),
            self.limit,
            {node: known[node] for node in self.nodes if node in known},
            self.epsilon_budget or 0.0,
        )


@dataclass(frozen=True)
class Place:
    """Where a run goes on: all that is needed to stop it, also from another process.

    Fields:
        analysis: the run's id; whoever knows it can end it at the sites
        run_id: Flower's number of it, once it has one
        sites: how many take part
    """

    superlink: str
    analysis: str
    sites: int
    root_certificates: str = ""
    run_id: str = ""

    def stop(self, say: Callable[[str], None]) -> dict[str, str]:
        """Stop the run at its SuperLink and at its sites; what each site has said of it."""
        trusted = self.root_certificates or None
        if self.run_id:
            stop_run(self.run_id, self.superlink, trusted)
        config = {
            "request": base64.b64encode(stop_request(self.analysis)).decode(),
            "deadline-seconds": 60,
            "min-sites": self.sites,
        }
        say("stopping at the sites; this takes some seconds")
        told = json.loads(run_app(config, self.superlink, trusted, lambda line: None))
        return {str(site): str(what) for site, what in told.items()}


def run_on_federation(
    options: FederationOptions,
    on_line: Callable[[str], None] = lambda line: None,
    on_event: Callable[[Event], None] = lambda event: None,
    on_start: Callable[[LiveRun], None] = lambda live: None,
) -> RunResult:
    """Run a script on a federation; what is known of it stands in `options.out` all the while.

    A stop that was asked for with `flame stop`, and Ctrl-C, end it at the sites too.

    Args:
        on_line: shown each line of the run's log that is no event.
        on_event: told of each log, status and progress as it comes.
        on_start: given what is known of the run, for a display.

    Raises:
        RunFailed: the run ended without a result; NoSuperLink: nothing answers there.
    """
    order = options.order()
    analysis = secrets.token_hex(16)
    config = _config(options, order, analysis)
    out = RunFolder(options.out)
    trusted = str(options.root_certificates.resolve()) if options.root_certificates else ""
    place = Place(options.superlink, analysis, len(order.data_nodes), trusted)
    live = LiveRun(out, order.nodes, place.__dict__)
    on_start(live)

    def show(line: str) -> None:
        if not live.take(line, on_event):
            on_line(line)

    try:
        text = run_app(
            config, options.superlink, options.root_certificates, show, stopped=out.stop_asked
        )
        return _written(json.loads(text), out)
    except RunStopped:
        _stopped(live, on_line, STOPPED)
        return RunResult("stopped", live.nodes, 0, False, options.out)
    except FederatedAnalyticsError as error:
        live.end("failed", f"{error.code}: {error.message}")
        live.write("failed")
        raise
    except BaseException:  # Ctrl-C, or a signal: the sites are told before this process ends
        _stopped(live, on_line, "the run was interrupted")
        raise


def _config(options: FederationOptions, order: ScriptOrder, analysis: str) -> dict[str, Any]:
    """The run-config that carries a signed order."""
    seconds = options.approval_seconds + options.limit
    request = wire.encode_request(Request(order.to_json(), 1, analysis, seconds, kind="flame"))
    signed = signed_request(request, order.digest, options.key, options.project, seconds + 600)
    return {
        "request": base64.b64encode(request).decode(),
        "signed-request": base64.b64encode(signed).decode(),
        "project": options.project,
        "deadline-seconds": int(options.approval_seconds),
        "min-sites": len(order.data_nodes),
    }


def _stopped(live: LiveRun, say: Callable[[str], None], reason: str) -> None:
    """End a run that was begun here, at its SuperLink and its sites, and write down that it is."""
    try:
        place = live.place()
        told = Place(**place).stop(say) if place.get("run_id") else {}
        for site, what in told.items():
            say(f"{site}: {what}")
        live.end("stopped", reason)
    except FederatedAnalyticsError as error:
        live.end("stopped", f"{reason}; the sites were not told ({error.code})")
    finally:
        live.end("stopped", reason)
        live.write("stopped")


def _written(ended: Mapping[str, Any], out: RunFolder) -> RunResult:
    """What came back, in the form that a run on one machine leaves."""
    out.replace_log(ended["log"])
    for one in ended["submissions"]:
        data = io.BytesIO(base64.b64decode(one["data"]))
        out.add_submission(one["node"], one["output_type"], data)
    out.write_status(ended["state"], ended["nodes"])
    count = len(ended["submissions"])
    succeeded = ended["state"] == "finished" and count > 0
    return RunResult(ended["state"], ended["nodes"], count, succeeded, out.folder)
