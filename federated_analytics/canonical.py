"""R8: one form for all questions that mean the same, so that one answer is given to them.

A study is taken apart into questions: one analysis of one feature in one population, by the same
strata. What a question is called makes no difference, nor where it stands, nor in which study:

- names, titles, labels, descriptions and sources; a name stays only where it is the definition
  (the columns of `person` and of a flat table)
- the order of populations, analyses, features, strata, concepts, unit conversions; duplicates
- what is written though it is the default, or has no effect (an excluded concept among the
  included; a window where there is no index date; the unit of a yes/no feature)
- what only the report shows (`estimates`, `probabilities`, `top`), and how bins were asked for
  where the edges are the same

With the site's vocabulary (`expand`), concept sets are compared by their members, so a
descendant listed beside its ancestor, or an exclusion of what was never included, makes none
either. Two definitions that select the same persons for other reasons are two questions here;
that they give the same set is seen by R5, which compares persons.

Fields of a query keep their order unless they are declared otherwise, by
`Field(json_schema_extra={"canonical": "set"})`, or `"shown"` for what only the report needs. A
query that names one of its features in another field (an outcome) asks for all of them together
and is one question; so is one whose `features` are declared `"together"`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlalchemy as sa

    from federated_analytics.analyses.base import Query
    from federated_analytics.omop.feature import Feature
    from federated_analytics.omop.strata import Stratum
    from federated_analytics.omop.tables import Cdm
    from federated_analytics.study import Study

Expand = Callable[[frozenset[int]], frozenset[int]]
"""Concepts to themselves and everything below them, as the site's vocabulary has it."""

PERSONS = "persons"
"""The variable of every question: each answer says how many persons it is about."""

_SHOWN = frozenset({"title", "estimates", "probabilities", "top"})
_PARTS = frozenset({"kind", "populations", "features", "by"})
_NO_VALUE = ("any", "count")


@dataclass(frozen=True)
class Question:
    """One analysis of one feature (or of several together) in one population.

    Fields:
        text: canonical JSON; equal for questions that mean the same
        analysis: position in the study
        population: its name in the study
        features: as the study names them, in canonical order; empty where none is asked for
        by: strata as the study names them, in canonical order, without the site
        of: canonical names of what is asked
    """

    text: str
    analysis: int
    population: str
    features: tuple[str, ...]
    by: tuple[str, ...]
    of: frozenset[str]

    def key(self, data_version: str) -> str:
        """SHA-256 of the question put to one state of the database."""
        return _digest([self.text, data_version])


def canonical(study: Study, expand: Expand | None = None) -> str:
    """Canonical JSON of a study: equal for studies that ask the same questions."""
    texts = sorted({question.text for question in questions(study, expand)})
    return f"[{','.join(texts)}]"


def questions(study: Study, expand: Expand | None = None) -> list[Question]:
    """The questions of a study, in its order; one asked twice stands twice."""
    return [
        question
        for position, query in enumerate(study.analysis)
        for population in study.populations_of(query)
        for question in _questions(study, position, query, population, expand)
    ]


def expansion(connection: sa.Connection, cdm: Cdm) -> Expand:
    """Concepts to themselves and all below them, in one site's vocabulary; each asked once."""
    import sqlalchemy as sa

    ancestor = cdm.table("concept_ancestor")

    @cache
    def expand(concepts: frozenset[int]) -> frozenset[int]:
        if not concepts:
            return concepts
        listed = sa.any_(sa.cast(sorted(concepts), sa.ARRAY(sa.BigInteger)))
        below = sa.select(ancestor.c.descendant_concept_id).where(
            ancestor.c.ancestor_concept_id == listed
        )
        return concepts | frozenset(connection.execute(below).scalars())

    return expand


def question_key(
    study: Study, query: Query, population: Any, data_version: str, expand: Expand | None = None
) -> str:
    """SHA-256 of all that a query asks in one population of one state of the database."""
    found = _questions(study, study.analysis.index(query), query, population, expand)
    return _digest(sorted({question.key(data_version) for question in found}))


def variables(question: Question) -> frozenset[str]:
    """What the overlap rule compares: features and strata by definition, and `persons`.

    `persons` stands in all of them: two totals that differ by three tell of three persons,
    whatever else was asked.
    """
    return question.of | {PERSONS}


def feature_key(feature: Feature, *, indexed: bool = True, expand: Expand | None = None) -> str:
    """SHA-256 of a feature's definition: equal for features that are the same but in name.

    Args:
        indexed: the population has index dates; without them windows do not apply.
    """
    return _digest(_feature_form(feature, indexed, expand))


