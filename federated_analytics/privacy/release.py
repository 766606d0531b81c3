"""The only thing that leaves a site."""

from __future__ import annotations

from dataclasses import dataclass, field

from federated_analytics.messages import Disclosure

_MADE_BY_POLICY = object()


@dataclass(frozen=True)
class Release:
    """A disclosure that passed the site's policy; `wire` encodes nothing else.

    Only `privacy.policy` makes one: the seal it needs is private to this package.
    """

    disclosure: Disclosure
    seal: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.seal is not _MADE_BY_POLICY:
            raise TypeError("a Release is made by the site's policy, see privacy/policy.py")
