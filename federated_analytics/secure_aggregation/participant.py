"""A site's part in one secure sum: four steps, each answered once."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from federated_analytics import wire
from federated_analytics.aggregates.base import Aggregate
from federated_analytics.canonical import questions
from federated_analytics.errors import RequestRefused
from federated_analytics.messages import Refusal
from federated_analytics.secure_aggregation.agreement import (
    RunKey,
    mask_seed,
    seal,
    unseal,
    with_pair_mask,
)
from federated_analytics.secure_aggregation.contributions import (
    Standing,
    cells_of,
    summed,
    without_cells,
)
from federated_analytics.secure_aggregation.errors import (
    AlteredPeer,
    AskedTwice,
    NoSuchRun,
    OtherSites,
    TooFewPeers,
)
from federated_analytics.secure_aggregation.layout import Layout, Place
from federated_analytics.secure_aggregation.messages import (
    Advertisement,
    Contribution,
    Delivery,
    Masked,
    Roster,
    Shares,
    Survivors,
    Unmasking,
    bytes_in,
    digest_of,
    opened,
    read,
    sealed,
    text_of,
)
from federated_analytics.secure_aggregation.roster import Sites, sites_of
from federated_analytics.secure_aggregation.shamir import SHARE_BYTES, split
from federated_analytics.secure_aggregation.words import (
    SEED_BYTES,
    add,
    bytes_of,
    expanded,
    words_of,
)
from federated_analytics.signing import PublicKey, SigningKey
from federated_analytics.study import Study

Keep = Callable[[str, bytes], bytes]
"""Keeps the first body under a key, durably, and returns the one that holds."""

ADVERTISE, SHARE, MASK, UNMASK = 1, 2, 3, 4


@dataclass
class SecureParticipant:
    """One site in one run.

    Args:
        peers: the other sites' keys by name, as their operators gave them.
        run: identifies the run; the same for all sites, never used again.
        release: makes the site's encoded release; its policy has been applied.
        keep: remembers over which sites a question was answered; a ledger's `keep_answer`.
        version: the state of the data; a question put to another one is another question.
    """

    site: str
    key: SigningKey = field(repr=False)
    peers: Mapping[str, PublicKey]
    study: Study
    run: str
    min_sites: int
    release: Callable[[], bytes]
    keep: Keep
    version: Callable[[], str] = str
    _sealing: RunKey = field(default_factory=RunKey.new, init=False, repr=False)
    _masking: RunKey = field(default_factory=RunKey.new, init=False, repr=False)
    _seed: bytes = field(default=b"", init=False, repr=False)
    _sites: Sites = field(init=False, repr=False)
    _own: tuple[bytes, bytes] = field(init=False, repr=False)
    _cells: dict[Place, Aggregate] = field(default_factory=dict, init=False, repr=False)
    _contribution: bytes = field(default=b"", init=False, repr=False)
    _standings: dict[str, Standing] = field(default_factory=dict, init=False, repr=False)
    _held: dict[str, tuple[bytes, bytes]] = field(default_factory=dict, init=False, repr=False)
    _summed: frozenset[Place] = field(default=frozenset(), init=False, repr=False)
    _version: str = field(default="", init=False)
    _noisy: bool = field(default=False, init=False, repr=False)
    _replies: dict[int, tuple[bytes, bytes]] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        self.min_sites = max(2, self.min_sites)
        self._layout = Layout.of(self.study)

    def advertise(self) -> bytes:
        """Round 1: this run's public keys, signed."""
        return self._once(ADVERTISE, "", lambda _: self._advertisement())

    def share(self, roster: str) -> bytes:
        """Round 2: a sealed share of its secrets for each site, and what it will add.

        Raises:
            UnknownPeer, AlteredPeer, TooFewPeers: of the list; nothing was asked of the database.
            RequestRefused: the site refuses the study.
        """
        return self._once(SHARE, roster, self._shares)

    def masked(self, delivery: str) -> bytes:
        """Round 3: the numbers behind masks; AlteredPeer, TooFewPeers."""
        return self._once(MASK, delivery, self._masked)

    def unmask(self, survivors: str) -> bytes:
        """Round 4: of each site a share of one secret, and never of both.

        Raises:
            TooFewPeers: a sum would be over too few sites.
            OtherSites: the question was answered over other sites.
        """
        return self._once(UNMASK, survivors, self._unmasking)

    def _once(self, step: int, text: str, make: Callable[[str], bytes]) -> bytes:
        digest = hashlib.sha256(text.encode()).digest()
        with self._lock:
            if step in self._replies:
                if self._replies[step][0] != digest:
                    raise AskedTwice("This step of the run was answered to another message.")
                return self._replies[step][1]
            if len(self._replies) != step - 1:
                raise NoSuchRun("The run has not come to this step here.")
            reply = make(text)
            self._replies[step] = digest, reply
            return reply

    def _advertisement(self) -> bytes:
        return sealed(
            Advertisement(
                run=self.run,
                study=self.study.digest,
                site=self.site,
                min_sites=self.min_sites,
                sealing=text_of(self._sealing.public),
                masking=text_of(self._masking.public),
            ),
            self.key,
        )

    def _shares(self, text: str) -> bytes:
        roster = read(Roster, text)
        own = self._replies[ADVERTISE][1]
        sites = sites_of(roster, own, self.site, self.peers)
        if any(a.run != self.run or a.study != self.study.digest for a in sites.keys.values()):
            raise AlteredPeer("A site has made its keys for another run or study.")
        disclosure = wire.decode_release(self.release())
        if disclosure.refusal is not None:
            raise _refused(disclosure.refusal)
        self._sites, self._cells = sites, cells_of(disclosure)
        self._version = self.version()
        self._noisy = disclosure.terms is not None and disclosure.terms.mode == "dp"
        self._seed = secrets.token_bytes(SEED_BYTES)
        bare, told = without_cells(disclosure)
        commitment = hashlib.sha256(self._seed).hexdigest()
        contribution = Contribution(self.run, sites.digest, self.site, commitment, bare, told)
        self._contribution = sealed(contribution, self.key)
        return sealed(
            Shares(self.run, self.site, text_of(self._contribution), self._sealed_shares()),
            self.key,
        )

    def _sealed_shares(self) -> dict[str, str]:
        sites = self._sites
        seeds = split(self._seed, sites.threshold, len(sites.names))
        keys = split(self._masking.private, sites.threshold, len(sites.names))
        found = {}
        for other, seed, key in zip(sites.names, seeds, keys, strict=True):
            if other == self.site:
                self._own = seed, key
            else:
                about = self._about(self.site, other)
                sealing = self._sealing.agreed(sites.sealing(other), "seal", about)
                found[other] = text_of(seal(sealing, seed + key, about))
        return found

    def _about(self, sender: str, receiver: str) -> str:
        return digest_of([self.run, self._sites.digest, sender, receiver])

    def _masked(self, text: str) -> bytes:
        delivery = read(Delivery, text)
        bodies = [bytes_in(body) for body in delivery.contributions]
        standings = self._checked(bodies)
        held = {self.site: self._own}
        for sender in standings:
            if sender != self.site:
                held[sender] = self._unsealed(sender, delivery)
        self._standings, self._held = standings, held
        self._summed = summed(self._layout, standings.values(), self._sites.quorum)
        vector = words_of(self._layout.numbers(self._cells, self._summed))
        vector = add(vector, expanded(self._seed, len(vector)))
        for other in standings:
            if other != self.site:
                seed = mask_seed(
                    self._masking, self._sites.masking(other), self.run, (self.site, other)
                )
                vector = with_pair_mask(vector, seed, self.site, other)
        self._cells = {}
        message = Masked(self.run, self.site, digest_of(sorted(bodies)))
        return sealed(message, self.key, bytes_of(vector))

    def _checked(self, bodies: Sequence[bytes]) -> dict[str, Standing]:
        """The contributions, each signed by its site for this very list of sites."""
        found: dict[str, Standing] = {}
        for body in bodies:
            reply = opened(Contribution, body)
            site = reply.message.site
            if site not in self._sites.keys or site in found:
                raise AlteredPeer("A contribution is of no site in the list.", where=site[:60])
            reply.check(self.key.public if site == self.site else self.peers[site], site)
            if (reply.message.run, reply.message.roster) != (self.run, self._sites.digest):
                raise AlteredPeer("A contribution is to another run.", where=site)
            found[site] = Standing(reply.message)
        if self._contribution not in bodies:
            raise AlteredPeer("This site's own contribution is not among those named.")
        self._enough(len(found))
        return dict(sorted(found.items()))

    def _unsealed(self, sender: str, delivery: Delivery) -> tuple[bytes, bytes]:
        about = self._about(sender, self.site)
        key = self._sealing.agreed(self._sites.sealing(sender), "seal", about)
        both = unseal(key, bytes_in(delivery.sealed.get(sender, "")), about)
        if len(both) != 2 * SHARE_BYTES:
            raise AlteredPeer("A share has another length.", where=sender)
        return both[:SHARE_BYTES], both[SHARE_BYTES:]

    def _enough(self, count: int) -> None:
        if count < self._sites.threshold:
            raise TooFewPeers(
                f"{count} of {len(self._sites.names)} sites are left; "
                f"at least {self._sites.threshold} must be."
            )

    def _unmasking(self, text: str) -> bytes:
        named = read(Survivors, text).sites
        survivors = sorted(set(named))
        if len(survivors) != len(named) or not self._standings.keys() >= set(survivors):
            raise AlteredPeer("A site is named that has added nothing.")
        if self.site not in survivors:
            raise AlteredPeer("This site has sent its numbers and is named as dropped.")
        self._enough(len(survivors))
        left = [self._standings[site] for site in survivors]
        if not self._summed <= summed(self._layout, left, self._sites.quorum):
            raise TooFewPeers("Without the sites that dropped out, a cell has too few behind it.")
        self._keep(survivors)
        seeds = {site: text_of(self._held[site][0]) for site in survivors}
        dropped = self._standings.keys() - set(survivors)
        keys = {site: text_of(self._held[site][1]) for site in sorted(dropped)}
        self._held, self._seed = {}, b""
        message = Unmasking(self.run, self.site, digest_of(survivors), seeds, keys)
        return sealed(message, self.key)

    def _keep(self, survivors: Sequence[str]) -> None:
        """One question is answered over one set of sites; durable before anything is told."""
        if self._noisy:
            return
        names = "\n".join(survivors).encode()
        for key in sorted({q.key(self._version) for q in questions(self.study)}):
            if self.keep(f"secure/{key}", names) != names:
                raise OtherSites("The same question was answered over other sites before.")


def _refused(refusal: Refusal) -> RequestRefused:
    error = RequestRefused(refusal.message, where=refusal.where, remedy=refusal.remedy)
    error.code = refusal.code
    return error
