"""What an analysis over a federation leaves at the hub: log, submissions, states."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from federated_analytics.flame.blob_store import BlobStore
from federated_analytics.flame.router import Event


@dataclass(frozen=True)
class Ended:
    """An analysis that is over, in the form of `--out`.

    Fields:
        nodes: status and reason of each
        log: what reached the hub: node, level, text
        submissions: node, output_type and the bytes of each final result, as base64
    """

    state: str
    nodes: Mapping[str, Mapping[str, str]]
    log: list[dict[str, str]]
    submissions: list[dict[str, str]]

    def to_json(self) -> str:
        return json.dumps(self.__dict__, separators=(",", ":"))


@dataclass
class Journal:
    """Writes down the events of one analysis, and says each as a line for people.

    Args:
        hub: folder of the hub's objects.
    """

    hub: Path
    analysis: str
    say: Callable[[str], None]
    log: list[dict[str, str]] = field(default_factory=list)
    submissions: list[dict[str, str]] = field(default_factory=list)

    def publish(self, events: Sequence[Event]) -> None:
        for event in events:
            self._noted(event)

    def _noted(self, event: Event) -> None:
        content = event.content
        if event.kind == "log":
            self.log.append({"node": event.node, **content})
            self.say(f"{event.node} {content['level']}: {content['text'].rstrip()}")
        elif event.kind == "progress":
            self.say(f"{event.node} progress: {content['value']} %")
        elif event.kind == "status":
            reason = f" ({content['reason']})" if content["reason"] else ""
            self.say(f"{event.node}: {content['status']}{reason}")
        elif event.kind == "submission":
            self._submitted(event)

    def _submitted(self, event: Event) -> None:
        store = BlobStore(self.hub)
        with store.open(event.content["object"], reader=event.node, analysis=self.analysis) as file:
            data = base64.b64encode(file.read()).decode()
        kind = event.content["output_type"]
        self.submissions.append({"node": event.node, "output_type": kind, "data": data})
        self.say(f"{event.node}: a final result of type {kind}")
