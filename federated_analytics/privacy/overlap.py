r"""R5: a population that differs from what was already answered by a few persons is refused.

Who subtracts one answer from another learns of the persons in which their populations differ.
A population X is too similar to what was answered where, for populations B that were,

    one       |X \ B| < k and |B \ X| < k
    union     X is B1 + … + Bm but for fewer than k persons left out, fewer than k too many
    rest      X + B1 + … + Bm is Q in the same sense, Q answered

and not all of these numbers are 0: equal sets tell nothing new. "Too many" counts a person once
for each population that holds her beyond the first, or from outside. `rest` with m = 1 is the
difference (Q minus B1) and, where X and B1 meet in a few persons who are looked for, the tracker
of Denning & Denning (1979, ACM Computing Surveys 11:227), in whatever order the three are asked.

A difference that is small on one side only (three of A are not in B, thousands of B not in A)
is let pass: it says something only together with those thousands, and then `union` or `rest`
sees it. "Everybody by sex", then "everybody but one by sex", is refused as a population,
whatever the strata.

A stratum is such a set too: women of "everybody by sex" against the population "women but one".
Of strata only `one` is looked at (`similar_strata`), and not among those of one population,
where R2 does it. A population that is too similar to a stratum is refused; a stratum that is too
similar to a population, or to another's stratum, is withheld, and R2 sees to the rest of its
table. That it was withheld for this is not told: by how many persons it differs would follow
from what R2 leaves open.

Not seen: combinations with weights other than 1 and -1, such as half of three pairwise unions;
unions on both sides (X + B1 against Q1 + Q2); unions of strata of several populations; the
persons of a category, a bin or a value that is not missing; the values of the same persons in
another state of the database. A difference of k persons or more, of whom fewer than k have a
value, is a matter of the counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from federated_analytics.privacy.neighbours import Neighbours
from federated_analytics.privacy.person_bitmap import PersonBitmap


@dataclass(frozen=True)
class Answered:
    """A set of persons about whom numbers left the site.

    Fields:
        variables: what was asked of them; see `canonical.variables`
        data_version: the state of the database at the time
        key: which population of which study; of a stratum, which population it divides
    """

    population: PersonBitmap
    variables: frozenset[str]
    data_version: str
    key: str

    def packed(self) -> Answered:
        """The same without a bitmap beside its bytes."""
        if self.population.unpacked is None:
            return self
        return replace(self, population=self.population.packed())


def too_similar(
    asked: PersonBitmap, variables: frozenset[str], past: Iterable[Answered], k: int
) -> Answered | None:
    """An answered population from which, with others, `asked` differs by fewer than k persons.

    Args:
        past: read once. Those of an earlier state of the database are compared like any other,
            and a study's first populations stand among the past of its later ones.
        k: the policy's min_count. Sets of fewer persons are passed over: R1 releases nothing
            of them.

    None where there is none. Each population is decompressed by itself; what is kept of `past`
    is compressed.
    """
    if asked.persons < k:
        return None
    near = Neighbours[Answered](asked, k)
    for answer in past:
        if variables & answer.variables and near.meets(answer.population, answer.packed()):
            return answer
    return near.combined()


def similar_strata(
    asked: Iterable[PersonBitmap], variables: frozenset[str], past: Iterable[Answered], k: int
) -> set[PersonBitmap]:
    """Those of `asked` that are too similar to one of `past`: one against one, as `too_similar`.

    Args:
        past: populations and strata other than those of the same population: what follows from
            one table's own margins is a matter of R2. Only those of about the size of one that
            is asked cost anything (`sizes_near`).
    """
    by_size: dict[int, list[tuple[PersonBitmap, Any]]] = {}
    for one in asked:
        by_size.setdefault(one.persons, []).append((one, one.bitmap()))
    found: set[PersonBitmap] = set()
    for answer in past:
        size = answer.population.persons
        if size < k or not variables & answer.variables:
            continue
        beside = [
            pair for n in range(max(k, size - k + 1), size + k) for pair in by_size.get(n, ())
        ]
        theirs = answer.population.bitmap() if beside else None
        for one, mine in beside:
            common = mine.intersection_cardinality(theirs)
            differ = one.persons - common, size - common
            if max(differ) < k and any(differ):
                found.add(one)
    return found


def sizes_near(asked: Iterable[PersonBitmap], k: int) -> set[int]:
    """How many persons a set can have that is too similar to one of these."""
    sizes = {one.persons for one in asked if one.persons >= k}
    return {near for size in sizes for near in range(max(k, size - k + 1), size + k)}
