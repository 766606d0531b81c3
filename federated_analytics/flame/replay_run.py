"""`flame replay`: one node's script again, in this terminal, answered from its recording."""

from __future__ import annotations

import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from federated_analytics.flame.node_server import NodeServer
from federated_analytics.flame.recording import Replay
from federated_analytics.flame.worker_process import Limits, Order, WorkerProcess


def replay(run: Path, node: str, script: Path | None = None) -> tuple[str, str]:
    """Run a recorded node's script alone; its state and reason.

    Args:
        run: the folder of a run that was recorded.
        script: instead of the one that was recorded.
    """
    recorded = Replay(run / "recording" / node)
    place = Path(tempfile.mkdtemp(prefix="fa-"))
    token = secrets.token_hex(16)
    (place / "work").mkdir(mode=0o700)
    server = NodeServer(recorded, place / "s", token)
    order = Order(
        node=node,
        script=(script or run / "recording" / f"{node}.py").absolute(),
        directory=place / "work",
        address=server.address,
        token=token,
        parameters=recorded.node.get("parameters", {}),
        limits=Limits(),
        full_reasons=True,
        reconnect_seconds=1.0,
    )
    log = place / "log"
    worker = WorkerProcess(order, log)
    worker.begin()
    try:
        outcome = worker.poll()
        while outcome is None:
            time.sleep(0.02)
            outcome = worker.poll()
        sys.stdout.write(log.read_text(errors="replace"))
        return recorded.ended or ("failed", outcome.reason)
    finally:
        worker.kill()
        server.close()
        shutil.rmtree(place, ignore_errors=True)
