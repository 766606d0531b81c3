"""R9: how an answer's privacy loss is divided over its cells, before any of them is read.

The cells of one family (one variable split by the levels of one set of strata) share no person,
so the family costs what its dearest cell does: parallel composition. Families compose one after
another.

References: McSherry (2009), Privacy Integrated Queries, SIGMOD, theorem 4 (parallel
    composition); Bun & Steinke (2016), Concentrated Differential Privacy, TCC, lemma 2.3
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.table import Key
from federated_analytics.errors import BudgetSpent, ConfigError
from federated_analytics.privacy.noise_statistics import PublicDomain, Statistic, statistic_of

Mechanism = Literal["gaussian", "laplace"]

_UP = 1 + 1e-12
"""Scales are rounded up, so that the loss that OpenDP computes is never above what was asked."""
LARGEST_SCALE = 2.0**50
"""Noise beyond this would not fit the integers that carry it."""


@dataclass(frozen=True, order=True)
class Family:
    """Cells that share no person; `level` is "" where the levels exclude each other."""

    strata: tuple[str, ...]
    variable: str
    name: str
    level: str = ""

    @classmethod
    def of(cls, key: Key, exclusive: frozenset[str]) -> Family:
        """The family of a cell; strata always exclude each other."""
        level = "" if key.name in exclusive else key.level
        return cls(tuple(name for name, _ in key.strata), key.variable, key.name, level)


@dataclass(frozen=True)
class NoiseStatement:
    """How much noise one statistic of a family carries: public, and a part of the answer.

    Fields:
        scale: standard deviation of the noise, in the statistic's unit
        accuracy95: in at least 95 of 100 cells the noise is smaller than this
    """

    family: Family
    statistic: str
    mechanism: Mechanism
    scale: float
    accuracy95: float

    @property
    def variance(self) -> float:
        """Of the noise, in the statistic's unit squared."""
        return self.scale**2


@dataclass(frozen=True)
class FamilyPlan:
    """One family's cells, and the measurement that all of them pass through at once."""

    family: Family
    keys: tuple[Key, ...]
    kind: type[Aggregate]
    statistic: Statistic
    mechanism: Mechanism
    rho: float

    @property
    def scale(self) -> float:
        """OpenDP's parameter: standard deviation (Gaussian) or mean deviation (Laplace)."""
        return self.sensitivity / math.sqrt(2 * self.rho) * _UP

    @property
    def sensitivity(self) -> float:
        """How far one person moves the family's integers: L2 (Gaussian) or L1 (Laplace)."""
        return self.statistic.l2 if self.mechanism == "gaussian" else self.statistic.l1

    def statements(self) -> list[NoiseStatement]:
        deviation = self.scale * (1 if self.mechanism == "gaussian" else math.sqrt(2))
        within = _accuracy95(self.mechanism, self.scale)
        return [
            NoiseStatement(self.family, name, self.mechanism, unit * deviation, unit * within)
            for name, unit in self.statistic.units.items()
        ]


def families(domain: PublicDomain) -> dict[Family, tuple[Key, ...]]:
    """The domain's cells by family, both in order.

    Raises:
        ConfigError: cells of one family have aggregates of different types.
    """
    found: dict[Family, list[Key]] = {}
    for key in sorted(domain.keys):
        found.setdefault(Family.of(key, domain.exclusive), []).append(key)
    for family, keys in found.items():
        if len({domain.keys[key] for key in keys}) > 1:
            raise ConfigError("A family's cells are of different types.", where=family.variable)
    return {family: tuple(keys) for family, keys in sorted(found.items())}


def plan(
    domain: PublicDomain, rho: float, weights: Mapping[Family, float] | None = None
) -> dict[Family, float]:
    """`rho` divided over the domain's families, so that all persons carry equal noise.

    Args:
        weights: divides it otherwise; a family that is left out keeps its own weight.

    Raises:
        BudgetSpent: nothing to divide.
        ConfigError: a weight that is not positive.
    """
    if not (0 < rho < math.inf):
        raise BudgetSpent("No privacy loss is left to answer with.")
    parts = {**_loss_at_unit_noise(domain), **(weights or {})}
    if unknown := parts.keys() - families(domain).keys():
        raise ConfigError("A weight is of no family.", where=min(unknown).variable)
    if not all(0 < part < math.inf for part in parts.values()):
        raise ConfigError("Weights of families must be positive numbers.")
    whole = math.fsum(parts.values()) * _UP
    return {family: rho * part / whole for family, part in parts.items()}


def statements(
    domain: PublicDomain,
    rho: float,
    *,
    weights: Mapping[Family, float] | None = None,
    mechanism: Mechanism = "gaussian",
) -> tuple[NoiseStatement, ...]:
    """What noise an answer at `rho` would carry: known before it is asked, without the data."""
    plans = family_plans(domain, rho, weights, mechanism)
    return tuple(statement for one in plans for statement in one.statements())


def cost(domain: PublicDomain, scale: float) -> float:
    """Least ρ at which every number of persons has Gaussian noise of at most this deviation.

    Args:
        scale: standard deviation, persons; with `rho` divided as `plan` does by itself.
    """
    if not 0 < scale < math.inf:
        raise ConfigError("The noise's standard deviation must be a positive number of persons.")
    return math.fsum(_loss_at_unit_noise(domain).values()) / scale**2 * _UP**4


def _loss_at_unit_noise(domain: PublicDomain) -> dict[Family, float]:
    """ρ of each family whose number of persons has Gaussian noise of deviation 1."""
    found = {}
    for family, keys in families(domain).items():
        statistic = statistic_of(domain.keys[keys[0]], family.variable, domain)
        persons = next(iter(statistic.units.values()))
        found[family] = (statistic.l2 * persons) ** 2 / 2
    return found


def family_plans(
    domain: PublicDomain,
    rho: float,
    weights: Mapping[Family, float] | None,
    mechanism: Mechanism,
) -> list[FamilyPlan]:
    """What is measured, with which noise.

    Raises:
        RequestRefused: a type or variable that cannot be bounded, or no loss left.
    """
    shares = plan(domain, rho, weights)
    made = []
    for family, keys in families(domain).items():
        kind = domain.keys[keys[0]]
        statistic = statistic_of(kind, family.variable, domain)
        one = FamilyPlan(family, keys, kind, statistic, mechanism, shares[family])
        if one.scale > LARGEST_SCALE:
            raise BudgetSpent("The privacy loss is too small: its noise would drown every number.")
        made.append(one)
    return made


def _accuracy95(mechanism: Mechanism, scale: float) -> float:
    import opendp.prelude as dp

    # The discrete noise's own bound is found by adding up its masses: slow where it is wide,
    # and there the continuous one's differs by less than one step in a thousand.
    discrete = scale < 1_000
    if mechanism == "gaussian":
        gaussian = dp.discrete_gaussian_scale_to_accuracy, dp.gaussian_scale_to_accuracy
        return float(gaussian[not discrete](scale, 0.05))
    laplace = dp.discrete_laplacian_scale_to_accuracy, dp.laplacian_scale_to_accuracy
    return float(laplace[not discrete](scale, 0.05))
