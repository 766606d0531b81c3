"""Noisy counts made consistent: non-negative integers whose margins agree.

Everything here reads noisy numbers and public structure alone, so it costs no privacy
(differential privacy is closed under post-processing), and it lowers the error besides.

References: Hay, Rastogi, Miklau & Suciu (2010), Boosting the Accuracy of Differentially Private
    Histograms Through Consistency, PVLDB 3:1021
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from federated_analytics.aggregates.table import Key
from federated_analytics.errors import ShapeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

K = TypeVar("K", bound=Hashable)

_STEPS = 200
_PRECISION = 1e-9


@dataclass(frozen=True)
class Relation(Generic[K]):
    """The count at `whole` is the sum of those at `parts`."""

    whole: K
    parts: tuple[K, ...]


def consistent(
    counts: Mapping[K, float], variances: Mapping[K, float], relations: Iterable[Relation[K]]
) -> dict[K, int]:
    """Non-negative integers near `counts` that keep every relation exactly.

    Args:
        counts: noisy counts, persons; may be negative
        variances: of each count's noise, persons squared; > 0
        relations: over the keys of `counts`; wholes may be parts of others, without a cycle

    Raises:
        ShapeError: a key that has no count or no variance, a value that is not finite, or
            relations that go in a circle.
    """
    kept = tuple(relations)
    _check(counts, variances, kept)
    return _integers(projected(counts, variances, kept), kept)


def projected(
    counts: Mapping[K, float], variances: Mapping[K, float], relations: Sequence[Relation[K]]
) -> dict[K, float]:
    """The nearest non-negative numbers that keep the relations, by weighted least squares.

    Minimises sum((x - count)² / variance) over x >= 0 with A x = 0. Its dual is convex and once
    differentiable, with x = max(0, count + variance * (Aᵀ λ)), so a damped semismooth Newton
    method on one λ a relation finds it in a few steps however many cells there are.

    References: Qi & Sun (2006), A Quadratically Convergent Newton Method for Computing the
        Nearest Correlation Matrix, SIAM J. Matrix Anal. Appl. 28:360, for the method
    """
    import numpy as np
    from scipy.sparse import csr_array

    keys = list(counts)
    if not relations:
        return {key: max(0.0, float(counts[key])) for key in keys}
    place = {key: i for i, key in enumerate(keys)}
    y = np.array([counts[key] for key in keys], float)
    v = np.array([variances[key] for key in keys], float)
    v = v / v.mean()
    entries = [
        (row, place[key], sign)
        for row, relation in enumerate(relations)
        for key, sign in ((relation.whole, 1.0), *((part, -1.0) for part in relation.parts))
    ]
    rows, columns, signs = zip(*entries, strict=True)
    a = csr_array((signs, (rows, columns)), shape=(len(relations), len(keys)))
    x = _nearest(a, y, v)
    return {key: float(number) for key, number in zip(keys, x, strict=True)}


def _nearest(a: Any, y: Vector, v: Vector) -> Vector:
    """The projection of y on {x >= 0, a x = 0} in the metric of 1 / v."""
    import numpy as np

    size = max(1.0, float(np.abs(y).max()))
    multipliers = np.zeros(a.shape[0])

    def point(at: Vector) -> Vector:
        x: Vector = np.maximum(0.0, y + v * (a.T @ at))
        return x

    x = point(multipliers)
    value = float((x * x / v).sum()) / 2
    for _ in range(_STEPS):
        gradient = a @ x
        if float(np.abs(gradient).max()) <= _PRECISION * size:
            break
        active = np.where(y + v * (a.T @ multipliers) > 0, v, 0.0)
        curvature = ((a * active) @ a.T).toarray()
        # The ridge makes the step defined where relations repeat each other or a part is 0.
        curvature += np.eye(len(gradient)) * 1e-10 * max(1.0, float(curvature.trace()))
        step = -np.linalg.solve(curvature, gradient)
        slope, length = float(gradient @ step), 1.0
        while True:
            next_x = point(multipliers + length * step)
            next_value = float((next_x * next_x / v).sum()) / 2
            if next_value <= value + 1e-4 * length * slope or length < 1e-12:
                break
            length /= 2
        multipliers, x, value = multipliers + length * step, next_x, next_value
    return x


def monotone(cumulative: Sequence[float], variances: Sequence[float] | None = None) -> list[int]:
    """Noisy cumulative counts as integers that never fall and start at 0 or above.

    Weighted isotonic regression by pooling adjacent violators, then rounding; both keep order.

    References: Barlow, Bartholomew, Bremner & Brunk (1972), Statistical Inference under Order
        Restrictions; Hay et al. (2010), section 3
    """
    weights = [1.0] * len(cumulative) if variances is None else [1 / v for v in variances]
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(cumulative, weights, strict=True):
        block = (float(value), weight, 1)
        while blocks and blocks[-1][0] > block[0]:
            mean, mass, size = blocks.pop()
            both = mass + block[1]
            block = ((mean * mass + block[0] * block[1]) / both, both, size + block[2])
        blocks.append(block)
    levels = (max(0, round(mean)) for mean, _, _ in blocks)
    return [level for level, (_, _, size) in zip(levels, blocks, strict=True) for _ in range(size)]


def falling(steps: Sequence[float], last: int) -> list[int]:
    """Noisy numbers of persons left after each step as integers that never rise and end at `last`.

    Args:
        steps: first to last, persons, of equal noise; the last is replaced.
        last: >= 0, from a better estimate: who passed all steps is the population itself.

    References: Barlow et al. (1972), as for `monotone`: with a lower bound, the regression is
        the one without it, cut at the bound
    """
    return [*(max(last, n) for n in reversed(monotone(steps[-2::-1]))), last] if steps else []


def margins(keys: Iterable[Key]) -> list[Relation[Key]]:
    """Relations among strata: a stratum is the sum of the finer ones that lie within it.

    `keys` must hold every level of each stratum (a missing value's level too) and, where strata
    are crossed, every combination: then overall = sum of each alone = sum of all crossed.
    """
    tables: dict[tuple[str, str, str], dict[tuple[str, ...], list[Key]]] = {}
    for key in keys:
        names = tuple(sorted(name for name, _ in key.strata))
        table = tables.setdefault((key.variable, key.level, key.name), {})
        table.setdefault(names, []).append(key)
    found: list[Relation[Key]] = []
    for table in tables.values():
        for coarse, fine in _steps_down(list(table)):
            parts: dict[frozenset[tuple[str, str]], list[Key]] = defaultdict(list)
            for key in table[fine]:
                parts[frozenset(p for p in key.strata if p[0] in coarse)].append(key)
            for key in table[coarse]:
                found.append(Relation(key, tuple(sorted(parts[frozenset(key.strata)]))))
    return found


def _steps_down(groupings: list[tuple[str, ...]]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Pairs (coarse, fine) of groupings with no other between them."""
    below = [(a, b) for a, b in itertools.permutations(groupings, 2) if set(a) < set(b)]
    return [
        (a, b) for a, b in below if not any(set(a) < set(c) and set(c) < set(b) for c in groupings)
    ]


def _check(
    counts: Mapping[K, float], variances: Mapping[K, float], relations: Sequence[Relation[K]]
) -> None:
    known = {key for r in relations for key in (r.whole, *r.parts)} | set(variances)
    if not known <= set(counts) or not set(counts) <= set(variances):
        raise ShapeError("A relation or variance names a cell that has no count, or the reverse.")
    if not all(math.isfinite(x) for x in counts.values()) or not all(
        0 < v < math.inf for v in variances.values()
    ):
        raise ShapeError("Noisy counts must be finite, and their variances positive and finite.")


def _order(relations: Sequence[Relation[K]]) -> list[K]:
    """Every whole, after all wholes among its own parts."""
    from graphlib import CycleError, TopologicalSorter

    graph: dict[K, set[K]] = {}
    for relation in relations:
        graph.setdefault(relation.whole, set()).update(relation.parts)
    try:
        return [key for key in TopologicalSorter(graph).static_order() if key in graph]
    except CycleError as error:
        raise ShapeError("The relations among the counts go in a circle.") from error


def _integers(values: Mapping[K, float], relations: Sequence[Relation[K]]) -> dict[K, int]:
    """Integers near `values`, which keep the relations, that keep them too.

    Cells that are no sum are rounded so that their total is right; every sum is then added up.
    That keeps all relations when each sum goes back to one set of cells, as strata that were
    also crossed do; where two sets of cells add up to one sum, an integer programme is solved.
    """
    order = _order(relations)
    first = {relation.whole: relation for relation in reversed(relations)}
    single = [key for key in values if key not in first]
    found = dict(zip(single, _rounded([values[key] for key in single]), strict=True))
    for whole in order:
        found[whole] = sum(found[part] for part in first[whole].parts)
    if any(found[r.whole] != sum(found[p] for p in r.parts) for r in relations):
        return _programme(values, relations)
    return {key: found[key] for key in values}


def _rounded(values: Sequence[float]) -> list[int]:
    """Each value rounded up or down such that the total is the rounded total.

    The largest remainders are rounded up (Hamilton's apportionment).
    """
    down = [math.floor(x) for x in values]
    more = round(math.fsum(values)) - sum(down)
    by_remainder = sorted(range(len(down)), key=lambda i: (down[i] - values[i], i))
    for i in by_remainder[:more]:
        down[i] += 1
    return down


def _programme(values: Mapping[K, float], relations: Sequence[Relation[K]]) -> dict[K, int]:
    """Non-negative integers with the least sum of distances to `values` (HiGHS)."""
    import numpy as np
    from scipy.optimize import LinearConstraint, milp
    from scipy.sparse import csr_array, eye_array, hstack, vstack

    keys = list(values)
    place = {key: i for i, key in enumerate(keys)}
    sums = np.zeros((len(relations), len(keys)))
    for row, relation in enumerate(relations):
        sums[row, place[relation.whole]] += 1
        for part in relation.parts:
            sums[row, place[part]] -= 1
    target, one = np.array([values[key] for key in keys]), eye_array(len(keys))
    nothing = csr_array((len(relations), len(keys)))
    matrix = vstack([hstack([sums, nothing]), hstack([one, one]), hstack([one, -one])])
    none, unbounded = np.zeros(len(relations)), np.full(len(keys), np.inf)
    found = milp(
        np.concatenate([np.zeros(len(keys)), np.ones(len(keys))]),
        constraints=LinearConstraint(
            matrix,
            np.concatenate([none, target, -unbounded]),
            np.concatenate([none, unbounded, target]),
        ),
        integrality=np.concatenate([np.ones(len(keys)), np.zeros(len(keys))]),
        options={"time_limit": 10.0},
    )
    if found.x is None:
        raise ShapeError("No integers keep all relations among the counts.")
    return {key: round(float(found.x[i])) for key, i in place.items()}
