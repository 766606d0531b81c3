"""`python -m benchmarks`: measure, print the tables, write docs/benchmarks.md."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks import fedmed, flame, page, policy_cost
from benchmarks.machine import describe
from benchmarks.measure import Measured, measure
from benchmarks.runs import ROOT
from federated_analytics.databases.postgres import temporary_cluster

SITES = 2
QUICK, FULL = (100_000,), (100_000, 1_000_000)


def main(arguments: list[str] | None = None) -> int:
    """Run everything, or the parts named; 0 when the page was written."""
    options = _parser().parse_args(arguments)
    command = "make bench" if arguments is None and len(sys.argv) == 1 else _command(arguments)
    for name in options.only or PARTS:
        text = PARTS[name](options, command)
        written = options.out.read_text(encoding="utf-8") if options.out.exists() else ""
        page.write(options.out, page.with_part(written, name, text))
        print(text, flush=True)
    _say(f"wrote {options.out}")
    return 0


def _sites(options: argparse.Namespace, command: str) -> str:
    """Studies over PostgreSQL: ours, the baseline, the floor, and the policy's own cost."""
    sizes = tuple(options.persons or (QUICK if options.quick else FULL))
    started = time.monotonic()
    measured: list[Measured] = []
    costs: list[policy_cost.Cost] = []
    with ExitStack() as stack:
        clusters = [stack.enter_context(temporary_cluster()) for _ in range(SITES)]
        machine = describe(clusters[0].owner_url())
        for size in sizes:
            measured.append(measure(clusters, size, options.repeat, _say))
            costs.append(policy_cost.measure(clusters[0], size, options.repeat, _say))
    return page.page(
        measured,
        machine,
        command=command,
        repeat=options.repeat,
        seconds=time.monotonic() - started,
        load=os.getloadavg()[0],
        policy=policy_cost.table(costs),
    )


def _fedmed(options: argparse.Namespace, command: str) -> str:
    rows = QUICK[0] if options.quick else fedmed.ROWS
    machine = describe()
    speed = fedmed.measure(fedmed.SERVERS, rows, options.repeat, fedmed.REQUESTS, _say)
    return page.FEDMED.format(table=fedmed.table(speed), machine=machine)


def _flame(options: argparse.Namespace, command: str) -> str:
    machine = describe()
    return page.FLAME.format(table=flame.table(flame.measure(_say)), machine=machine)


PARTS: dict[str, Callable[[argparse.Namespace, str], str]] = {
    "sites": _sites,
    "fedmed": _fedmed,
    "flame": _flame,
}
"""Each part of the page, in its order."""


def _command(arguments: list[str] | None) -> str:
    return shlex.join(["python", "-m", "benchmarks", *(arguments or sys.argv[1:])])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, help="one part; repeatable")
    parser.add_argument("--quick", action="store_true", help="100,000 persons a site alone")
    parser.add_argument("--persons", type=int, action="append", help="another size; repeatable")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions behind each median")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.md")
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
