"""Round trips of a FLAME script over real Flower processes: a SuperLink and two SuperNodes."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from federated_analytics.flame.federation_run import FederationOptions, run_on_federation
from federated_analytics.local.guarded import PROJECT, guarded_hospitals
from federated_analytics.local.processes import local_federation
from federated_analytics.signing import SigningKey

SITES = ("hospital-a", "hospital-b")
ROUNDS = 5
_NO_DATABASE = "postgresql://nobody@127.0.0.1:1/none"
_PING = f"""
import json, time
from flame import FlameCoreSDK
flame = FlameCoreSDK(silent=True)
if flame.get_role() == "aggregator":
    others = flame.get_participant_ids()
    flame.ready_check(others)
    seconds = []
    for _ in range({ROUNDS}):
        started = time.perf_counter()
        flame.send_message_and_wait_for_responses(others, "ping", {{}})
        seconds.append(time.perf_counter() - started)
    flame.submit_final_result(json.dumps(seconds))
    flame.analysis_finished()
else:
    hub = flame.get_aggregator_id()
    for _ in range({ROUNDS}):
        flame.await_messages([hub], "ping")
        flame.send_message([hub], "ping", {{}})
"""


@dataclass(frozen=True)
class RoundTrips:
    """What was measured.

    Fields:
        seconds: of each round: a message to every site, and every site's answer
        whole: seconds from the command to its end
    """

    sites: int
    seconds: tuple[float, ...]
    whole: float

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def least(self) -> float:
        return min(self.seconds)

    @property
    def most(self) -> float:
        return max(self.seconds)

    @property
    def rest(self) -> float:
        """Seconds of the run that are not its rounds'."""
        return self.whole - sum(self.seconds)


def round_trips() -> RoundTrips:
    """Start a SuperLink, two SuperNodes and their sites' services, and play ping-pong.

    Raises:
        RuntimeError: the run did not come to its end.
    """
    with tempfile.TemporaryDirectory(prefix="fa-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        (folder / "ping.py").write_text(_PING)
        key = SigningKey.new()
        key.save(folder / "analyst.pem")
        urls, policies = (
            dict.fromkeys(SITES, _NO_DATABASE),
            dict.fromkeys(SITES, "free_exchange = true\n"),
        )
        with (
            guarded_hospitals(folder, urls, policies, key, _ignored, own_user=True) as sites,
            local_federation([one.node_config for one in sites]) as federation,
        ):
            return _played(folder, federation.address)


def _played(folder: Path, superlink: str) -> RoundTrips:
    started = time.perf_counter()
    ended = run_on_federation(
        FederationOptions(
            script=folder / "ping.py",
            nodes=[*SITES, "hub"],
            aggregator="hub",
            superlink=superlink,
            key=folder / "analyst.pem",
            project=PROJECT,
            out=folder / "out",
            limit=300,
            approval_seconds=60,
        )
    )
    whole = time.perf_counter() - started
    if not ended.succeeded:
        raise RuntimeError(f"The run over the deployment failed: {ended.nodes}")
    [line] = (folder / "out" / "submissions.jsonl").read_text().splitlines()
    return RoundTrips(len(SITES), tuple(json.loads(json.loads(line)["text"])), whole)


def _ignored(line: str) -> None:
    """What the operators and services say is not shown."""
