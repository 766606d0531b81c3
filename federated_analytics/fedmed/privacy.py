"""The policies that a configuration may name, each on top of the site's own rules.

`Anonymity` sets the minimum count of every rule (R1 to R5), so that it counts the persons behind a
mask and behind its complement too, not the rows of a column alone. `Noise`, `Saturation` and
`Coarsening` change what the rules have let pass, in the order in which a configuration lists them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.fedmed import changes
from federated_analytics.fedmed.changes import Asked, Part


class _Policy(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Change(_Policy, ABC):
    """A change of results.

    Args:
        type: "int" for counts alone, "float" for sums and what follows from them; both where left
            out. A sum that is a whole number, such as a mask's, is of both.
        filter: shell patterns, one of which matches "FRAGMENT.METHOD()"; everything where left out.
        reject: patterns of what stays as it is, though `filter` matches.
    """

    type: Literal["int", "float"] | None = None
    filter: tuple[str, ...] | None = None
    reject: tuple[str, ...] = ()

    @field_validator("type", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return value.__name__ if value in (int, float) else value

    @field_validator("filter", "reject", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    def covers(self, part: Part) -> bool:
        """Whether it is meant for a part of a result.

        One name that matches `filter` is enough, for what is told under that name is told by the
        part; only its own name can be rejected.
        """
        if self.type is not None and (self.type == "int") != part.whole:
            return False
        wanted = self.filter is None or any(
            fnmatchcase(name, pattern) for name in part.names for pattern in self.filter
        )
        return wanted and not any(fnmatchcase(part.name, pattern) for pattern in self.reject)

    def applied(self, aggregate: Aggregate, asked: Asked) -> Aggregate:
        """An aggregate as it leaves."""
        return changes.changed(aggregate, asked, self)

    @abstractmethod
    def number(self, value: Fraction, part: Part) -> Fraction:
        """A changed number."""

    def spread(self, value: float, size: float, part: Part) -> float:
        """A changed sum of squares or products of values whose range is `size`."""
        return float(self.number(Fraction(value), part))


class Trustful(_Policy):
    """Changes nothing, as in the original: what other policies and the default say holds."""


class Anonymity(_Policy):
    """No number of fewer than k persons, nor one from which theirs would follow."""

    k: int = Field(default=5, ge=1, le=10_000)


class Noise(_Change):
    """Noise on counts and sums, drawn once for a question: asking again gives the same.

    The sum of squared deviations has a draw of its own, so that a variance does not tell what the
    noise hides. Not differential privacy: there is no budget, and whoever asks the same in many
    other words draws anew.

    Args:
        value: the noise's variance, in the number's own unit squared.
        distribution: of the noise.
    """

    value: float = Field(gt=0, allow_inf_nan=False)
    distribution: Literal["normal", "laplace"] = "normal"

    def number(self, value: Fraction, part: Part) -> Fraction:
        return value + Fraction(self._draw(part))

    def spread(self, value: float, size: float, part: Part) -> float:
        """As much as moving one row's value at the end of the range by a draw would change it."""
        return value + size * self._draw(part)

    def _draw(self, part: Part) -> float:
        random = part.asked.random(part.label)
        if self.distribution == "normal":
            return float(random.normal(0.0, math.sqrt(self.value)))
        return float(random.laplace(0.0, math.sqrt(self.value / 2)))


class Coarsening(_Change):
    """Counts and sums to the nearest multiple of `value`, halves up: unbiased, unlike a cut."""

    value: float = Field(gt=0, allow_inf_nan=False)

    def number(self, value: Fraction, part: Part) -> Fraction:
        step = Fraction(str(self.value))
        return math.floor(value / step + Fraction(1, 2)) * step


class Saturation(_Change):
    """Numbers beyond a range count as its ends.

    Args:
        min, max: of results, such as a count with noise that is not below 0.
        low, high: of each row's value, before anything is computed: a bound on what one person
            contributes. It holds for every operation.
    """

    min: float | None = Field(default=None, allow_inf_nan=False)
    max: float | None = Field(default=None, allow_inf_nan=False)
    low: float | None = Field(default=None, allow_inf_nan=False)
    high: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_range(self) -> Self:
        of_rows = self.low is not None or self.high is not None
        of_results = self.min is not None or self.max is not None
        if of_rows == of_results:
            raise ValueError("name min or max for results, or low and high for rows' values")
        if of_rows and (self.low is None or self.high is None):
            raise ValueError("a range of rows' values has both low and high")
        if of_rows and (self.type or self.filter is not None or self.reject):
            raise ValueError("low and high hold for every operation, without type and patterns")
        ends = (self.low, self.high) if of_rows else (self.min, self.max)
        if ends[0] is not None and ends[1] is not None and ends[0] > ends[1]:
            raise ValueError("the range ends before it begins")
        return self

    @property
    def is_of_rows(self) -> bool:
        return self.low is not None

    def held(self, values: Any) -> Any:
        """Rows' values held to the range."""
        import numpy as np

        return np.clip(values, self.low, self.high)

    def number(self, value: Fraction, part: Part) -> Fraction:
        low = -math.inf if self.min is None else Fraction(self.min)
        high = math.inf if self.max is None else Fraction(self.max)
        if value < low:
            return Fraction(math.ceil(low) if part.whole else low)
        return Fraction(math.floor(high) if part.whole else high) if value > high else value

    def spread(self, value: float, size: float, part: Part) -> float:
        """As it is: a range of a sum says nothing of how the values vary."""
        return value


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


CHANGES = (Noise, Saturation, Coarsening)
POLICIES: dict[str, type[_Policy]] = {
    policy.__name__: policy
    for policy in (Anonymity, *CHANGES, CacheLimit, ComplexityCap, NewSamples, Trustful)
}
PATHS = ("fedmed.privacy.", "federated_analytics.fedmed.privacy.")
