"""The ClientApp: a courier. It hands a request to the site and carries its release back."""

from __future__ import annotations

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from federated_analytics.couriers import BODY, RELEASE, REQUEST

app = ClientApp()


@app.query()
def query(message: Message, context: Context) -> Message:
    """Answer one round of a study. Nothing is raised: an exception's text would travel."""
    # Imported here: a SuperNode starts this process for each message.
    from federated_analytics.desk import answer

    record = message.content.config_records.get(REQUEST)
    body = record.get(BODY) if record is not None else None
    release = answer(context.node_config, body if isinstance(body, bytes) else b"")
    return Message(RecordDict({RELEASE: ConfigRecord({BODY: release})}), reply_to=message)
