"""FedMed's interface at several servers against the original's approach, in one run.

`python -m benchmarks.fedmed` prints the table: 4 servers of 1,000,000 rows each.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from benchmarks import fedmed_table
from benchmarks.fedmed_baseline import LoopingData
from benchmarks.fedmed_server import FRAGMENT, TOKEN, VALUES
from federated_analytics import fedmed as fm
from federated_analytics.fedmed import batch
from federated_analytics.fedmed.batch import Channel
from federated_analytics.fedmed.remote import HttpServer

SERVERS, ROWS, REQUESTS = 4, 1_000_000, 10_000
SMALL, DIFFERENT = 1_000, 500
"""Rows of the server whose memory is watched, and how many of its requests differ."""
NUMBERS, LIMITS = ("pressure", *VALUES), (64, 50, 36)
"""Columns and limits that each question is asked about; its time is the median."""
AIM = 20
"""How many times faster than the original's approach each question is to be."""


@dataclass
class Speed:
    """Seconds by question: the original's approach, ours the first time, and ours again.

    Fields:
        floor, table: the same of one server's rows in PostgreSQL: one SQL statement without any
            policy, and ours of the table the first time
    """

    servers: int
    rows: int
    original: dict[str, float] = field(default_factory=dict)
    ours: dict[str, float] = field(default_factory=dict)
    again: dict[str, float] = field(default_factory=dict)
    block_requests: float = 0.0
    block_seconds: float = 0.0
    floor: dict[str, float] = field(default_factory=dict)
    table: dict[str, float] = field(default_factory=dict)
    memory: list[tuple[int, float]] = field(default_factory=list)

    def ratio(self, question: str) -> float:
        return self.original[question] / self.ours[question]


def measure(
    servers: int, rows: int, repeat: int, requests: int, say: Callable[[str], None]
) -> Speed:
    """Time both over the same synthetic rows; the answers are compared first."""
    speed = Speed(servers, rows)
    with running("original", servers, rows) as (ports, _):
        with httpx.Client(timeout=600, trust_env=False) as client:
            LoopingData(client, ports, ["age"] * len(ports)).rows()
            expected = {q: [_timed(ask) for ask in asks] for q, asks in _original(client, ports)}
        speed.original = {q: median(t for t, _ in each) for q, each in expected.items()}
        say(f"  the original's approach: {speed.original}")
    with running("strict", servers, rows) as (ports, _):
        data = fm.FedData([fm.Remote(address(port), FRAGMENT, token=TOKEN) for port in ports])
        for ask in _others(data):  # the original's servers have answered before, too
            ask()
        for question, asks in _ours(data):
            first = [_timed(ask) for ask in asks]
            for (_, wanted), (_, found) in zip(expected[question], first, strict=True):
                _same(question, wanted, found)
            speed.ours[question] = median(seconds for seconds, _ in first)
            speed.again[question] = median(_timed(ask)[0] for ask in asks for _ in range(repeat))
        say(f"  ours: {speed.ours}")
        speed.block_seconds, speed.block_requests = _block(data, servers)
    speed.floor, speed.table = fedmed_table.measure(rows, repeat)
    say(f"  a table: {speed.table}, one statement: {speed.floor}")
    with running("strict", 1, SMALL) as (ports, processes):
        speed.memory = _memory(ports[0], processes[0].pid, requests, say)
    return speed


def address(port: int) -> str:
    return f"http://127.0.0.1:{port}"


@contextmanager
def running(
    way: str, servers: int, rows: int
) -> Iterator[tuple[list[int], list[subprocess.Popen[str]]]]:
    """Servers as processes of their own, and their ports."""
    processes: list[subprocess.Popen[str]] = []
    with ExitStack() as stack:
        for seed in range(servers):
            command = [sys.executable, "-m", "benchmarks.fedmed_server", way, str(seed), str(rows)]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            processes.append(stack.enter_context(process))
            stack.callback(process.terminate)
        yield [_port(process) for process in processes], processes


