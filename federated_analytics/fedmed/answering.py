"""One request for fragments: evidence, the policy's rules over it, and answers with labels."""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.extremes import Extremes
from federated_analytics.aggregates.table import Key, Strata
from federated_analytics.errors import (
    FederatedAnalyticsError,
    RequestRefused,
    did_you_mean,
)
from federated_analytics.fedmed import own_operations
from federated_analytics.fedmed.changes import Asked
from federated_analytics.fedmed.counted import Counts
from federated_analytics.fedmed.evaluate import Evaluation
from federated_analytics.fedmed.expression import (
    Apply,
    Column,
    Filter,
    walk,
)
from federated_analytics.fedmed.fragments import Fragment
from federated_analytics.fedmed.guards import Guard, Parts
from federated_analytics.fedmed.protocol import Ask, Asks
from federated_analytics.fedmed.reduce import (
    MISSING,
    Table,
    UnknownOperation,
    described,
    reduced,
)
from federated_analytics.fedmed.rows import OtherRows
from federated_analytics.fedmed.schema import kind_of
from federated_analytics.fedmed.sql.parts import TableParts
from federated_analytics.fedmed.sql.reduce import described as described_in_table
from federated_analytics.fedmed.sql.reduce import reduced as reduced_in_table
from federated_analytics.fedmed.sql.rows import SqlEvaluation, saturated
from federated_analytics.fedmed.sql.table import Snapshot
from federated_analytics.messages import Answer, Refusal
from federated_analytics.privacy.draft import Draft, Evidence
from federated_analytics.privacy.policy import Policy

