"""The server of the baseline: one query to every site, then mean and naive variance."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict

from flwr.app import Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Print one line: `baseline` and the answers with the bytes of each reply, in JSON."""
    while len(nodes := list(grid.get_node_ids())) < int(context.run_config["min-sites"]):
        time.sleep(2)
    asked = [
        Message(RecordDict(), message_type=MessageType.QUERY, dst_node_id=node, group_id="1")
        for node in nodes
    ]
    totals: defaultdict[str, float] = defaultdict(float)
    sizes = []
    for reply in grid.send_and_receive(asked):
        if reply.has_error():
            raise RuntimeError("A site of the baseline failed.")
        record = reply.content.metric_records["metrics"]
        sizes.append(record.count_bytes())
        for key, value in record.items():
            if not isinstance(value, list):
                totals[key] += value
    answers = {}
    for name in str(context.run_config["selected-features"]).split(","):
        count = totals[f"{name}_count"]
        mean = totals[f"{name}_sum"] / count
        variance = (totals[f"{name}_squares"] - count * mean**2) / (count - 1)
        answers[name] = {"mean": mean, "sd": math.sqrt(max(variance, 0.0))}
    print("baseline " + json.dumps({"answers": answers, "bytes": sizes}), flush=True)
