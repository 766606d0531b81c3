"""R3: no sum, mean or variance of which one person makes up more than a given part."""

from __future__ import annotations

from federated_analytics.privacy.draft import Draft

RULE = "R3"


def hold_dominance(draft: Draft, largest_share: float) -> Draft:
    """The draft without the sums of which one person is more than `largest_share` (0 to 1).

    References: the (n, k)-dominance rule with n = 1: Hundepool et al. (2012), Statistical
        Disclosure Control, section 4.2.2
    """
    dominated = [k for k, value in draft.cells.items() if value.largest_share() > largest_share]
    return draft.without(dominated, RULE)
