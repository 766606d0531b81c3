"""The server's part: it carries messages, adds up masked vectors and takes the masks away."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from federated_analytics.errors import FederatedAnalyticsError, TooFewSites, WireError
from federated_analytics.messages import Disclosure
from federated_analytics.secure_aggregation.agreement import RunKey, mask_seed, with_pair_mask
from federated_analytics.secure_aggregation.contributions import Standing, disclosures, summed
from federated_analytics.secure_aggregation.errors import UnmaskingFailed
from federated_analytics.secure_aggregation.layout import Layout
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
    text_of,
)
from federated_analytics.secure_aggregation.roster import Sites, unverified_sites
from federated_analytics.secure_aggregation.shamir import SHARE_BYTES, joined
from federated_analytics.secure_aggregation.words import (
    Words,
    add,
    expanded,
    numbers_of,
    subtract,
    words_in,
    words_of,
)
from federated_analytics.study import Study

T = TypeVar("T")
Bodies = Mapping[str, bytes]
"""What came back, by a site's address."""


@dataclass
class SecureServer:
    """One run: each step takes a round's replies by address and gives the next round's messages.

    A reply that cannot be used drops its site; `dropped` says why. The signatures are the sites'
    own business: whoever runs the server could leave a check out.

    Raises:
        NotAdditive: the study has no sums.
    """

    study: Study
    run: str
    min_sites: int = 2
    dropped: dict[str, FederatedAnalyticsError] = field(default_factory=dict, init=False)
    _names: dict[str, str] = field(default_factory=dict, init=False)
    _sites: Sites = field(init=False, repr=False)
    _standings: dict[str, Standing] = field(default_factory=dict, init=False)
    _senders: str = field(default="", init=False)
    _vectors: dict[str, Words] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self._layout = Layout.of(self.study)

    def name_of(self, address: str) -> str:
        """A site's name, once it has said it; "" before."""
        return self._names.get(address, "")

    def roster(self, replies: Bodies) -> dict[str, Roster]:
        """From the sites' advertisements, the list for all; TooFewSites."""
        taken = self._taken(replies, self._advertised)
        least = max(2, self.min_sites)
        if len(taken) < least:
            raise _too_few(len(taken), least, "that can be added up securely")
        self._sites = unverified_sites(taken.values())
        least = max(self._sites.threshold, self.min_sites)
        if len(taken) < least:
            raise _too_few(len(taken), least, "as the strictest policy asks")
        message = Roster(tuple(text_of(body) for body in sorted(taken.values())))
        return dict.fromkeys(taken, message)

    def deliveries(self, replies: Bodies) -> dict[str, Delivery]:
        """From the sites' shares, what each of them is to have; TooFewSites."""
        taken = self._taken(replies, self._shared)
        self._enough(len(taken), "are left after keys were shared")
        contributions = tuple(sorted(shares.contribution for shares in taken.values()))
        found = {}
        for address, shares in taken.items():
            sealed = {
                other.site: other.sealed[shares.site]
                for other in taken.values()
                if other.site != shares.site
            }
            found[address] = Delivery(contributions, sealed)
        self._senders = digest_of(sorted(bytes_in(body) for body in contributions))
        return found

    def survivors(self, replies: Bodies) -> dict[str, Survivors]:
        """From the masked vectors, whose masks are to go; TooFewSites."""
        self._vectors = self._taken(replies, self._vector)
        self._enough(len(self._vectors), "are left after the sums were masked")
        names = tuple(sorted(self._names[address] for address in self._vectors))
        return dict.fromkeys(self._vectors, Survivors(names))

    def sums(self, replies: Bodies) -> dict[str, Disclosure]:
        """From the shares of secrets, a disclosure of each survivor whose cells merge to the sums.

        Raises:
            TooFewSites: too few shares.
            UnmaskingFailed: the shares are not of what the sites committed themselves to.
        """
        taken = self._taken(replies, self._unmasked)
        self._enough(len(taken), "have given their shares")
        survivors = {self._names[address]: vector for address, vector in self._vectors.items()}
        total = words_of([0] * self._layout.size)
        for site, vector in survivors.items():
            seed = self._secret(taken, site, lambda shares, of: shares.seeds[of])
            if hashlib.sha256(seed).hexdigest() != self._standings[site].contribution.commitment:
                raise UnmaskingFailed("The shares are of another seed than the site has.")
            total = add(total, subtract(vector, expanded(seed, self._layout.size)))
        for site in sorted(self._standings.keys() - survivors.keys()):
            key = RunKey.of(self._secret(taken, site, lambda shares, of: shares.keys[of]))
            if key.public != self._sites.masking(site):
                raise UnmaskingFailed("The shares are of another key than the site has.")
            for other in survivors:
                seed = mask_seed(key, self._sites.masking(other), self.run, (site, other))
                total = with_pair_mask(total, seed, site, other)
        return self._disclosed(total, {site: self._standings[site] for site in survivors})

    def _disclosed(self, total: Words, standings: Mapping[str, Standing]) -> dict[str, Disclosure]:
        places = summed(self._layout, self._standings.values(), self._sites.quorum)
        try:
            found = self._layout.cells(numbers_of(total), places)
        except FederatedAnalyticsError as error:
            raise UnmaskingFailed("The sums are not of any persons.") from error
        if any(presence > len(standings) for presence, _ in found.values()):
            raise UnmaskingFailed("The sums are not of any persons.")
        by_name = disclosures(standings, found)
        return {a: by_name[n] for a, n in self._names.items() if n in by_name}

    def _taken(self, replies: Bodies, read: Callable[[str, bytes], T]) -> dict[str, T]:
        found: dict[str, T] = {}
        for address, body in sorted(replies.items()):
            try:
                found[address] = read(address, body)
            except FederatedAnalyticsError as error:
                self.dropped[address] = error
        return found

    def _advertised(self, address: str, body: bytes) -> bytes:
        message = opened(Advertisement, body).message
        if (message.run, message.study) != (self.run, self.study.digest):
            raise WireError("The site's keys are for another run or study.")
        if message.site in self._names.values():
            raise WireError(
                "Two sites have the same name.", remedy="Give each site a name of its own."
            )
        self._names[address] = message.site
        return body

    def _shared(self, address: str, body: bytes) -> Shares:
        shares = self._of_run(address, opened(Shares, body).message)
        contribution = opened(Contribution, bytes_in(shares.contribution)).message
        others = set(self._sites.names) - {shares.site}
        if contribution.site != shares.site or contribution.roster != self._sites.digest:
            raise WireError("The contribution is to another run.")
        if contribution.disclosure.study != self.study.digest:
            raise WireError("The site answered another study.")
        if set(shares.sealed) != others:
            raise WireError("A share is missing, or is for nobody.")
        self._standings[shares.site] = Standing(contribution)
        return shares

    def _vector(self, address: str, body: bytes) -> Words:
        reply = opened(Masked, body)
        if self._of_run(address, reply.message).senders != self._senders:
            raise WireError("The site has masks with other sites.")
        vector = words_in(reply.blob)
        if len(vector) != self._layout.size:
            raise WireError("The vector has another length than the study.")
        return vector

    def _unmasked(self, address: str, body: bytes) -> Unmasking:
        message = self._of_run(address, opened(Unmasking, body).message)
        survivors = {self._names[a] for a in self._vectors}
        dropped = self._standings.keys() - survivors
        told = message.survivors == digest_of(sorted(survivors))
        if not told or set(message.seeds) != survivors or set(message.keys) != dropped:
            raise WireError("The shares are of other sites than those asked for.")
        for text in (*message.seeds.values(), *message.keys.values()):
            bytes_in(text, SHARE_BYTES)
        return message

    def _of_run(self, address: str, message: T) -> T:
        if (getattr(message, "run", ""), getattr(message, "site", "")) != (
            self.run,
            self._names.get(address),
        ):
            raise WireError("The message is of another run or site.")
        return message

    def _secret(
        self, taken: Mapping[str, Unmasking], site: str, share: Callable[[Unmasking, str], str]
    ) -> bytes:
        places = {name: i for i, name in enumerate(self._sites.names, start=1)}
        shares = {places[m.site]: bytes_in(share(m, site)) for m in taken.values()}
        try:
            return joined(shares, self._sites.threshold)
        except FederatedAnalyticsError as error:
            raise UnmaskingFailed("The shares are not of one secret.", where=site) from error

    def _enough(self, count: int, what: str) -> None:
        least = max(self._sites.threshold, self.min_sites)
        if count < least:
            raise _too_few(count, least, what)


def _too_few(count: int, least: int, what: str) -> TooFewSites:
    return TooFewSites(f"{count} sites {what}; at least {least} must be.", where="secure")
