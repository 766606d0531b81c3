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
from federated_analytics.attested import KNOWN_SITES, pinned_keys
from federated_analytics.flame.errors import RunFailed
from federated_analytics.flame.local_run import RunResult
from federated_analytics.flame.order import ScriptOrder
from federated_analytics.flame.run_folder import RunFolder
from federated_analytics.messages import Request
from federated_analytics.submit import run_app, signed_request

APPROVAL_SECONDS = 3_600.0


@dataclass(frozen=True)
class FederationOptions:
    """What runs where.

    Fields:
        nodes: names of the sites that take part, and the aggregator's, which is no site
        key: file of the analyst's key; sites run no script that is not signed
        project: the project that the sites have admitted her to
        approval_seconds: how long the sites' approvals are waited for
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
    root_certificates: Path | None = None
    known_sites: Path | None = None

    def order(self) -> ScriptOrder:
        """The order that is signed; RunFailed where the options make none."""
        if not self.script.is_file():
            raise RunFailed("There is no such script.", where=str(self.script))
        if self.aggregator not in self.nodes:
            raise RunFailed(
                f"The aggregator {self.aggregator!r} is not among the nodes.",
                where="--aggregator",
                remedy="Name it in --nodes too; its worker runs beside the ServerApp.",
            )
        types = {n: "aggregator" if n == self.aggregator else "default" for n in self.nodes}
        text = self.script.read_text(encoding="utf-8")
        known = pinned_keys(self.known_sites or KNOWN_SITES)
        keys = {node: known[node] for node in self.nodes if node in known}
        return ScriptOrder(self.script.name, text, types, dict(self.parameters), self.limit, keys)


def run_on_federation(
    options: FederationOptions, on_line: Callable[[str], None] = lambda line: None
) -> RunResult:
    """Run a script on a federation and write what it leaves into `options.out`.

    Args:
        on_line: shown each line of the run's log.

    Raises:
        RunFailed: the run ended without a result; NoSuperLink: nothing answers there.
    """
    order = options.order()
    seconds = options.approval_seconds + options.limit
    request = wire.encode_request(
        Request(order.to_json(), 1, secrets.token_hex(16), seconds, kind="flame")
    )
    signed = signed_request(request, order.digest, options.key, options.project, seconds + 600)
    config = {
        "request": base64.b64encode(request).decode(),
        "signed-request": base64.b64encode(signed).decode(),
        "project": options.project,
        "deadline-seconds": int(options.approval_seconds),
        "min-sites": len(order.data_nodes),
    }
    text = run_app(config, options.superlink, options.root_certificates, on_line)
    return _written(json.loads(text), options)


def _written(ended: Mapping[str, Any], options: FederationOptions) -> RunResult:
    """What came back, in the form that a run on one machine leaves."""
    out = RunFolder(options.out)
    for entry in ended["log"]:
        out.add_log(entry["node"], entry["level"], entry["text"])
    for one in ended["submissions"]:
        data = io.BytesIO(base64.b64decode(one["data"]))
        out.add_submission(one["node"], one["output_type"], data)
    out.write_status(ended["state"], ended["nodes"])
    count = len(ended["submissions"])
    succeeded = ended["state"] == "finished" and count > 0
    return RunResult(ended["state"], ended["nodes"], count, succeeded, options.out)