def _questions(
    study: Study, position: int, query: Query, population: Any, expand: Expand | None
) -> Iterator[Question]:
    indexed = population.has_index_date
    features = study.features_of(query, population)
    keys = {n: feature_key(f, indexed=indexed, expand=expand) for n, f in features.items()}
    strata = sorted(
        (json.dumps(_stratum_form(s, keys)), s) for s in study.strata_of(query, population)
    )
    by = tuple(stratum.name for _, stratum in strata)
    of_strata = frozenset(keys.get(s.feature, s.name) for _, s in strata)
    where = _population_form(population, expand)
    for names in _asked_together(query):
        named = sorted(names, key=keys.__getitem__)
        form = {
            "kind": query.kind,
            "population": where,
            "features": [keys[name] for name in named],
            "by": [text for text, _ in strata],
            "fields": _fields_form(query, {n: keys[n] for n in named}, features),
        }
        asked = frozenset(keys[n] for n in named) or frozenset({query.kind})
        yield Question(_json(form), position, population.name, tuple(named), by, asked | of_strata)


def _asked_together(query: Query) -> list[tuple[str, ...]]:
    """The query's features as they are asked: each by itself, or all together."""
    names = tuple(dict.fromkeys(query.features))
    others = {n: getattr(query, n) for n in _own_fields(query)}
    joint = _declared(query, "features") == "together" or not set(names).isdisjoint(_texts(others))
    return [names] if joint or not names else [(name,) for name in names]


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value, keys of tables included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner)
            yield str(name)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _own_fields(query: Query) -> list[str]:
    """The fields of the query's own kind that say what is asked."""
    return [
        name
        for name in type(query).model_fields
        if name not in _PARTS | _SHOWN and _declared(query, name) != "shown"
    ]


def _declared(query: Query, name: str) -> str:
    extra = type(query).model_fields[name].json_schema_extra
    return str(extra.get("canonical", "")) if isinstance(extra, dict) else ""


def _fields_form(
    query: Query, keys: Mapping[str, str], features: Mapping[str, Feature]
) -> dict[str, Any]:
    names = _own_fields(query)
    form = query.model_dump(mode="json", include=set(names), exclude_defaults=True)
    for name in names:
        if name in form and _declared(query, name) == "set":
            form[name] = sorted({_json(item) for item in form[name]})
    edges_of = getattr(query, "edges_of", None)
    if callable(edges_of) and len(keys) == 1:
        form = {n: v for n, v in form.items() if n not in ("bins", "edges")}
        form["edges"] = [edge + 0.0 for edge in edges_of(features[next(iter(keys))])]
    renamed = _renamed(form, keys)
    assert isinstance(renamed, dict)
    return renamed


def _renamed(value: Any, keys: Mapping[str, str]) -> Any:
    """The value with features called by their definitions."""
    if isinstance(value, str):
        return keys.get(value, value)
    if isinstance(value, dict):
        return {keys.get(name, name): _renamed(inner, keys) for name, inner in value.items()}
    return [_renamed(inner, keys) for inner in value] if isinstance(value, list) else value


def _stratum_form(stratum: Stratum, keys: Mapping[str, str]) -> list[Any]:
    what = keys[stratum.feature] if stratum.feature else stratum.name
    return [what, [edge + 0.0 for edge in stratum.breaks]]


def _population_form(population: Any, expand: Expand | None) -> dict[str, Any]:
    form: dict[str, Any] = population.model_dump(mode="json", exclude={"name"}, exclude_none=True)
    if population.kind == "atlas":
        from federated_analytics.omop.atlas_definition import read_definition

        del form["file"]
        form["definition"] = read_definition(population.definition).expression
    if "concepts" in form:
        exclude, descendants = form.pop("exclude"), form.pop("descendants")
        form["concepts"] = _concepts_form(form["concepts"], exclude, descendants, expand)
    return form


def _concepts_form(
    concepts: Iterable[int], exclude: Iterable[int], descendants: bool, expand: Expand | None
) -> dict[str, Any]:
    # A concept that is taken out again takes all below it along, as it had brought it in.
    taken_out = frozenset(exclude)
    kept = frozenset(concepts) - taken_out
    if descendants and expand is not None:
        kept, taken_out, descendants = expand(kept) - expand(taken_out), frozenset(), False
    relevant = taken_out if descendants and kept else frozenset()
    # Nothing is below nothing: how an empty set would be expanded makes no difference.
    return {
        "concepts": sorted(kept),
        "exclude": sorted(relevant),
        "descendants": descendants and bool(kept),
    }


def _feature_form(feature: Feature, indexed: bool, expand: Expand | None) -> dict[str, Any]:
    form: dict[str, Any] = {"domain": feature.domain, "type": feature.type}
    if feature.type == "numeric":
        ends = {name: getattr(feature, name) for name in ("range", "histogram")}
        form |= {n: [end + 0.0 for end in v] if v else None for n, v in ends.items()}
        form["step"] = feature.step
    if feature.domain == "person":
        return form | {"name": feature.name}
    if indexed:
        form["window"] = feature.window
    if feature.domain == "death":
        return form
    ids = [concept.id for concept in feature.concepts]
    form["concepts"] = _concepts_form(ids, (), feature.descendants, expand)
    form["aggregation"] = feature.aggregation
    if feature.aggregation not in _NO_VALUE:
        form["unit"] = feature.unit_concept_id
        form["units"] = sorted([u.unit_concept_id, u.factor, u.offset + 0.0] for u in feature.units)
    return form


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(value: Any) -> str:
    return hashlib.sha256(_json(value).encode()).hexdigest()
