"""One request for fragments: evidence, the policy's rules over it, and answers with labels."""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.person_set import ANY_VALUE, PersonSet
from federated_analytics.aggregates.person_set import MISSING as NO_VALUE
from federated_analytics.aggregates.table import Key
from federated_analytics.errors import (
    FederatedAnalyticsError,
    RequestRefused,
    TooSimilar,
    did_you_mean,
)
from federated_analytics.fedmed.evaluate import Evaluation, OtherRows, Rows
from federated_analytics.fedmed.expression import Apply, Column, Expression, Filter, walk
from federated_analytics.fedmed.fragments import Fragment
from federated_analytics.fedmed.guards import Guard, Parts
from federated_analytics.fedmed.protocol import Ask, Asks
from federated_analytics.fedmed.reduce import (
    MISSING,
    REDUCTIONS,
    Table,
    UnknownOperation,
    described,
    reduced,
)
from federated_analytics.fedmed.schema import kind_of
from federated_analytics.fedmed.sql.parts import TableParts
from federated_analytics.fedmed.sql.reduce import described as described_in_table
from federated_analytics.fedmed.sql.reduce import reduced as reduced_in_table
from federated_analytics.fedmed.sql.rows import SqlEvaluation, saturated
from federated_analytics.fedmed.sql.table import Snapshot
from federated_analytics.messages import Answer, Refusal
from federated_analytics.privacy.draft import Draft, Evidence
from federated_analytics.privacy.overlap import Answered, too_similar
from federated_analytics.privacy.person_bitmap import PersonBitmap
from federated_analytics.privacy.policy import Policy

if TYPE_CHECKING:
    from federated_analytics.fedmed.fragment_site import FragmentSite

_ALL = frozenset({"rows"})
"""Every ask tells of the same persons; which columns it is of makes no difference to R5."""


class UnknownFragment(RequestRefused):
    """A fragment that the server does not have."""

    code = "unknown_fragment"


class TooComplex(RequestRefused):
    """An expression of more operations than the owner allows."""

    code = "too_complex"


