"""The sites of a run: who they are is proved by keys that this site was given before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from federated_analytics.secure_aggregation.agreement import KEY_BYTES
from federated_analytics.secure_aggregation.errors import AlteredPeer, TooFewPeers, UnknownPeer
from federated_analytics.secure_aggregation.layout import MAX_SITES
from federated_analytics.secure_aggregation.messages import (
    Advertisement,
    Roster,
    bytes_in,
    digest_of,
    opened,
)
from federated_analytics.signing import PublicKey


@dataclass(frozen=True)
class Sites:
    """The sites of a run by name, in order, with the keys that each has made for it.

    Fields:
        digest: of the signed advertisements; equal for two sites that were given the same list
        quorum: fewest sites behind a sum, as the strictest of their policies has it
        threshold: how many sites' shares give a secret back
    """

    keys: Mapping[str, Advertisement]
    digest: str

    @property
    def names(self) -> list[str]:
        return list(self.keys)

    @property
    def quorum(self) -> int:
        return max(2, *(a.min_sites for a in self.keys.values()))

    @property
    def threshold(self) -> int:
        return threshold(len(self.keys), self.quorum)

    def sealing(self, site: str) -> bytes:
        return bytes_in(self.keys[site].sealing, KEY_BYTES)

    def masking(self, site: str) -> bytes:
        return bytes_in(self.keys[site].masking, KEY_BYTES)


def threshold(count: int, quorum: int) -> int:
    """More than two thirds of the sites, and not less than the quorum.

    A server that names other survivors to some sites than to others needs `threshold` shares of
    each of two secrets of one site, and no honest site gives both: with c sites on its side it
    needs 2 · threshold <= count + c, so it fails against any third of the sites or fewer.
    """
    return max(quorum, 2 * count // 3 + 1)


def unverified_sites(bodies: Iterable[bytes]) -> Sites:
    """The sites of advertisements as they read: for who only carries them."""
    kept = list(bodies)
    found = [opened(Advertisement, body).message for body in kept]
    keys = {a.site: a for a in sorted(found, key=lambda a: a.site)}
    return Sites(keys, digest_of(sorted(kept)))


def sites_of(roster: Roster, own: bytes, own_name: str, peers: Mapping[str, PublicKey]) -> Sites:
    """The sites of a list, each with its signature checked.

    Raises:
        UnknownPeer: a site that this one has no key of.
        AlteredPeer: an advertisement is not as its site signed it, or this site's own lacks.
        TooFewPeers: fewer sites than a policy of one of them asks.
    """
    bodies = [bytes_in(text) for text in roster.advertisements]
    if len(bodies) > MAX_SITES:
        raise UnknownPeer(f"More than {MAX_SITES} sites are in the list.")
    if own not in bodies:
        raise AlteredPeer("This site's own advertisement is not in the list.")
    names = set()
    for body in bodies:
        reply = opened(Advertisement, body)
        name = reply.message.site
        if name in names:
            raise AlteredPeer("A site is twice in the list.", where=name[:60])
        names.add(name)
        if body == own:
            continue
        if name == own_name or name not in peers:
            raise UnknownPeer("The list has a site whose key is not known here.", where=name[:60])
        reply.check(peers[name], name)
    sites = unverified_sites(bodies)
    keys = [sites.sealing(name) for name in sites.names]
    keys += [sites.masking(name) for name in sites.names]
    if len(set(keys)) < len(keys):
        raise AlteredPeer("Two sites have the same key.")
    if len(sites.names) < sites.threshold:
        raise TooFewPeers(
            f"{len(sites.names)} sites take part; a policy asks for at least {sites.quorum}."
        )
    return sites
