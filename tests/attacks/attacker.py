"""What every attacker has: studies to send, releases to read, and a linear programme."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linprog

from federated_analytics import wire
from federated_analytics.messages import Disclosure, Request
from federated_analytics.omop.database import database_url
from federated_analytics.omop.tables import Cdm
from federated_analytics.privacy.policy import Policy
from federated_analytics.site import Site
from federated_analytics.study import Study

HEAD = '[study]\nname = "x"\n[population]\nkind = "table"\ntable = "{table}"\n'
K = 5
Place = tuple[tuple[tuple[str, str], ...], str, str, str]


@dataclass(frozen=True)
class Attempt:
    """One attack's outcome: what was hidden, and the best estimates with the rule and without."""

    name: str
    planted: str
    rule_on: str
    rule_off: str


ATTEMPTS: list[Attempt] = []


def told(name: str, planted: Any, on: Any, off: Any) -> None:
    """Keep an attack's outcome for the table that is printed at the end."""
    ATTEMPTS.append(Attempt(name, str(planted), str(on), str(off)))


def site(url: str, schema: str, **policy: Any) -> Site:
    return Site(database_url(url), Policy(**policy), Cdm(schema), name="a")


def ask(asked: Site, text: str) -> Disclosure:
    body = wire.encode_request(Request(Study.parse(text).to_json(), 1, "run", 60.0))
    return wire.decode_release(asked.answer(body))


def cells(disclosure: Disclosure, analysis: int = 0) -> dict[Place, Any]:
    """The released aggregates of an analysis by (strata, variable, level, name)."""
    return {
        (c.key.strata, c.key.variable, c.key.level, c.key.name): c.value
        for answer in disclosure.answers
        if answer.analysis == analysis
        for c in answer.cells
    }


def persons(disclosure: Disclosure, analysis: int = 0) -> dict[tuple[tuple[str, str], ...], int]:
    """The released sizes of groups, by strata."""
    return {
        strata: value.persons
        for (strata, variable, _, _), value in cells(disclosure, analysis).items()
        if variable == "persons"
    }


def bounds(
    levels: Mapping[str, Sequence[str]],
    released: Mapping[tuple[tuple[str, str], ...], int],
    wanted: Iterable[tuple[tuple[str, str], ...]],
) -> dict[tuple[tuple[str, str], ...], tuple[float, float]]:
    """The least and the most that groups can be, given all that was released.

    Args:
        levels: of each stratum; the unknown are the combinations of all of them.
        released: groups by (stratum, level) pairs, with their persons.
    """
    atoms = list(itertools.product(*levels.values()))
    names = list(levels)

    def row(group: tuple[tuple[str, str], ...]) -> list[float]:
        of = dict(group)
        return [
            float(all(of.get(n, v) == v for n, v in zip(names, atom, strict=True)))
            for atom in atoms
        ]

    equal = np.array([row(group) for group in released] or np.zeros((0, len(atoms))))
    right = np.array([float(n) for n in released.values()])
    found = {}
    for group in wanted:
        ends = []
        for sign in (1.0, -1.0):
            cost = sign * np.array(row(group))
            solved = linprog(
                cost,
                A_eq=equal if len(equal) else None,
                b_eq=right if len(equal) else None,
                method="highs",
            )
            ends.append(sign * solved.fun if solved.status == 0 else sign * -np.inf)
        found[group] = (ends[0], ends[1])
    return found


def pinned(interval: tuple[float, float], k: int = K) -> bool:
    """Whether a count is known to be of 1 to k - 1 persons."""
    return interval[0] > 1e-6 and interval[1] < k - 1e-6