@dataclass
class Answering:
    """One request, on one version of each fragment."""

    site: FragmentSite
    snapshot: Mapping[str, tuple[Fragment | Snapshot, int | str]]

    @property
    def policy(self) -> Policy:
        return self.site.config.policy

    def answers(self, asks: Asks) -> tuple[Answer, ...]:
        with self.site.one_at_a_time() if not self.site.config.is_off else contextlib.nullcontext():
            evidence = [self._evidence(i, ask) for i, ask in enumerate(asks.asks)]
            past = {e.population: self._counted_before(e.population) for e in evidence}
            drafts = self.policy.drafts(evidence, past)
            self._keep(drafts)
        drafts = [self._blurred(draft, asks.asks[draft.evidence.analysis]) for draft in drafts]
        return tuple(
            self._with_kinds(
                _labelled(answer, draft, self._version(asks.asks[answer.analysis]), self.policy),
                asks.asks[answer.analysis],
            )
            for answer, draft in zip(self.policy.disclose((), drafts), drafts, strict=True)
        )

    def _with_kinds(self, answer: Answer, ask: Ask) -> Answer:
        """The answer with the kinds of its columns and of what was reduced, as a schema has them.

        The client so knows dates from numbers, and that servers of two kinds make no one number.
        """
        if answer.refusal is not None or not ask.rows:
            return answer
        kind = kind_of(ask.rows[0], lambda column: self._kind(column, ask))
        columns = ",".join(self._kind(c, ask) or "" for c in ask.columns)
        return replace(answer, labels={**answer.labels, "kind": kind or "", "columns": columns})

    def _kind(self, column: Column, ask: Ask) -> str | None:
        """A column's kind; None of one in memory without any value, which fits every kind."""
        fragment = self.snapshot[column.fragment or ask.fragment][0]
        rows = fragment.kept.get(column.path) if isinstance(fragment, Fragment) else None
        if rows is not None and not rows.present.any():
            return None
        return fragment.kinds.get(column.path)

    def _evidence(self, position: int, ask: Ask) -> Evidence:
        """What an ask finds, or why it is refused; both stay here until the policy has seen it."""
        try:
            found = self._found(ask)
            refusal = None
        except FederatedAnalyticsError as error:
            found, refusal = {}, as_refusal(error)
        texts = {str(e) for e in (*ask.rows, *ask.by)} | {ask.op, MISSING, ""}
        texts |= {key.variable for key in found}
        return Evidence(
            position,
            self._place(ask.fragment),
            found,
            {},
            frozenset(texts),
            refusal,
            counted=_Counts(ask),
            partial=frozenset(),
        )

    def _found(self, ask: Ask) -> Table:
        config = self.site.config
        if ask.fragment not in self.snapshot:
            names = self.site.names
            raise UnknownFragment(
                f"There is no fragment {ask.fragment[:100]!r}.",
                remedy=did_you_mean(ask.fragment, names),
            )
        fragment = self.snapshot[ask.fragment][0]
        if ask.op == "describe":
            if isinstance(fragment, Snapshot):
                return described_in_table(fragment)
            return described(fragment)
        owner = config.owner_operation(ask.op)
        if owner is None:
            config.check(ask.op)
        self._check_rows(ask)
        if isinstance(fragment, Snapshot):
            return self._of_table(ask, fragment)
        guard = self._guard(ask.fragment, fragment)
        evaluation = Evaluation(self._fragment, ask.fragment, guard.look, self._own_rows)
        operands = tuple(evaluation.rows(e) for e in ask.rows)
        by = tuple(evaluation.rows(e) for e in ask.by)
        if owner is not None:
            return self._owners(ask, owner, operands)
        saturation = config.saturation
        if saturation is not None:
            operands = tuple(
                replace(rows, values=saturation.applied(rows.values), kept={})
                if rows.kind == "number"
                else rows
                for rows in operands
            )
        return reduced(ask, operands, by, exact=self.policy.min_count <= 1)

    def _of_table(self, ask: Ask, snapshot: Snapshot) -> Table:
        """An ask of a database's table, all of it in the database."""
        if self.site.config.owner_operation(ask.op) is not None:
            raise UnknownOperation(
                f"The operation {ask.op[:60]!r} cannot be done in the database.",
                where=str(ask)[:200],
                remedy="The server's own operations are for fragments that it holds in memory.",
            )
        relation = snapshot.relation()
        parts = TableParts(snapshot, relation)
        # Values may change without a version's knowledge: a table is looked at in each request.
        guard = self._new_guard(ask.fragment, parts)
        evaluation = SqlEvaluation(relation, ask.fragment, snapshot.parses_dates, guard.look)
        operands = tuple(evaluation.rows(e) for e in ask.rows)
        by = tuple(evaluation.rows(e) for e in ask.by)
        if self.site.config.saturation is not None:
            operands = tuple(
                saturated(relation, rows, self.site.config.saturation) for rows in operands
            )
        exact = self.policy.min_count <= 1
        return reduced_in_table(ask, snapshot, relation, operands, by, exact)

    def _owners(self, ask: Ask, owner: Any, operands: tuple[Rows, ...]) -> Table:
        import pandas as pd

        series = [pd.Series(rows.values).where(rows.present) for rows in operands]
        variable = ", ".join(map(str, ask.rows))
        return {Key((), variable, "", ask.op): owner(*series, **dict(ask.params))}

    def _check_rows(self, ask: Ask) -> None:
        config, nodes = self.site.config, 0
        for expression in (*ask.rows, *ask.by):
            for node in walk(expression):
                if isinstance(node, Apply):
                    nodes += 1
                    if config.owner_operation(node.name) is None:
                        config.check_rows(node.name)
                elif isinstance(node, Filter):
                    nodes += 1
        if config.complexity_cap is not None and nodes > config.complexity_cap:
            raise TooComplex(
                f"The expression has more operations than the owner's {config.complexity_cap}.",
                where=str(ask)[:200],
                remedy="Ask for its parts one by one.",
            )

    def _own_rows(self, name: str) -> Any:
        return self.site.config.owner_operation(name)

    def _fragment(self, name: str) -> Fragment:
        if name not in self.snapshot:
            raise UnknownFragment(f"There is no fragment {name[:100]!r}.")
        found = self.snapshot[name][0]
        if isinstance(found, Snapshot):
            raise OtherRows(
                "A column of a database's table is combined with columns of the same table."
            )
        return found

    def _version(self, ask: Ask) -> str:
        return str(self.snapshot[ask.fragment][1]) if ask.fragment in self.snapshot else ""

    def _place(self, fragment: str) -> str:
        version = self.snapshot.get(fragment, (None, 0))[1]
        return f"{fragment}/{version}"

    def _guard(self, name: str, fragment: Fragment) -> Guard:
        """Of a fragment's version; the whole of it is the first set that is compared (R5)."""
        versions = tuple(sorted((n, version) for n, (_, version) in self.snapshot.items()))
        persons = self.site.persons(name, fragment)
        return self.site.guard(name, versions, lambda: self._new_guard(name, persons))

    def _new_guard(self, name: str, parts: Parts) -> Guard:
        compare = self._comparer(name)
        if self.policy.min_count > 1 and self.policy.overlap:
            compare(parts.everybody, name)
        return Guard(self.policy.min_count, self.policy.dominance, parts, compare)

    def _comparer(self, name: str) -> Callable[[PersonBitmap, str], None]:
        ledger, k = self.site.ledger, self.policy.min_count

        def compare(persons: PersonBitmap, place: str) -> None:
            if ledger is None or not self.policy.overlap:
                return
            about = frozenset({f"{name}/{variable}" for variable in _ALL})
            if too_similar(persons, about, ledger.populations(), k):
                raise TooSimilar(
                    "These rows differ from rows that were asked for before by too few persons.",
                    where=place,
                    remedy=f"Ask for rows that differ by none or by at least {k} persons.",
                )
            # One set under one name: a second under the name of the first would not be kept.
            key = f"{name}/{persons.persons}/{persons.fingerprint}"
            ledger.keep_population(Answered(persons, about, "", key))

        return compare

    def _counted_before(self, place: str) -> Sequence[Any]:
        return [] if self.site.ledger is None else self.site.ledger.counts(place)

    def _keep(self, drafts: Sequence[Draft]) -> None:
        """What was counted, for the requests after this one (R2)."""
        from federated_analytics.privacy.complementary_cells import counted_sets

        if self.site.ledger is None or not self.policy.complementary:
            return
        for (place, whole), counts in counted_sets(drafts).items():
            if not whole:
                self.site.ledger.keep_counts(place, counts)

    def _blurred(self, draft: Draft, ask: Ask) -> Draft:
        """The owner's own noise and coarsening, after the rules."""
        config = self.site.config
        if config.noise is None and config.coarsening is None:
            return draft
        asked = Asks((ask,)).to_json() + self._place(ask.fragment)
        cells: dict[Key, Aggregate] = {}
        for key, value in draft.cells.items():
            seed = hmac.digest(self.site.secret, f"{asked}/{key}".encode(), "sha256")
            blurred = value
            if config.noise is not None:
                blurred = config.noise.applied(blurred, seed, self.site.secret)
            if config.coarsening is not None:
                blurred = config.coarsening.applied(blurred)
            cells[key] = blurred
        return Draft(draft.evidence, cells, draft.withheld)


