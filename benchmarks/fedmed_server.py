"""One server of the FedMed benchmark: `python -m benchmarks.fedmed_server ours 0 1000000`.

Prints the port it listens at, then serves until its standard input is closed.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import pandas as pd

FRAGMENT = "people 1/4"
TOKEN = "benchmark"
VALUES = ("sodium", "glucose")
"""Besides the pressure: each question is asked of several columns."""
LEVELS = ("north", "east", "south", "west", "centre")


def frame(seed: int, rows: int) -> pd.DataFrame:
    """Synthetic people: an age, a blood pressure, a region and a few laboratory values each."""
    draw = np.random.default_rng(seed)
    people = {
        "age": draw.integers(18, 90, rows),
        "pressure": draw.normal(120, 15, rows).round(1),
        "region": draw.choice(np.array(LEVELS, dtype=object), rows),
    }
    return pd.DataFrame(people | {name: draw.normal(120, 15, rows).round(1) for name in VALUES})


def main(way: str, seed: int, rows: int) -> None:
    data = frame(seed, rows)
    if way == "original":
        from benchmarks.fedmed_baseline import LoopingServer

        lists: dict[str, list[Any]] = {name: data[name].tolist() for name in data}
        with LoopingServer(lists).serving() as port:
            _until_closed(port)
        return
    from waitress.server import create_server

    from federated_analytics import fedmed as fm

    server = fm.Server(tokens=[TOKEN], requests_a_minute=10**9)  # the strict policy
    server[FRAGMENT] = data
    wsgi = create_server(server.app, host="127.0.0.1", port=0, threads=4)
    threading.Thread(target=wsgi.run, daemon=True).start()
    _until_closed(wsgi.effective_port)


def _until_closed(port: int) -> None:
    print(port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