if TYPE_CHECKING:
    from federated_analytics.fedmed.fragment_site import FragmentSite
    from federated_analytics.privacy.count_relations import CountedSet


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
        called = [ask.op for ask in asks.asks]
        config = self.site.config
        asks = Asks(tuple(_named(ask, config.operation(ask.op)) for ask in asks.asks))
        with self.site.one_at_a_time() if not self.site.config.is_off else contextlib.nullcontext():
            evidence = [self._evidence(i, ask) for i, ask in enumerate(asks.asks)]
            past = {e.population: self._counted_before(e.population) for e in evidence}
            drafts = self.policy.drafts(evidence, past)
            self._keep(drafts, past)
        drafts = [
            self._changed(draft, asks.asks[i], called[i])
            for draft in drafts
            for i in [draft.evidence.analysis]
        ]
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
        if rows is not None and not rows.there:
            return None
        return fragment.kinds.get(column.path)

    def _evidence(self, position: int, ask: Ask) -> Evidence:
        """What an ask finds, or why it is refused; both stay here until the policy has seen it."""
        refusal = None
        try:
            found, similar = self._found(ask)
        except FederatedAnalyticsError as error:
            found, similar, refusal = {}, frozenset[Strata](), as_refusal(error)
        texts = {str(e) for e in (*ask.rows, *ask.by)} | {ask.op, MISSING, ""}
        texts |= {key.variable for key in found}
        return Evidence(
            position,
            self._place(ask.fragment),
            found,
            {},
            frozenset(texts),
            refusal,
            counted=Counts(ask, found),
            partial=frozenset(),
            similar=similar,
        )

    def _found(self, ask: Ask) -> tuple[Table, frozenset[Strata]]:
        """The cells of an ask, and groups of which nothing is told (R5)."""
        config = self.site.config
        if ask.fragment not in self.snapshot:
            names = self.site.names
            raise UnknownFragment(
                f"There is no fragment {ask.fragment[:100]!r}.",
                remedy=did_you_mean(ask.fragment, names),
            )
        fragment = self.snapshot[ask.fragment][0]
        if ask.op == "describe":
            told = described_in_table if isinstance(fragment, Snapshot) else described
            return told(fragment), frozenset()  # type: ignore[arg-type]
        ask = _countable(ask, fragment)
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
        guard.look_together(ask.rows, operands)
        for held in config.ranges:
            operands = tuple(
                replace(rows, values=held.held(rows.values), kept={})
                if rows.kind == "number"
                else rows
                for rows in operands
            )
        if owner is not None:
            return own_operations.table(owner, ask, operands), frozenset()
        cells = self._let_out(ask, reduced(ask, operands, by, exact=self._is_exact(ask)))
        return cells, guard.similar(ask.by, by)

    def _is_exact(self, ask: Ask) -> bool:
        """Whether smallest and largest values are themselves."""
        return self.policy.min_count <= 1 or ask.op in self.site.config.exact

    def _let_out(self, ask: Ask, found: Table) -> Table:
        """The one end that the owner lets leave; who stands behind it is counted still."""
        if self.policy.min_count <= 1 or ask.op not in self.site.config.exact:
            return found
        return {
            key: value.end(largest=ask.op == "max") if isinstance(value, Extremes) else value
            for key, value in found.items()
        }

    def _of_table(self, ask: Ask, snapshot: Snapshot) -> tuple[Table, frozenset[Strata]]:
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
        guard.look_together(ask.rows, operands)
        for held in self.site.config.ranges:
            operands = tuple(saturated(relation, rows, held) for rows in operands)
        found = reduced_in_table(ask, snapshot, relation, operands, by, self._is_exact(ask))
        return self._let_out(ask, found), guard.similar(ask.by, by)

    def _check_rows(self, ask: Ask) -> None:
        config, nodes = self.site.config, 0
        for expression in (*ask.rows, *ask.by):
            for node in walk(expression):
                if isinstance(node, Apply):
                    nodes += 1
                    if config.owner_rows(node.name) is None:
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
        return self.site.config.owner_rows(name)

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
        compared = self.site.compared(name)
        if self.policy.min_count > 1:
            compared.persons([parts.everybody], name)
        k, share = self.policy.min_count, self.policy.dominance
        return Guard(k, share, parts, compared.persons, compared.groups)

    def _counted_before(self, place: str) -> Sequence[CountedSet]:
        return [] if self.site.ledger is None else self.site.ledger.counts(place)

    def _keep(self, drafts: Sequence[Draft], past: Mapping[str, Sequence[CountedSet]]) -> None:
        """What was counted, for the requests after this one (R2)."""
        from federated_analytics.privacy.complementary_cells import counted_sets

        if self.site.ledger is None or not self.policy.complementary:
            return
        for (place, whole), counts in counted_sets(drafts).items():
            known = {(count.of, count.released) for count in past.get(place, ())}
            new = [c for c in counts if not {(c.of, c.released), (c.of, True)} & known]
            if new and not whole:
                self.site.ledger.keep_counts(place, new)

    def _changed(self, draft: Draft, ask: Ask, called: str) -> Draft:
        """The owner's own noise, ranges and coarsening, after the rules, in their order."""
        changes, secret = self.site.config.changes, self.site.secret
        if not changes:
            return draft
        question = Asks((ask,)).to_json() + self._place(ask.fragment)
        cells: dict[Key, Aggregate] = {}
        for key, value in draft.cells.items():
            seed = hmac.digest(secret, f"{question}/{key}".encode(), "sha256")
            asked = Asked(ask.fragment, key.name, called, seed, secret)
            for position, change in enumerate(changes):
                value = change.applied(value, asked.entry(position))
            cells[key] = value
        return Draft(draft.evidence, cells, draft.withheld)


def _named(ask: Ask, op: str) -> Ask:
    return ask if ask.op == op else replace(ask, op=op)


def _countable(ask: Ask, fragment: Fragment | Snapshot) -> Ask:
    """A whole table is counted by its first column, where all are of one length."""
    if ask.op != "len" or ask.rows != (Column(),) or () in fragment.kinds or not fragment.kinds:
        return ask
    if isinstance(fragment, Fragment) and len({*map(len, fragment.columns.values())}) > 1:
        raise OtherRows(
            "The columns are of different lengths.", remedy="Count one: data['x'].len()."
        )
    return replace(ask, rows=(Column(next(iter(fragment.kinds))),))


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
    for key in draft.evidence.table:
        if key.name == MISSING:
            if key in draft.withheld:
                return f"fewer than {policy.min_count}, or not told"
            told = draft.cells[key]
            assert isinstance(told, Count)
            total += told.persons
    return str(total)


def as_refusal(error: FederatedAnalyticsError) -> Refusal:
    return Refusal(error.code, error.where[:200], error.message[:300], error.remedy[:300])