@dataclass(frozen=True)
class _Counts:
    """The persons of each count of an ask, so that R2 sees which follow from others."""

    ask: Ask

    def __call__(self, key: Key, value: Aggregate) -> Iterator[tuple[int, PersonSet]]:
        if self.ask.op == "describe" or self.ask.op not in REDUCTIONS:
            return
        rows = self.ask.rows[0]
        masks, column = _masks(rows), _below(rows)
        of = {(f"mask {mask}", "true") for mask in masks} | {
            (str(e), level) for e, (_, level) in zip(self.ask.by, key.strata, strict=True)
        }
        name = f"value {column}"
        if key.name == MISSING:
            assert isinstance(value, Count)
            yield value.persons, frozenset({*of, (name, NO_VALUE)})
        elif key.name == "len":
            assert isinstance(value, Count)
            yield value.persons, frozenset(of)
        elif key.name in ("set", "counts"):
            assert isinstance(value, Count)
            yield value.persons, frozenset({*of, (f"level {column}", key.level)})
        else:
            yield int(getattr(value, "n", 0)), frozenset({*of, (name, ANY_VALUE)})


def _masks(expression: Expression) -> list[str]:
    found = []
    while isinstance(expression, Filter):
        found.append(str(expression.mask))
        expression = expression.rows
    return found


def _below(expression: Expression) -> Expression:
    while isinstance(expression, Filter):
        expression = expression.rows
    return expression


def _labelled(answer: Answer, draft: Draft, version: str, policy: Policy) -> Answer:
    """The answer without the cells that count missing rows, which its label tells instead."""
    if answer.refusal is not None:
        return replace(answer, labels={"version": version})
    if all(key.name == MISSING for key in draft.evidence.table):  # it was asked for by itself
        return replace(answer, labels={"version": version, "missing": "0"})
    cells = tuple(cell for cell in answer.cells if cell.key.name != MISSING)
    withheld = tuple(w for w in answer.withheld if w.key.name != MISSING)
    labels = {"version": version, "missing": _missing(draft, policy)}
    return replace(answer, cells=cells, withheld=withheld, labels=labels)


def _missing(draft: Draft, policy: Policy) -> str:
    """Rows without a value, as far as the policy lets it be told."""
    total = 0
    for key, value in draft.evidence.table.items():
        if key.name == MISSING:
            if key in draft.withheld:
                return f"fewer than {policy.min_count}, or not told"
            assert isinstance(value, Count)
            total += value.persons
    return str(total)


def as_refusal(error: FederatedAnalyticsError) -> Refusal:
    return Refusal(error.code, error.where[:200], error.message[:300], error.remedy[:300])
