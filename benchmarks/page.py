"""docs/benchmarks.md: the tables with what stands in them and how to make them again.

The page has a part for each subject, which is measured and written by itself.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import table
from benchmarks.machine import Machine
from benchmarks.measure import Measured

_PAGE = """# Benchmarks

Made by `{command}` in {minutes:.0f} minutes. Every ratio is from this one run and every time the
median of {repeat}. Machine: {machine} and {load:.1f} at the end (runnable processes; more than
cores means that others' work slowed everything here).

What is compared, on two PostgreSQL servers with synthetic data, one SuperLink and two SuperNodes
as real processes on one machine:

- **baseline**: what Flower's federated-analytics example does, written anew in
  `benchmarks/baseline_app`: each site pulls the columns with `pandas.read_sql_table`, adds them up
  in Python, and sends count, sum and sum of squares. It knows neither quantiles nor histograms nor
  OMOP, so all commands are compared with its one question.
- **ours**: `flwr run . local-deployment --run-config … --stream` with `selected-features` of five
  features, over a flat table (`table-name`) and over the CDM (`population='everyone'`, each
  person's latest measurement, units and plausible range checked, records counted).
- **floor**: hand-written SQL statements with the same answers, sent to the same databases with
  the same `work_mem`; for OMOP mode a `DISTINCT ON` for the latest value. No policy, no
  Flower, no check of units or ranges.

Before anything is timed, the pooled means of all three are compared; they agree to nine digits.

## Aims

{aims}

## Whole commands

{commands}

Five features at each of two sites. The bytes are those of the answer to the one message; the
baseline's are its numbers and names alone.

## Site work over the floor

{site_work}

`ours` is the site's own account (`site_seconds` in the result): from opening the database to the
release that leaves, policy included. With both sites at once, two databases share the machine's
cores, for the floor as for us.

## Where a command's time goes

{phases}

Seconds. The work of Flower's own processes is fixed: a SuperNode asks for messages every 3 s, a
SuperExec for work every second, and each message starts a Python process.

## Peak memory of a process, MiB

{memory}

Resident memory of the largest process of each kind, from Linux's own high-water mark, read every
50 ms.

## What the policy costs

{policy}

`examined` is the database's work, `rules` R1 to R4 over what it found, `persons compared` reading
every person's id and comparing the bitmap with the populations that were answered before (R5; with
the site service). Aims: the policy's share under 10 %, under 25 % with comparison and a three-way
table of 1,000 cells; the service's round trip under 10 ms more than a call.

## Again

```shell
make bench                                  # everything
make bench BENCH_ARGS=--quick               # 100,000 persons a site alone
make bench BENCH_ARGS="--only fedmed"       # one part: sites, fedmed or flame
```
"""

FEDMED = """## FedMed's interface

{table}

Made by `make bench BENCH_ARGS="--only fedmed"`, {machine}. The original's approach is written anew
in `benchmarks/fedmed_baseline.py`: one request an operation, one server after the other, loops
over lists, no policy. Ours is the first time that an expression is asked, with the strict policy,
of servers that have answered other questions; a server computes each column's moments, levels and
persons when it is given the data. What is left of a mean is one request to each server, and of a
mask the comparison of its rows with every set of rows that was asked for before (R5).
"""

FLAME = """## FLAME's scripts

{table}

Made by `make bench BENCH_ARGS="--only flame"`, {machine}.
"""


def page(
    all_measured: Sequence[Measured],
    machine: Machine,
    *,
    command: str,
    repeat: int,
    seconds: float,
    load: float,
    policy: str,
) -> str:
    """The whole page.

    Args:
        command: what a reader runs to make it again.
        repeat: repetitions behind each median.
        seconds: how long everything took.
        load: runnable processes, mean of the minute before the end.
        policy: the table of what the policy costs.
    """
    return _PAGE.format(
        command=command,
        minutes=seconds / 60,
        repeat=repeat,
        machine=machine,
        load=load,
        aims=table.aims(all_measured),
        commands=table.commands(all_measured),
        site_work=table.site_work(all_measured),
        phases=table.phases(all_measured),
        memory=table.memory(all_measured),
        policy=policy,
    )


def with_part(page: str, name: str, text: str) -> str:
    """The page with one part replaced, or added behind the others."""
    begin, end = f"<!-- part: {name} -->\n", f"<!-- end of part: {name} -->\n"
    part = f"{begin}{text.strip()}\n{end}"
    if begin not in page:
        return f"{page.strip()}\n\n{part}".lstrip()
    before, _, rest = page.partition(begin)
    return before + part + rest.partition(end)[2]


def write(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(partial).chmod(0o644)
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)
