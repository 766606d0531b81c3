"""The search for the groups to withhold: each step is the cheapest that opens one more count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from federated_analytics.privacy.disclosure_bounds import TOLERANCE, ElasticTable, Moves
from federated_analytics.privacy.suppression_pattern import Pattern, Proofs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Columns = NDArray[np.int64]
    Numbers = NDArray[np.float64]

MOST_ITERATIONS = 6_000
"""Steps of the simplex method spent on withholding fewer groups than the search has found."""

FEW = 4
"""So many sums or sets are worth a linear programme for all of them together."""

ROUNDS = 12
"""Linear programmes for all of them together, before one for each that is left."""


class Search:
    """Withholds groups until every withheld sum and every hidden set is open, then fewer again.

    What is open is proved by moves: tables that the attacker cannot tell from the true one.
    """

    def __init__(self, pattern: Pattern, table: ElasticTable, hidden: Sequence[Columns]) -> None:
        self._pattern, self._table, self._hidden = pattern, table, hidden
        self._proofs = Proofs(pattern)
        self._first = frozenset(pattern.withheld)

    def run(self) -> bool:
        """Withholds in `pattern` what has to be; False where no proof was found."""
        found = self._open_all(rigid=False)
        while found == "more":
            found = self._open_all(rigid=False)
        if found == "open":
            self._release_spare()
        return found == "open"

    def _open_all(self, *, rigid: bool) -> Literal["more", "open", "closed"]:
        """Opens everything that is not.

        Returns "more" when groups were withheld for that, which are to be opened in turn,
        "closed" when it cannot be done, "open" when everything is.
        """
        before = len(self._pattern.withheld)
        for step in (self._open_small, self._open_wide, self._open_hidden):
            if not step(rigid):
                return "closed"
        return "more" if len(self._pattern.withheld) > before else "open"

    def _open_small(self, rigid: bool) -> bool:
        """Lets every small withheld sum be anything from 1 to width - 1, rules included."""
        proofs = self._proofs
        self._set_room(told=True, rigid=rigid)
        for i in proofs.narrow_small():
            for wanted, inwards in ((proofs.wanted_low, 1), (proofs.wanted_high, -1)):
                while not proofs.reaches(i, wanted[i]):
                    moves = self._table.move_sum(i, wanted[i] - self._pattern.persons[i])
                    if self._take([moves], told=True) is None:
                        if rigid:
                            return False
                        wanted[i] += inwards  # the rules by themselves do not leave it open
        return True

    def _open_wide(self, rigid: bool) -> bool:
        """Lets every withheld sum lie anywhere in an interval of `width`."""
        self._widen_together()
        self._set_room(told=False, rigid=rigid)
        persons = self._pattern.persons
        for i in self._proofs.narrow():
            while (missing := self._proofs.missing_width(i)) > TOLERANCE:
                low, high = self._proofs.low[False][i], self._proofs.high[False][i]
                ways = [high + missing, low - missing] if low >= missing else [high + missing]
                found = [self._table.move_sum(i, to - persons[i]) for to in ways]
                if self._take(found, told=False) is None:
                    return False
        return True

    def _open_hidden(self, rigid: bool) -> bool:
        """Lets every hidden set be empty, or of `width` persons."""
        self._empty_together()
        self._set_room(told=False, rigid=rigid)
        for i, columns in enumerate(self._hidden):
            if i in self._proofs.hidden:
                continue
            n = self._table.persons_in(columns)
            found = [self._table.move_columns(columns, -n)]
            if found[0] is None or self._pattern.price_of(found[0]) > 0:
                found.append(self._table.move_columns(columns, self._pattern.width - n))
            best = self._take(found, told=False)
            if best is None:
                return False
            self._proofs.hidden[i] = best
        return True

    def _widen_together(self) -> None:
        """Finds tables in which many withheld sums are larger, or smaller, without any price."""
        import numpy as np

        self._set_room(told=False, rigid=True)
        chance = np.random.default_rng(0)  # any signs will do, and the same each time
        for number in range(ROUNDS):
            narrow = self._proofs.narrow()
            if len(narrow) < FEW:
                return
            weights = np.zeros(len(self._pattern.persons))
            weights[narrow] = chance.uniform(-1, 1, len(narrow)) if number else 1.0
            self._lean(weights, np.zeros(self._table.size))

    def _empty_together(self) -> None:
        """Finds tables in which many hidden sets are empty, without any price."""
        import numpy as np

        self._set_room(told=False, rigid=True)
        chance = np.random.default_rng(0)
        left = [i for i in range(len(self._hidden)) if i not in self._proofs.hidden]
        for _ in range(ROUNDS):
            if len(left) < FEW:
                return
            weights = np.zeros(self._table.size)
            for i, weight in zip(left, chance.uniform(0, 1, len(left)), strict=True):
                weights[self._hidden[i]] += weight
            moves = self._lean(np.zeros(len(self._pattern.persons)), weights)
            left = [i for i in left if not self._is_shown(i, moves)]

    def _lean(self, sums: Numbers, columns: Numbers) -> Moves | None:
        moves = self._table.lean(sums, columns, 2.0 * self._pattern.width)
        if moves is not None:
            self._proofs.add(moves)
        return moves

    def _is_shown(self, i: int, moves: Moves | None) -> bool:
        if moves is None:
            return False
        columns = self._hidden[i]
        n = self._table.persons_in(columns) + float(moves.columns[columns].sum())
        if TOLERANCE < n < self._pattern.width - TOLERANCE:
            return False
        self._proofs.hidden[i] = moves
        return True

    def _take(self, found: Sequence[Moves | None], *, told: bool) -> Moves | None:
        """The cheapest of some moves, with everything withheld that it takes."""
        possible = [moves for moves in found if moves is not None]
        if not possible:
            return None
        best = min(possible, key=self._pattern.price_of)
        taken = self._pattern.groups_held_by(best)
        if taken:
            self._pattern.withhold(taken)
            self._set_room(told=told, rigid=False)
        self._proofs.add(best)
        return best

    def _set_room(self, *, told: bool, rigid: bool) -> None:
        down, up = self._pattern.room(told=told, rigid=rigid)
        self._table.set_room(down, up, self._pattern.prices_now())

    def _release_spare(self) -> None:
        """Releases again, the dearest first, what the others can do without."""
        spare = sorted(
            self._pattern.withheld - self._first, key=self._pattern.persons_of, reverse=True
        )
        most = self._table.iterations + MOST_ITERATIONS
        for group in spare:
            if self._table.iterations > most:
                return
            proofs = self._proofs
            self._proofs = proofs.without(group)
            self._pattern.release(group)
            if self._open_all(rigid=True) == "closed":
                self._pattern.withhold([group])
                self._proofs = proofs
