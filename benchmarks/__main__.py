"""`python -m benchmarks`: measure, print the tables, write docs/benchmarks.md."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks import page, policy_cost
from benchmarks.machine import describe
from benchmarks.measure import Measured, measure
from benchmarks.runs import ROOT
from federated_analytics.databases.postgres import temporary_cluster

SITES = 2
QUICK, FULL = (100_000,), (100_000, 1_000_000)


def main(arguments: list[str] | None = None) -> int:
    """Run everything; 0 when the page was written."""
    options = _parser().parse_args(arguments)
    sizes = tuple(options.persons or (QUICK if options.quick else FULL))
    started = time.monotonic()
    command = "make bench" if arguments is None and len(sys.argv) == 1 else _command(arguments)
    measured: list[Measured] = []
    costs: list[policy_cost.Cost] = []
    with ExitStack() as stack:
        clusters = [stack.enter_context(temporary_cluster()) for _ in range(SITES)]
        machine = describe(clusters[0].owner_url())
        for size in sizes:
            measured.append(measure(clusters, size, options.repeat, _say))
            costs.append(policy_cost.measure(clusters[0], size, options.repeat, _say))
            text = page.page(
                measured,
                machine,
                command=command,
                repeat=options.repeat,
                seconds=time.monotonic() - started,
                load=os.getloadavg()[0],
                policy=policy_cost.table(costs),
            )
            page.write(options.out, text)
    print(text)
    _say(f"wrote {options.out}")
    return 0


def _command(arguments: list[str] | None) -> str:
    return shlex.join(["python", "-m", "benchmarks", *(arguments or sys.argv[1:])])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100,000 persons a site alone")
    parser.add_argument("--persons", type=int, action="append", help="another size; repeatable")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions behind each median")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.md")
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
