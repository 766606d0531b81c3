"""One analysis at one site: its node and worker, what the site remembers of it, what leaves.

What is needed to go on after a restart of the service is in a file beside the node's state, which
is written before the worker starts.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from federated_analytics import __version__, wire
from federated_analytics.flame.carried_objects import CarriedHost, CarriedObjects
from federated_analytics.flame.data_sources import DataSources
from federated_analytics.flame.errors import FlameError
from federated_analytics.flame.local_storage import LocalStorage
from federated_analytics.flame.node_host import NodeSettings
from federated_analytics.flame.node_keys import SiteKeys
from federated_analytics.flame.node_place import LocalNode, Place
from federated_analytics.flame.omop_site import ScriptStudies
from federated_analytics.flame.order import ScriptOrder
from federated_analytics.flame.reasons import at_limit
from federated_analytics.flame.worker_process import Limits

if TYPE_CHECKING:
    from federated_analytics.guarded_answer import Asker
    from federated_analytics.guarded_site import GuardedSite

BUNDLE_BYTES = 2_000_000
BEGUN = "begun.json"


class ExchangeSpent(FlameError):
    """The bytes that one run may send are spent."""

    code = "exchange_spent"
    default_remedy = "Send less, or ask the site operator for a larger exchange_bytes."


class OwnMessagesRefused(FlameError):
    """A message or object of a script's own at a site that lets none leave."""

    code = "free_exchange_refused"
    default_remedy = (
        "Send what the site has released: flame.omop and flame.aggregate. Or ask the site "
        "operator for free_exchange, which is bound to the approved script."
    )


class ReleasesOnly(CarriedHost):
    """A node whose script is told at once what the policy would not let leave."""

    def send(self, id: str, receivers: Sequence[str], category: str, payload: str) -> None:
        raise OwnMessagesRefused("The site's policy lets no message of a script's own leave.")

    def post(self, letter: dict[str, Any]) -> None:
        if letter["kind"] in ("object", "part", "whole"):
            raise OwnMessagesRefused("The site's policy lets no object of a script's own leave.")
        super().post(letter)


@dataclass(frozen=True)
class Begun:
    """An approved order at a site, as far as a restarted service must know it.

    Fields:
        analysis: the run's id
        asker: the approved request's
        site: the node's name
        free: whether the script's own messages may leave
        pinned: the other sites' public keys
        ends_at: seconds since 1970
    """

    order: ScriptOrder
    analysis: str
    asker: Asker
    site: str
    free: bool
    pinned: Mapping[str, str]
    ends_at: float

    def save(self, folder: Path) -> None:
        plain = {**self.__dict__, "order": self.order.to_json(), "asker": asdict(self.asker)}
        unfinished = folder / f"{BEGUN}.tmp"
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(plain), encoding="utf-8")
        unfinished.replace(folder / BEGUN)

    @classmethod
    def load(cls, folder: Path) -> Begun:
        """What `save` wrote."""
        from federated_analytics.guarded_answer import Asker

        plain = json.loads((folder / BEGUN).read_text(encoding="utf-8"))
        order, asker = ScriptOrder.from_json(plain["order"]), Asker(**plain["asker"])
        return cls(**{**plain, "order": order, "asker": asker})


@dataclass
class SiteScript:
    """One analysis at this site.

    Args:
        home: the folder of all scripts at this site.
        data: a folder with `datasources.json`, or None.
        guarded: whose key signs, and whose database `flame.omop` asks.
    """

    begun: Begun
    folder: Path
    home: Path
    data: Path | None
    guarded: GuardedSite
    touched: float = field(default_factory=time.monotonic)
    over_at: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    host: CarriedHost = field(init=False)
    node: LocalNode = field(init=False)

    def __post_init__(self) -> None:
        begun, order = self.begun, self.begun.order
        settings = NodeSettings(
            begun.site, order.nodes, begun.analysis, begun.asker.project, dict(order.parameters)
        )
        keys = SiteKeys(begun.analysis, order.nodes, self.guarded.state.key, begun.pinned)
        host = (CarriedHost if begun.free else ReleasesOnly)(settings, self.folder, keys=keys)
        sources = None
        if self.data is not None:
            sources = DataSources.from_folder(
                self.data,
                project=settings.project,
                log=lambda level, text: host.post({"kind": "log", "level": level, "text": text}),
            )
        self.host = host
        self.node = LocalNode(
            host,
            Place(self.folder, self.folder / "worker.log"),
            CarriedObjects(host),
            LocalStorage(self.home / "storage", settings.project),
            sources=sources,
            own_site=ScriptStudies(
                self.guarded, begun.asker, begun.analysis, ended=lambda: host.closed
            ),
        )

    def start(self, limits: Limits) -> None:
        """Start the worker; `limits` are the site's, the order gives the time."""
        script = self.folder / "script" / "script.py"  # alone: all that the worker may read here
        script.parent.mkdir(exist_ok=True)
        script.write_text(self.begun.order.script, encoding="utf-8")
        self.node.start(
            script,
            replace(limits, seconds=self.begun.order.limit),
            readable=(str(script.parent),),
            full_reasons=self.begun.free,
            tied=False,
        )

    def carried(
        self,
        incoming: Mapping[str, Any],
        guarded: GuardedSite,
        round: int,
        most: int = BUNDLE_BYTES,
    ) -> bytes:
        """Take a bundle; what waits, as a release, in the audit before it leaves.

        Raises:
            ExchangeSpent: the run has sent what it may; it is ended.
        """
        policy = guarded.site.policy
        bundle = self.host.exchange(incoming, most)
        release = policy.exchange(
            bundle,
            site=guarded.site.name,
            study=self.begun.order.digest,
            round=round,
            version=__version__,
        )
        body = wire.encode_release(release)
        if not bundle["letters"]:
            return body
        if self._sent(len(json.dumps(bundle["letters"]))) > policy.exchange_bytes:
            self.node.end("stopped", "the bytes that a run may send are spent")
            raise ExchangeSpent("The bytes that one run may send from this site are spent.")
        guarded.state.audit.append(
            {
                "decision": "released",
                "request": self.begun.asker.request,
                "analyst": self.begun.asker.name,
                "project": self.begun.asker.project,
                "kind": "flame",
                "study": self.begun.order.digest,
                "study_name": self.begun.order.name,
                "app_code": self.begun.asker.code,
            },
            released=body,
        )
        return body

    def look(self, untouched_seconds: float) -> None:
        """Notice a worker that ended, must end, or whose hub is gone."""
        now = time.monotonic()
        self.node.look()
        if time.time() > self.begun.ends_at and not self.node.over:
            self.node.end("failed", at_limit(self.begun.order.limit))
        if now - self.touched > untouched_seconds:
            self.node.end("stopped", "the hub is gone")
        if self.node.over and self.over_at is None:
            self.over_at = now

    def _sent(self, bytes: int) -> int:
        """All that the run has sent, those before a restart too."""
        with self.host.locked(), self.host.state.change():
            total = int(self.host.state.get("sent_bytes", 0)) + bytes
            self.host.state.put("sent_bytes", total)
        return total