def _port(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip().isdigit():
            return int(line)
    raise RuntimeError("a server of the benchmark did not start")


Questions = Iterator[tuple[str, list[Callable[[], Any]]]]


def _original(client: httpx.Client, ports: Sequence[int]) -> Questions:
    def column(name: str) -> LoopingData:
        return LoopingData(client, ports, [name] * len(ports))

    age, region = column("age"), column("region")
    numbers = [column(name) for name in NUMBERS]
    yield "mean", [c.mean for c in numbers]
    yield "std", [c.std for c in numbers]
    yield "a mask", [lambda limit=limit: age.apply("gt", limit).total() for limit in LIMITS]
    yield "a group-by", [lambda c=c: c.mean_by(region) for c in numbers]


def _ours(data: fm.FedData) -> Questions:
    yield "mean", [lambda c=data[name]: float(c.mean()) for name in NUMBERS]
    yield "std", [lambda c=data[name]: float(c.std(df=0)) for name in NUMBERS]
    yield "a mask", [lambda limit=limit: float((data["age"] > limit).sum()) for limit in LIMITS]
    yield (
        "a group-by",
        [lambda name=name: dict(data.groupby("region")[name].mean()) for name in NUMBERS],
    )


def _others(data: fm.FedData) -> Iterator[Callable[[], Any]]:
    """Questions of the same kinds about other columns, so that every process has begun."""
    yield lambda: data.columns
    yield lambda: float(data["age"].std())
    yield lambda: float((data["pressure"] > 150).sum())
    yield lambda: dict(data.groupby("region")["age"].mean())


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def _same(question: str, expected: Any, found: Any) -> None:
    pairs = (
        [(expected[level], found[level]) for level in expected]
        if isinstance(expected, dict)
        else [(expected, found)]
    )
    for wanted, got in pairs:
        if not math.isclose(wanted, got, rel_tol=1e-7):
            raise AssertionError(f"{question}: {wanted} and {got}")


def _block(data: fm.FedData, servers: int) -> tuple[float, float]:
    """Seconds of a block of 20 expressions, and replies a server that it took."""
    replies = 0
    read = batch._read

    def counted(*given: Any) -> Any:
        nonlocal replies
        replies += 1
        return read(*given)

    batch._read = counted
    try:
        started = time.perf_counter()
        with fm.Batch():
            means = [(data["pressure"] * (i + 1)).mean() for i in range(10)]
            sums = [(data["age"] + i).sum() for i in range(10)]
        seconds = time.perf_counter() - started
        assert all(float(value) > 0 for value in (*means, *sums))
    finally:
        batch._read = read
    return seconds, replies / servers


def _memory(
    port: int, pid: int, requests: int, say: Callable[[str], None]
) -> list[tuple[int, float]]:
    """Resident MiB of one server after so many requests, `DIFFERENT` of them."""
    channel: Channel = HttpServer(address(port), TOKEN)
    bodies = [_one_request(i) for i in range(DIFFERENT)]
    found = []
    for done in range(requests + 1):
        if done % max(1, requests // 5) == 0:
            found.append((done, resident(pid)))
            say(f"  after {done:,} requests: {found[-1][1]:.0f} MiB")
        (reply,) = channel.exchange({"": bodies[done % DIFFERENT]}).values()
        if not isinstance(reply, bytes):
            raise RuntimeError(f"{reply.code}: {reply.message}")
    return found


def _one_request(number: int) -> bytes:
    from federated_analytics import wire
    from federated_analytics.fedmed.expression import Apply, Column, Constant
    from federated_analytics.fedmed.protocol import Ask, Asks
    from federated_analytics.messages import Request

    shifted = Apply("add", (Column(("pressure",)), Constant(number)))
    ask = Ask(FRAGMENT, "moments", (shifted,))
    return wire.encode_request(Request(Asks((ask,)).to_json(), 1, "", 60.0, "fedmed"))


def resident(pid: int) -> float:
    """Resident memory of a process in MiB; NaN where there is no /proc."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return math.nan
    line = next(x for x in status.read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def table(speed: Speed) -> str:
    """What the page says of it."""
    lines = [
        "| question | the original's approach, s | ours, s | times faster | ours again, s |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for question in speed.ours:
        lines.append(
            f"| {question} | {speed.original[question]:.2f} | {speed.ours[question]:.3f} | "
            f"{speed.ratio(question):.1f} | {speed.again[question]:.3f} |"
        )
    together = sum(speed.original.values()) / sum(speed.ours.values())
    steps = ", ".join(f"{memory:.0f} MiB after {done:,}" for done, memory in speed.memory)
    lines += [
        "",
        f"{speed.servers} servers with {speed.rows:,} rows each, one process each; each question "
        f"is asked of {len(NUMBERS)} columns or limits, its time the median. Aim: {AIM} times; the "
        f"questions together: {together:.0f} times. Ours answers under the strict policy, the "
        "original's approach without any.",
        "",
        "| question to a table of PostgreSQL | one SQL statement, s | ours, s | ours ÷ it |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {question} | {floor:.3f} | {speed.table[question]:.3f} | "
            f"{speed.table[question] / floor:.1f} |"
            for question, floor in speed.floor.items()
        ),
        "",
        f"{speed.rows:,} rows of one server; the statement is under no policy.",
        f"A block of 20 expressions took {speed.block_requests:g} request a server and "
        f"{speed.block_seconds:.2f} s. One server of {SMALL:,} rows, {DIFFERENT} different "
        f"requests in turn: {steps}.",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print the table; 1 where an aim is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fedmed", description=__doc__)
    parser.add_argument("--servers", type=int, default=SERVERS)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    given = parser.parse_args(arguments)
    speed = measure(
        given.servers,
        given.rows,
        given.repeat,
        given.requests,
        lambda text: print(text, file=sys.stderr, flush=True),
    )
    print(table(speed))
    met = all(speed.ratio(q) >= AIM for q in speed.ours) and speed.block_requests == 1
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
