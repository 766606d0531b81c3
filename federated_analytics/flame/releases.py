"""The releases that a node holds: what its own site released, and what came from other nodes.

A script has handles alone. The bytes stay with the node, whose service puts them into letters
and merges them, so that nothing that a script made up passes for a site's release.
"""

from __future__ import annotations

import base64
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from federated_analytics.errors import FederatedAnalyticsError, WireError
from federated_analytics.flame.release_errors import NotARelease, ReleaseTooLarge

if TYPE_CHECKING:
    from federated_analytics.flame.node_settings import NodeSettings
    from federated_analytics.flame.node_state import NodeState
    from federated_analytics.messages import Disclosure

MAX_RELEASE_BYTES = 1_000_000
"""One letter must fit into a message to a site's service; a release of this size is rare."""


def disclosed(body: bytes) -> Disclosure:
    """What a site's release says, with or without its signature; WireError for anything else."""
    from federated_analytics import wire
    from federated_analytics.exchange import released

    return wire.decode_release(released(body))


class ReleaseBox:
    """The part of a node's host that keeps releases, in the node's state."""

    settings: NodeSettings
    _state: NodeState
    _changed: threading.Condition
    _on_traffic: Callable[[Any], None]

    if TYPE_CHECKING:

        def gone(self, node: str) -> bool: ...
        def wait_for(self, enough: Callable[[], bool], deadline: float | None) -> bool: ...

    def keep_release(self, body: bytes) -> str:
        """Keep what the node's own site released; returns the handle."""
        id = secrets.token_hex(16)
        with self._changed, self._state.change():
            self._keep(id, self.settings.node, body)
        return id

    def release_of(self, id: str) -> tuple[str, bytes]:
        """The node whose site made a release, and its bytes; NotARelease for another id."""
        with self._changed:
            held = self._state.get(f"release/{id}")
        if held is None:
            raise NotARelease("No site has made this release.", where="release")
        return str(held["node"]), base64.b64decode(held["body"])

    def send_release(self, id: str, receivers: Sequence[str]) -> None:
        """Put an own release into the outbox, as its site made it.

        Raises:
            NotARelease: this node's site made none of this id.
            ReleaseTooLarge: it does not fit into a letter.
        """
        node, body = self.release_of(id)
        if node != self.settings.node:
            raise NotARelease("A node sends its own site's releases alone.", where="release")
        if len(body) > MAX_RELEASE_BYTES:
            raise ReleaseTooLarge(f"A release of {len(body):,} bytes does not fit into a letter.")
        with self._changed, self._state.change():
            self._state.post(
                {
                    "kind": "release",
                    "id": id,
                    "recipients": list(receivers),
                    "release": base64.b64encode(body).decode(),
                }
            )
        self._on_traffic(self)

    def await_releases(
        self, senders: Sequence[str], study: str | None, deadline: float | None
    ) -> dict[str, list[str]]:
        """The unread releases of each sender, oldest first, now read.

        Waits until each has sent one, or can no longer.

        Args:
            study: digest: only releases of this study, and refusals of anything.
        """

        def unread() -> dict[str, list[str]]:
            index = self._state.get("releases", [])
            return {s: [e[0] for e in index if _fits(e, s, study)] for s in senders}

        self.wait_for(
            lambda: all(ids or self.gone(sender) for sender, ids in unread().items()), deadline
        )
        with self._changed, self._state.change():
            found = unread()
            taken = {id for ids in found.values() for id in ids}
            index = self._state.get("releases", [])
            self._state.put("releases", [[*e[:3], e[3] or e[0] in taken] for e in index])
        return found

    def _keep(self, id: str, node: str, body: bytes) -> None:
        held = {"node": node, "body": base64.b64encode(body).decode()}
        self._state.put(f"release/{id}", held)

    def _take_release(self, letter: Mapping[str, Any]) -> None:
        """A release from another node's site; what is none is reported, and not kept."""
        id, sender = str(letter["id"]), str(letter["sender"])
        try:
            body = base64.b64decode(letter["release"], validate=True)
            said = disclosed(body)
            if said.site != sender:
                raise WireError("The release is of another site.")
        except (FederatedAnalyticsError, ValueError, TypeError):
            text = f"What {sender} sent as a release is none, and was not taken."
            self._state.post({"kind": "log", "level": "error", "text": text})
            return
        if self._state.get(f"release/{id}") is None:
            self._keep(id, sender, body)
            index = self._state.get("releases", [])
            study = "" if said.refusal else said.study
            self._state.put("releases", [*index, [id, sender, study, False]])


def _fits(entry: Sequence[Any], sender: str, study: str | None) -> bool:
    """Whether an entry (id, sender, study, read) is one that is waited for."""
    _, node, of, read = entry
    return node == sender and not read and (study is None or of in ("", study))
