"""A site of the baseline: reads whole columns into pandas and sends sums of them."""

from __future__ import annotations

import pandas as pd
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from sqlalchemy import create_engine

app = ClientApp()


@app.query()
def query(message: Message, context: Context) -> Message:
    """Count, sum and sum of squares of each column asked for."""
    port = context.node_config["db-port"]
    engine = create_engine(f"postgresql+psycopg://omop_reader:omop_reader@127.0.0.1:{port}/omop")
    names = str(context.run_config["selected-features"]).split(",")
    rows = pd.read_sql_table(str(context.run_config["table-name"]), engine, columns=names)
    metrics: dict[str, int | float | list[int] | list[float]] = {}
    for name in names:
        values = rows[name].dropna()
        metrics[f"{name}_count"] = len(values)
        metrics[f"{name}_sum"] = float(sum(values))
        metrics[f"{name}_squares"] = float(sum(values**2))
    engine.dispose()
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)
