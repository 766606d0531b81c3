"""The policies that a configuration may name, each on top of the site's own rules.

`Anonymity` sets the minimum count of every rule (R1 to R5), so that it counts the persons behind a
mask and behind its complement too, not the rows of a column alone.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from federated_analytics.aggregates.base import Aggregate, nearest_multiple
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.interval_counts import IntervalCounts
from federated_analytics.aggregates.moments import Moments


class _Policy(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Anonymity(_Policy):
    """No number of fewer than k persons, nor one from which theirs would follow."""

    k: int = Field(default=5, ge=1, le=10_000)


class Noise(_Policy):
    """Laplace noise on counts and sums, drawn once for a question: asking again gives the same.

    Not differential privacy: there is no budget, and no bound on what one person contributes.

    Args:
        value: the noise's variance, in the number's own unit squared.
        type: of the noise.
    """

    value: float = Field(gt=0)
    type: Literal["laplace", "normal"] = "laplace"

    def applied(self, aggregate: Aggregate, question: bytes, secret: bytes) -> Aggregate:
        """An aggregate with noise on its count or its sum; others stay as they are.

        Args:
            question: what is asked, with the version of the data: seeds the draw.
            secret: the owner's, so that nobody else can draw the same.
        """
        draw = self._draw(question, secret)
        if isinstance(aggregate, Count):
            return Count(max(0, round(aggregate.persons + draw)))
        if isinstance(aggregate, Moments) and aggregate.n:
            return Moments(aggregate.n, aggregate.mean + draw / aggregate.n, aggregate.m2)
        return aggregate

    def _draw(self, question: bytes, secret: bytes) -> float:
        import hmac

        import numpy as np

        seed = int.from_bytes(hmac.digest(secret, question, "sha256"), "big")
        random = np.random.default_rng(seed)
        if self.type == "normal":
            return float(random.normal(0.0, math.sqrt(self.value)))
        return float(random.laplace(0.0, math.sqrt(self.value / 2)))


class Coarsening(_Policy):
    """Counts and sums to the nearest multiple of `value`, halves up: unbiased, unlike a cut."""

    value: float = Field(gt=0)
    type: Literal["round"] = "round"

    def applied(self, aggregate: Aggregate) -> Aggregate:
        """An aggregate with its count or sum rounded."""
        if isinstance(aggregate, Count):
            return Count(nearest_multiple(aggregate.persons, max(1, round(self.value))))
        if isinstance(aggregate, IntervalCounts):
            return aggregate.rounded(max(1, round(self.value)))
        if isinstance(aggregate, Moments) and aggregate.n:
            total = math.floor(aggregate.total / self.value + 0.5) * self.value
            return Moments(aggregate.n, total / aggregate.n, aggregate.m2)
        return aggregate


class Saturation(_Policy):
    """Values beyond a public range count as its ends: a bound on what one person contributes."""

    low: float
    high: float

    def applied(self, values: Any) -> Any:
        """Values held to the range."""
        import numpy as np

        return np.clip(values, self.low, self.high)


class CacheLimit(_Policy):
    """Accepted for the original's files. No client's intermediate result is kept here."""

    limit: int = Field(default=30, ge=1)


class ComplexityCap(_Policy):
    """At most so many operations in one expression."""

    cap: int = Field(default=100, ge=1, le=2_000)


class NewSamples(_Policy):
    """New rows are shown once there are enough of them; until then the version before them.

    Args:
        min: fewest added rows, or persons where a person column is named.
        person: the column that tells persons apart.
    """

    min: int = Field(default=10, ge=1)
    person: str = ""


POLICIES: dict[str, type[_Policy]] = {
    policy.__name__: policy
    for policy in (Anonymity, Noise, Coarsening, Saturation, CacheLimit, ComplexityCap, NewSamples)
}
PATHS = ("fedmed.privacy.", "federated_analytics.fedmed.privacy.")
