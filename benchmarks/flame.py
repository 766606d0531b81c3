"""FLAME scripts: a hop, messages a second, 200 MB, twenty nodes, a worker; and a deployment."""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.flame_deployment import RoundTrips, round_trips
from federated_analytics.flame.local_run import LocalRun, RunOptions

HOPS = 300
SENDERS = 4
MESSAGES = 500
MEGABYTES = 200
NODES = 20
ROUNDS = 30
STARTS = 5
AIMS = {"hop_ms": 20.0, "messages_per_second": 1_000.0, "node_mib": 100.0}

_HOP = f"""
import json, time
from flame import FlameCoreSDK
flame = FlameCoreSDK(silent=True)
if flame.get_role() == "aggregator":
    for _ in range({HOPS}):
        flame.await_messages(["a"], "ping")
        flame.send_message(["a"], "ping", {{}})
    flame.submit_final_result(json.dumps(flame.await_messages(["a"], "seconds")["a"][0].body["s"]))
    flame.analysis_finished()
else:
    seconds = []
    for _ in range({HOPS}):
        started = time.perf_counter()
        flame.send_message_and_wait_for_responses(["hub"], "ping", {{}})
        seconds.append(time.perf_counter() - started)
    flame.send_message(["hub"], "seconds", {{"s": seconds}})
"""

_MANY = f"""
import json, time
from flame import FlameCoreSDK
flame = FlameCoreSDK(silent=True)
flame.ready_check()
if flame.get_role() == "aggregator":
    senders = flame.get_participant_ids()
    started, count = time.perf_counter(), 0
    while count < {MESSAGES} * len(senders):
        found = flame.await_messages(senders, "many", timeout=1)
        count += sum(len(messages) for messages in found.values() if messages)
    flame.submit_final_result(json.dumps(count / (time.perf_counter() - started)))
    flame.analysis_finished()
else:
    for number in range({MESSAGES}):
        flame.send_message(["hub"], "many", {{"number": number, "text": "x" * 200}})
"""

_TRANSFER = f"""
import json, resource, sys, time
import numpy as np
from flame import FlameCoreSDK
flame = FlameCoreSDK(silent=True)
flame.ready_check()
unit = 2**20 if sys.platform == "darwin" else 2**10
if flame.get_role() == "aggregator":
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    started = time.perf_counter()
    array = flame.await_intermediate_data(["a"])["a"]
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    good = bool(array.nbytes == {MEGABYTES}_000_000 and array[-1] == array.size - 1)
    over = peak - before - array.nbytes / 2**20
    flame.submit_final_result(json.dumps([seconds, over, good]))
    flame.analysis_finished()
else:
    flame.send_intermediate_data(["hub"], np.arange({MEGABYTES}_000_000 // 8), encrypted=True)
"""

_TWENTY = f"""
import json, time
from flame import FlameCoreSDK
flame = FlameCoreSDK(silent=True)
if flame.get_role() == "aggregator":
    others = flame.get_participant_ids()
    flame.ready_check(others)
    seconds = []
    for number in range({ROUNDS}):
        started = time.perf_counter()
        flame.send_message_and_wait_for_responses(others, "round", {{"number": number}})
        seconds.append(time.perf_counter() - started)
    flame.submit_final_result(json.dumps(seconds))
    flame.analysis_finished()
else:
    for number in range({ROUNDS}):
        flame.await_messages(["hub"], "round")
        flame.send_message(["hub"], "round", {{"number": number}})
"""

_START = """
import time
from flame import FlameCoreSDK
flame = FlameCoreSDK(silent=True)
flame.submit_final_result(time.time() - flame.get_parameters()["begun"])
flame.analysis_finished()
"""


@dataclass(frozen=True)
class FlameCost:
    """What one machine does, and a deployment.

    Fields:
        hop_ms, hop_ms_95: from a node's call to the other's: half a round trip, acknowledged
        messages_per_second: of `SENDERS` nodes, each acknowledged before the next
        transfer_seconds: `MEGABYTES` of an array, encrypted, from array to array
        node_mib: how far the process of all nodes and the router grew meanwhile
        receiver_mib: how far the receiving script grew beyond the array itself
        twenty_seconds: a run of `NODES` nodes from the command to its end, rounds included
        round_ms: one message to each of them and each one's answer
        worker_start_ms: from a run's start to its script's first call
        deployed: over a SuperLink and SuperNodes; None where that was left out
    """

    hop_ms: float
    hop_ms_95: float
    messages_per_second: float
    transfer_seconds: float
    node_mib: float
    receiver_mib: float
    twenty_seconds: float
    round_ms: float
    worker_start_ms: float
    deployed: RoundTrips | None


