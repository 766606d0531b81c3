"""An attacker who reads many releases at once: every count a row of one linear programme.

He knows the tables' definition, which levels there are, the study that he sent and what came
back. The unknowns are the persons of each way to be (an atom): a level of each dimension, numbers
cut at every edge that any question or answer names.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, vstack

from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.interval_counts import IntervalCounts
from federated_analytics.aggregates.moments import Moments
from federated_analytics.aggregates.table import Key
from federated_analytics.messages import Disclosure
from federated_analytics.omop.strata import Stratum
from federated_analytics.study import Study

MISSING = "Unknown"
Interval = tuple[float, float]
Numbers = np.ndarray[Any, Any]
Level = str | Interval
Levels = Mapping[str, Sequence[Level]]
Condition = tuple[str, tuple[Level, ...]]
"""A dimension, and the levels and intervals that a person may have in it."""


@dataclass(frozen=True)
class Known:
    """A released number of persons, who meet all conditions."""

    of: tuple[Condition, ...]
    persons: int


@dataclass
class Attacker:
    """What is known of a table whose numeric columns are `numbers`.

    Args:
        levels: of each text column, `MISSING` included.
        grid: first edge and step of each numeric column's fine grid.
    """

    levels: Mapping[str, Sequence[str]]
    grid: Mapping[str, tuple[float, float]]
    known: list[Known] = field(default_factory=list)
    dimensions: set[str] = field(default_factory=set)
    cuts: dict[str, set[float]] = field(default_factory=dict)

    def read(self, study: Study, disclosure: Disclosure) -> None:
        """Adds all that a release tells."""
        for answer in disclosure.answers:
            query = study.analysis[answer.analysis]
            self._asked(study, query)
            for cell in answer.cells:
                strata = [self._stratum(study, n, level) for n, level in cell.key.strata]
                for persons, of in self._counts(query, cell.key, cell.value):
                    self._add(Known((*strata, *of), persons))
            keys = [c.key for c in answer.cells] + [w.key for w in answer.withheld]
            if all(key.variable for key in keys):
                self._empty(study, query, keys)

    def _empty(self, study: Study, query: Any, keys: Sequence[Key]) -> None:
        """A group that an answer names neither as released nor as withheld has nobody."""
        tables: dict[tuple[Any, ...], set[tuple[str, ...]]] = {}
        for key in keys:
            names = tuple(name for name, _ in key.strata)
            places = tables.setdefault((names, key.variable, key.name), set())
            places.add((*(level for _, level in key.strata), key.level))
        for (names, variable, name), places in tables.items():
            if name not in ("persons", "category", "bin"):
                continue
            inner = [""]
            if name == "category":
                inner = list(self.levels[variable])
            elif name == "bin":
                inner = [str(i) for i in range(len(query.edges) - 1)]
            levels = [self._levels(study, stratum) for stratum in names]
            for place in set(itertools.product(*levels, inner)) - places:
                strata = [self._stratum(study, n, v) for n, v in zip(names, place, strict=False)]
                key = Key((), variable, place[-1], name)
                for _, of in self._counts(query, key, Count(0)):
                    self._add(Known((*strata, *of), 0))

    def _levels(self, study: Study, name: str) -> list[str]:
        definition = study.strata.get(name)
        if definition is None:
            return list(self.levels[name])
        return [*Stratum(name, definition.feature, definition.breaks).levels(), MISSING]

    def _asked(self, study: Study, query: Any) -> None:
        """Dimensions and edges stand in the question, whatever the answer is."""
        for name in query.by:
            definition = study.strata.get(name)
            self.dimensions.add(definition.feature if definition else name)
            if definition:
                self._cut(definition.feature, definition.breaks)
        for name in query.features:
            self.dimensions.add(name)
            self._cut(name, getattr(query, "edges", None) or ())

    def _stratum(self, study: Study, name: str, level: str) -> Condition:
        definition = study.strata.get(name)
        if definition is None:
            return name, (level,)
        breaks = definition.breaks
        if level == MISSING:
            return definition.feature, (MISSING, (-math.inf, breaks[0]))
        low = float(level.split()[0])
        high = next((b for b in breaks if b > low), math.inf)
        return definition.feature, ((low, high),)

    def _counts(
        self, query: Any, key: Any, value: Any
    ) -> Iterator[tuple[int, tuple[Condition, ...]]]:
        name = key.variable
        anything: Condition = (name, ((-math.inf, math.inf),))
        if isinstance(value, IntervalCounts):
            first, step = self.grid[name]
            for low, high, persons in value.intervals:
                ends = first + low * step, first + high * step
                yield persons, ((name, (ends,)),)
            yield value.n, (anything,)
        elif isinstance(value, Moments):
            yield value.n, (anything,)
        elif key.name == "missing":
            yield value.persons, ((name, (MISSING,)),)
        elif key.name == "bin":
            i = int(key.level)
            yield value.persons, ((name, ((query.edges[i], query.edges[i + 1]),)),)
        elif key.name == "category":
            yield value.persons, ((name, (key.level,)),)
        elif isinstance(value, Count):
            yield value.persons, ((anything,) if name in self.grid else ())

    def _add(self, known: Known) -> None:
        self.known.append(known)
        for name, levels in known.of:
            for level in levels:
                if not isinstance(level, str):
                    self._cut(name, level)

    def _cut(self, name: str, edges: Iterable[float]) -> None:
        self.cuts.setdefault(name, set()).update(e for e in edges if math.isfinite(e))

    def divided(self) -> dict[str, list[Level]]:
        """The levels of each dimension that was asked for, numbers cut at every edge."""
        found: dict[str, list[Level]] = {}
        for name in sorted(self.dimensions):
            if name in self.levels:
                found[name] = list(self.levels[name])
            else:
                ends = [-math.inf, *sorted(self.cuts.get(name, ())), math.inf]
                found[name] = [MISSING, *itertools.pairwise(ends)]
        return found


class Programme:
    """The released counts as equations over atoms."""

    def __init__(self, levels: Levels, known: Sequence[Known]) -> None:
        self.levels = levels
        self.shape = tuple(len(of) for of in levels.values())
        told = {k.of: k for k in known}
        self.rows = [self.row(k.of) for k in told.values()]
        self.right = np.array([float(k.persons) for k in told.values()])

    def row(self, of: Iterable[Condition]) -> csr_matrix:
        """1 for each atom whose persons meet all conditions. Shape: [1, atoms]."""
        mask = np.ones(self.shape, dtype=bool)
        names = list(self.levels)
        for name, allowed in of:
            meets = np.array([_within(level, allowed) for level in self.levels[name]])
            place = [1] * len(self.shape)
            place[names.index(name)] = -1
            mask = mask & meets.reshape(place)
        return csr_matrix(mask.ravel()[None, :].astype(float))

    def solved(self, cost: Numbers) -> tuple[float, Numbers]:
        """The least of cost · persons over all tables with the released counts, and a table."""
        found = linprog(
            cost,
            A_eq=vstack(self.rows) if self.rows else None,
            b_eq=self.right if self.rows else None,
            method="highs",
        )
        assert found.status in (0, 3), found.message
        return (float(found.fun), found.x) if found.status == 0 else (-math.inf, cost)

    def pinned(
        self, groups: Sequence[tuple[Condition, ...]], k: int
    ) -> tuple[tuple[Condition, ...], Interval] | None:
        """A group of which it is certain that it holds 1 to k - 1 persons, with its bounds.

        A table where a group has nobody clears it; one table mostly clears many groups at once.
        """
        left = {group: self.row(group) for group in groups}
        while left:
            found = self.solved(np.asarray(sum(left.values()).todense()).ravel())
            kept = {g: row for g, row in left.items() if (row @ found[1])[0] > 1e-6}
            if len(kept) == len(left):
                break
            left = kept
        for group in left:
            low, high = self.interval(group)
            if low > 1e-6 and high < k - 1e-6:  # persons are whole
                return group, (low, high)
        return None

    def interval(self, group: tuple[Condition, ...]) -> Interval:
        """The fewest and the most persons that a group can be of."""
        cost = np.asarray(self.row(group).todense()).ravel()
        return self.solved(cost)[0], -self.solved(-cost)[0]


def _within(level: Level, allowed: Sequence[Level]) -> bool:
    if isinstance(level, str):
        return level in allowed
    return any(not isinstance(a, str) and a[0] <= level[0] and level[1] <= a[1] for a in allowed)
