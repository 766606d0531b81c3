"""Keys of nodes: made at the node, vouched for by its site's signature.

What is sealed for a node is sealed with a public key that the hub hands out. Whoever runs the hub
could hand out a key of his own. So a site signs its node's key, for one analysis, and another
site takes it only with the signature of a key that its own operator (`[[peer]]`) or the analyst's
signed order (`keys`) names. The aggregator's node runs at the hub: its key is the hub's word.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from federated_analytics.errors import RequestRefused
from federated_analytics.flame.encryption import NodeKey
from federated_analytics.flame.errors import FlameError
from federated_analytics.flame.node_state import NodeState
from federated_analytics.signing import PublicKey, SigningKey

_MARK = b"FLKEY1\n"


class UnknownSiteKey(FlameError):
    """A node's key that no signature vouches for, as its site's own key is not known here."""

    code = "unknown_site_key"
    default_remedy = (
        "Before the run: `federated-analytics key trust SITE ed25519:…`, with the line that the "
        "site's `federated-analytics site key` prints; or the site operators add a [[peer]]."
    )


class SubstitutedKey(FlameError):
    """A node's key that its site has not signed."""

    code = "substituted_key"
    default_remedy = (
        "Nothing was encrypted or read. Ask the other site for its key (`federated-analytics site "
        "key`); if it is the one that is pinned, the server's operator has exchanged the node's."
    )


class OtherSiteKey(RequestRefused):
    """An order that names another key of a site than the operator does."""

    code = "other_site_key"
    default_remedy = "Ask both sites which key is right: `federated-analytics site key`."


@dataclass(frozen=True)
class SiteKeys:
    """What one site's node needs, to vouch for its key and to check the others'.

    Fields:
        own: the site's signing key
        pinned: the other sites' public keys, by node
    """

    analysis: str
    nodes: Mapping[str, str]
    own: SigningKey
    pinned: Mapping[str, str]

    def voucher(self, node: str, public: str) -> str:
        """The site's signature over its node's key, as 128 hexadecimal digits."""
        return self.own.sign(_message(self.analysis, node, public)).hex()

    def check(self, partner: Mapping[str, Any]) -> None:
        """Look at the key that the hub names for a node.

        Raises:
            UnknownSiteKey: nothing says what the site's own key is.
            SubstitutedKey: the site has not signed this key for this analysis.
        """
        node, public = str(partner.get("node", "")), str(partner.get("public", ""))
        if not public or self.nodes.get(node) != "default":
            return
        if node not in self.pinned:
            raise UnknownSiteKey(f"The key of site {node!r} is not known here.", where=node)
        try:
            signature = bytes.fromhex(str(partner.get("voucher", "")))
        except ValueError:
            signature = b""
        key = PublicKey(self.pinned[node])
        if not key.verifies(signature, _message(self.analysis, node, public)):
            raise SubstitutedKey(
                f"The key that the server names for node {node!r} is not one that its site signed.",
                where=node,
            )


def pinned_keys(ordered: Mapping[str, str], peers: Mapping[str, str]) -> dict[str, str]:
    """The sites' keys, of an analyst's order and of a site's `[[peer]]`s.

    Raises:
        OtherSiteKey: the two name different keys for one site.
    """
    for node in ordered.keys() & peers.keys():
        if ordered[node] != peers[node]:
            raise OtherSiteKey(
                f"The order names another key of {node} than this site's [[peer]].", where="keys"
            )
    return {**ordered, **peers}


def own_secret(state: NodeState, voucher: Callable[[str], str]) -> bytes:
    """The node's X25519 secret for this analysis; announced to the hub when it is new."""
    kept = state.get("secret")
    if kept is not None:
        return bytes.fromhex(kept)
    key = NodeKey.new()
    public = key.public.hex()
    with state.change():
        state.put("secret", key.secret.hex())
        state.post({"kind": "hello", "public": public, "voucher": voucher(public)})
    return key.secret


def _message(analysis: str, node: str, public: str) -> bytes:
    """What a site signs; unambiguous whatever the names hold."""
    parts = [part.encode() for part in (analysis, node, public)]
    return _MARK + b"".join(struct.pack(">I", len(part)) + part for part in parts)