def measure(say: Callable[[str], None], *, deployed: bool = True) -> FlameCost:
    """Run the scripts, one after the other; about three minutes, one without `deployed`."""
    hop, _, _ = _run(_HOP, ["a", "hub"])
    hops = sorted(1_000 * seconds / 2 for seconds in hop)
    say(f"  flame, a hop: {median(hops):.1f} ms")
    senders = [f"n{number}" for number in range(SENDERS)]
    rate, _, _ = _run(_MANY, [*senders, "hub"])
    say(f"  flame, messages a second: {rate:.0f}")
    (seconds, receiver, good), node, _ = _run(_TRANSFER, ["a", "hub"])
    if not good:
        raise RuntimeError("The array that arrived is not the one that was sent.")
    say(f"  flame, {MEGABYTES} MB: {seconds:.1f} s, {node:.0f} MiB")
    others = [f"n{number}" for number in range(NODES - 1)]
    rounds, _, whole = _run(_TWENTY, [*others, "hub"])
    say(f"  flame, {NODES} nodes: {whole:.1f} s")
    starts = [_run(_START, ["hub"])[0] for _ in range(STARTS)]
    say(f"  flame, a worker: {1_000 * median(starts):.0f} ms")
    trips = round_trips() if deployed else None
    if trips is not None:
        say(f"  flame, a round over a deployment: {trips.median:.1f} s")
    return FlameCost(
        hop_ms=median(hops),
        hop_ms_95=hops[int(0.95 * len(hops))],
        messages_per_second=rate,
        transfer_seconds=seconds,
        node_mib=node,
        receiver_mib=receiver,
        twenty_seconds=whole,
        round_ms=1_000 * median(rounds),
        worker_start_ms=1_000 * median(starts),
        deployed=trips,
    )


def _run(script: str, nodes: Sequence[str]) -> tuple[Any, float, float]:
    """What the script submitted, MiB that the nodes' process grew by, and the run's seconds."""
    spawn = multiprocessing.get_context("spawn")
    results = spawn.SimpleQueue()
    process = spawn.Process(target=_in_process, args=(script, list(nodes), results))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"The run ended with {process.exitcode}.")
    return results.get()  # type: ignore[no-any-return]


def _in_process(script: str, nodes: list[str], results: Any) -> None:
    """One run in a process of its own, whose memory is that of the nodes and the router."""
    with tempfile.TemporaryDirectory(prefix="fa-") as name:
        folder = Path(name)
        (folder / "script.py").write_text(script)
        options = RunOptions(
            folder / "script.py",
            nodes,
            "hub",
            folder / "out",
            store=folder / "store",
            limit=600,
            parameters={"begun": time.time()},
        )
        before, started = _peak_mib(), time.perf_counter()
        ended = LocalRun(options).run()
        seconds = time.perf_counter() - started
        if not ended.succeeded:
            raise RuntimeError(f"The run failed: {ended.nodes}")
        [line] = (folder / "out" / "submissions.jsonl").read_text().splitlines()
        results.put((json.loads(json.loads(line)["text"]), _peak_mib() - before, seconds))


def _peak_mib() -> float:
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def table(cost: FlameCost) -> str:
    """What the page says of it."""
    rows = [
        (f"a hop, median of {HOPS}", f"{cost.hop_ms:.1f} ms", f"under {AIMS['hop_ms']:.0f} ms"),
        ("a hop, 95 of 100 within", f"{cost.hop_ms_95:.1f} ms", ""),
        (
            f"messages a second, {SENDERS} senders, each message acknowledged",
            f"{cost.messages_per_second:,.0f}",
            f"{AIMS['messages_per_second']:,.0f}",
        ),
        (f"{MEGABYTES} MB, encrypted, from array to array", f"{cost.transfer_seconds:.1f} s", ""),
        (
            "memory of nodes and router meanwhile",
            f"{cost.node_mib:.0f} MiB",
            f"under {AIMS['node_mib']:.0f} MB",
        ),
        ("memory of the receiving script beyond the array", f"{cost.receiver_mib:.0f} MiB", ""),
        (f"{NODES} nodes: {ROUNDS} rounds, start and end", f"{cost.twenty_seconds:.1f} s", ""),
        (f"{NODES} nodes: one round", f"{cost.round_ms:.0f} ms", ""),
        ("a worker, from the run's start to its first call", f"{cost.worker_start_ms:.0f} ms", ""),
        *_deployed(cost.deployed),
    ]
    lines = ["| FLAME scripts | measured | aim |", "| --- | ---: | ---: |"]
    return "\n".join(lines + [f"| {name} | {value} | {aim} |" for name, value, aim in rows])


def _deployed(trips: RoundTrips | None) -> list[tuple[str, str, str]]:
    if trips is None:
        return []
    where = f"SuperLink and {trips.sites} SuperNodes, each with its site's service"
    count = len(trips.seconds)
    return [
        (
            f"a round (a message to each site, each one's answer) over {where}, median of {count}",
            f"{trips.median:.1f} s",
            "",
        ),
        ("the same, shortest and longest", f"{trips.least:.1f} to {trips.most:.1f} s", ""),
        ("a run on it without its rounds: start, approvals, end", f"{trips.rest:.0f} s", ""),
    ]


if __name__ == "__main__":
    print(table(measure(lambda text: print(text, file=sys.stderr, flush=True))))
