"""The demo: three synthetic hospitals, a real federation, the example study, and its report."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from federated_analytics.errors import FederationError
from federated_analytics.local.processes import local_federation
from federated_analytics.local.program import ended_by_signals

if TYPE_CHECKING:
    from federated_analytics.databases.postgres import Cluster
    from federated_analytics.progress import Display
    from federated_analytics.report.result import Result
    from federated_analytics.study import Study

NAMES = ("hospital-a", "hospital-b", "hospital-c", "hospital-d", "hospital-e", "hospital-f")
POLICY = """# The data are synthetic: each hospital lets its own numbers be shown beside the pooled.
[policy]
per_site = true
"""
POLICIES = {"hospital-c": 'mode = "dp"\nepsilon = 2.0\nbudget_epsilon = 5.0\n'}
"""Of the guarded demo, where they differ: one hospital answers with noise, from a budget."""
BUILDERS = 2
"""Hospitals whose data are made at once: more only wait for each other's processor."""

Say = Callable[[str], None]


class DemoRunning(FederationError):
    """A second demo on the same databases."""

    code = "demo_running"
    default_remedy = "Wait for it, or set FEDERATED_ANALYTICS_STATE to another folder."


@dataclass(frozen=True)
class Hospitals:
    """The demo's databases: as many synthetic persons in each, one seed for all."""

    folder: Path
    count: int
    persons: int
    seed: int

    def start(self, position: int, stack: ExitStack, keep: bool, say: Say) -> int:
        """Start one hospital's database, making its data where needed; the port it listens on.

        One that runs already, from a demo that was kept, is used and left running.
        """
        from federated_analytics.databases.generator import generate

        name = NAMES[position]
        cluster = self._cluster(self.folder / f"{name}-{self.persons}-{self.seed}")
        # Before it starts: what is interrupted on its way up is stopped too.
        if not keep and not cluster.is_running():
            stack.callback(cluster.stop)
        cluster.start()
        generate(cluster.owner_url(), persons=self.persons, seed=self.seed, site=position)
        say(f"{name}: {self.persons:,} synthetic persons, PostgreSQL on 127.0.0.1:{cluster.port}")
        return cluster.port

    def start_all(self, stack: ExitStack, keep: bool, say: Say) -> list[int]:
        """Start all hospitals, some at a time; their ports, in order."""
        with ThreadPoolExecutor(max_workers=BUILDERS) as pool:
            asked = [pool.submit(self.start, i, stack, keep, say) for i in range(self.count)]
            try:
                return [one.result() for one in asked]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _cluster(self, directory: Path) -> Cluster:
        from federated_analytics.databases.postgres import Cluster, free_port

        found = Cluster(directory, 0)
        return Cluster(directory, _port(found) if found.is_running() else free_port())


def run_demo(
    *,
    persons: int = 10_000,
    sites: int = 3,
    seed: int = 1,
    out: Path,
    keep: bool = False,
    guarded: bool = False,
    show: Display,
) -> Result:
    """Start everything, run `studies/demo.toml`, write the result, stop everything.

    Args:
        persons: in each hospital.
        keep: leave the databases' servers running.
        guarded: with a site service, a signed request and a person's approval at each hospital.
        show: told of the progress.
    Raises:
        FederatedAnalyticsError: what did not start, or why the study failed.
    """
    from federated_analytics.databases.programs import state_folder
    from federated_analytics.study import Study

    started = time.monotonic()
    study = Study.load(demo_study())
    hospitals = Hospitals(state_folder() / "demo", sites, persons, seed)
    with ended_by_signals(), _alone(hospitals.folder), ExitStack() as stack:
        ports = hospitals.start_all(stack, keep, show.say)
        run = _guarded if guarded else _quickstart
        result = run(study, dict(zip(NAMES, ports, strict=False)), stack, show)
    for path in result.save(out):
        show.say(f"wrote {path}")
    seconds = time.monotonic() - started
    left = "the databases are left running" if keep else "everything that was started is stopped"
    show.say(f"done in {seconds:.0f} s; {left}")
    return result


def _quickstart(study: Study, ports: Mapping[str, int], stack: ExitStack, show: Display) -> Result:
    """The SuperNodes read the databases themselves."""
    from federated_analytics.submit import submit

    policy = Path(stack.enter_context(TemporaryDirectory())) / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    configs: list[dict[str, str | int]] = [
        {"db-port": p, "site": name, "policy": str(policy)} for name, p in ports.items()
    ]
    federation = stack.enter_context(local_federation(configs))
    show.say(f"SuperLink on {federation.address}, {len(ports)} SuperNodes are connected")
    least = min(2, len(ports))
    return submit(study, superlink=federation.address, min_sites=least, on_progress=show)


def _guarded(study: Study, ports: Mapping[str, int], stack: ExitStack, show: Display) -> Result:
    """Each hospital's own service reads its database; the SuperNodes carry bytes to it."""
    from federated_analytics.local.guarded import PROJECT, guarded_hospitals, pinned
    from federated_analytics.signing import SigningKey
    from federated_analytics.site import quickstart_url
    from federated_analytics.submit import submit

    folder = Path(stack.enter_context(TemporaryDirectory(prefix="fa-")))
    folder.chmod(0o711)
    key = SigningKey.new()
    key.save(folder / "analyst.pem")
    urls = {name: quickstart_url(port) for name, port in ports.items()}
    found = stack.enter_context(guarded_hospitals(folder, urls, POLICIES, key, show.say))
    federation = stack.enter_context(local_federation([one.node_config for one in found]))
    show.say(f"SuperLink on {federation.address}, {len(ports)} SuperNodes are connected")
    return submit(
        study,
        superlink=federation.address,
        min_sites=min(2, len(ports)),
        on_progress=show,
        key=folder / "analyst.pem",
        project=PROJECT,
        known_sites=pinned(found, folder / "sites.json"),
    )


def demo_study() -> Path:
    """The example study: in the checkout, or as installed."""
    package = Path(__file__).parents[1]
    checkout = package.parent / "studies" / "demo.toml"
    return checkout if checkout.is_file() else package / "app" / "studies" / "demo.toml"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One demo at a time: a second would find its databases stopped by the first."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DemoRunning("Another demo is running.", where=str(folder)) from error
        yield


def _port(cluster: Cluster) -> int:
    """Where a running server listens: the fourth line of the file it leaves in its data."""
    return int((cluster.data / "postmaster.pid").read_text().splitlines()[3])
