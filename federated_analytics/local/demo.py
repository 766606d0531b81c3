"""The demo: three synthetic hospitals, a real federation, the example study, and its report."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from federated_analytics.report.result import Result

NAMES = ("hospital-a", "hospital-b", "hospital-c", "hospital-d", "hospital-e", "hospital-f")
POLICY = """# Synthetic data: each hospital lets its own numbers be shown beside the pooled ones.
[policy]
per_site = true
"""

Say = Callable[[str], None]


def run_demo(
    *, persons: int = 10_000, sites: int = 3, seed: int = 1, out: Path, keep: bool, say: Say
) -> Result:
    """Start everything, run `studies/demo.toml`, write the result, stop everything.

    Args:
        persons: in each hospital.
        keep: leave the databases' servers running.
    """
    from federated_analytics.databases.generator import generate
    from federated_analytics.databases.postgres import Cluster, free_port
    from federated_analytics.databases.programs import state_folder
    from federated_analytics.local.processes import local_federation
    from federated_analytics.study import Study
    from federated_analytics.submit import submit

    started = time.monotonic()
    study = Study.load(demo_study())
    with ExitStack() as stack:
        configs: list[dict[str, str | int]] = []
        folder = state_folder() / "demo"
        policy = Path(stack.enter_context(TemporaryDirectory())) / "policy.toml"
        for position in range(sites):
            directory = folder / f"{NAMES[position]}-{persons}-{seed}"
            cluster = Cluster(directory, free_port())
            if not keep:
                stack.callback(cluster.stop)
            cluster.start()
            say(f"{NAMES[position]}: PostgreSQL on 127.0.0.1:{cluster.port}")
            generate(cluster.owner_url(), persons=persons, seed=seed, site=position)
            configs.append(
                {"db-port": cluster.port, "site": NAMES[position], "policy": str(policy)}
            )
        policy.write_text(POLICY, encoding="utf-8")
        say(f"{sites} hospitals of {persons:,} synthetic persons are ready")
        federation = stack.enter_context(local_federation(configs))
        say(f"SuperLink on {federation.address}, {sites} SuperNodes")
        result = submit(
            study, superlink=federation.address, min_sites=min(2, sites), on_line=_readable(say)
        )
    for path in result.save(out):
        say(f"wrote {path}")
    say(f"done in {time.monotonic() - started:.0f} s; everything that was started is stopped")
    return result


def demo_study() -> Path:
    """The example study: in the checkout, or as installed."""
    package = Path(__file__).parents[1]
    checkout = package.parent / "studies" / "demo.toml"
    return checkout if checkout.is_file() else package / "app" / "studies" / "demo.toml"


def _readable(say: Say) -> Say:
    """Of a run's log, the study's own progress."""

    def show(line: str) -> None:
        if line[:1] in "+!=>" and line[:1]:
            say(line)

    return show
