"""R11: counts in multiples of a base, each rounded by itself."""

from __future__ import annotations

from federated_analytics.privacy.draft import Draft


def round_counts(draft: Draft, base: int) -> Draft:
    """The draft with every count a multiple of `base`; a total is never the sum of its parts."""
    if base <= 1:
        return draft
    cells = {key: value.rounded(base) for key, value in draft.cells.items()}
    return Draft(draft.evidence, cells, draft.withheld)
