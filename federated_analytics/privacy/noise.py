"""R9: differential privacy: every number of an answer with noise from OpenDP.

Which cells an answer has is public (`PublicDomain.keys`): a cell with nobody in it gets noise
like any other, and a cell that is not public does not leave. What the noise costs and how wide
it is, is known before the data are read (`privacy.noise_plan`).

References: Dwork, McSherry, Nissim & Smith (2006), Calibrating Noise to Sensitivity, TCC;
    Canonne, Kamath & Steinke (2020), The Discrete Gaussian for Differential Privacy, NeurIPS 33;
    OpenDP 0.16
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.table import Key, Table
from federated_analytics.errors import ConfigError
from federated_analytics.privacy.consistency import Relation, consistent
from federated_analytics.privacy.noise_plan import (
    Family,
    FamilyPlan,
    Mechanism,
    NoiseStatement,
    family_plans,
)
from federated_analytics.privacy.noise_statistics import LARGEST, PublicDomain


@dataclass(frozen=True)
class NoisyTable:
    """An answer with noise.

    Fields:
        table: possible numbers: non-negative integers, means within the bounds
        estimates: unbiased estimates of the same cells, which may be negative; by the names of
            the family's statements, in their order (an interval tree's: one a bin)
        statements: what noise each family carries
        rho: what the answer costs, zCDP
    """

    table: dict[Key, Aggregate]
    estimates: Mapping[Key, tuple[float, ...]] = field(repr=False)
    statements: tuple[NoiseStatement, ...]
    rho: float
    families: Mapping[Key, Family] = field(repr=False)

    def consistent(self, relations: Iterable[Relation[Key]]) -> dict[Key, Aggregate]:
        """`table` with its counts of persons adjusted to `relations`; costs nothing.

        Relations over other cells than counts are passed over.
        """
        counts = {k: self.estimates[k][0] for k, v in self.table.items() if isinstance(v, Count)}
        if not counts:
            return dict(self.table)
        variance = {s.family: s.variance for s in self.statements if s.statistic == "persons"}
        variances = {key: variance[self.families[key]] for key in counts}
        kept = [r for r in relations if counts.keys() >= {r.whole, *r.parts}]
        found = consistent(counts, variances, kept)
        return {k: Count(found[k]) if k in found else v for k, v in self.table.items()}


def noisy(
    table: Table,
    domain: PublicDomain,
    *,
    rho: float,
    weights: Mapping[Family, float] | None = None,
    mechanism: Mechanism = "gaussian",
) -> NoisyTable:
    """Every public cell of `table` with noise; a cell that `table` lacks counts as zero.

    Args:
        table: exact cells over persons with one row each, values within the domain's bounds
        rho: the whole answer's privacy loss, zCDP (one person added or removed)
        weights: how `rho` is divided over families, see `plan`
        mechanism: Laplace noise of ε = sqrt(2ρ) costs the same ρ (Bun & Steinke 2016,
            proposition 1.4) and has at least twice the Gaussian's variance

    Raises:
        RequestRefused: a type or variable that cannot be bounded; says nothing of the data.
    """
    cells: dict[Key, Aggregate] = {}
    estimates: dict[Key, tuple[float, ...]] = {}
    told: list[NoiseStatement] = []
    losses: list[float] = []
    of: dict[Key, Family] = {}
    for one in family_plans(domain, rho, weights, mechanism):
        exact = [one.statistic.encode(_held(table, key, one.kind)) for key in one.keys]
        vectors, loss = _measured(exact, one)
        for key, vector in zip(one.keys, vectors, strict=True):
            cells[key] = one.statistic.decode(vector)
            estimates[key] = one.statistic.estimates(vector)
            of[key] = one.family
        told += one.statements()
        losses.append(loss)
    ordered = dict(sorted(cells.items()))
    return NoisyTable(ordered, estimates, tuple(told), math.fsum(losses), of)


def _held(table: Table, key: Key, kind: type[Aggregate]) -> Aggregate:
    value = table.get(key, kind.zero())
    if type(value) is not kind:
        raise ConfigError(f"The cell is not the {kind.__name__} it should be.", where=key.variable)
    return value


def _measured(vectors: Sequence[Sequence[int]], one: FamilyPlan) -> tuple[list[list[int]], float]:
    """The vectors with noise, and the ρ that OpenDP's map proves for them.

    One measurement over all cells: one person moves a single cell's vector, so the sensitivity
    of the whole is that of one cell.
    """
    flat = [max(-LARGEST, min(number, LARGEST)) for vector in vectors for number in vector]
    measurement = _measurement(one)
    loss = float(measurement.map(one.sensitivity))
    released = iter(measurement(flat))
    rho = loss if one.mechanism == "gaussian" else loss**2 / 2
    return [[int(next(released)) for _ in vector] for vector in vectors], rho


def _measurement(one: FamilyPlan) -> Any:
    import opendp.prelude as dp

    dp.enable_features("contrib")
    vectors = dp.vector_domain(dp.atom_domain(T="i64"))
    if one.mechanism == "gaussian":
        return dp.m.make_gaussian(vectors, dp.l2_distance(T=float), scale=one.scale)
    return dp.m.make_laplace(vectors, dp.l1_distance(T=float), scale=one.scale)
