"""The vocabulary that synthetic data need: the catalogue's concepts, their units and ancestors.

Ids and names come from the feature catalogue, whose entries name their sources; nothing else of
the OHDSI vocabularies is held here. `concept_code` repeats the id: codes are not needed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import federated_analytics

_DOMAINS = {
    "person": ("Gender", "Gender", "Gender"),
    "measurement": ("Measurement", "LOINC", "Lab Test"),
    "condition": ("Condition", "SNOMED", "Disorder"),
    "drug": ("Drug", "RxNorm", "Ingredient"),
    "procedure": ("Procedure", "SNOMED", "Procedure"),
    "observation": ("Observation", "SNOMED", "Clinical Finding"),
    "visit": ("Visit", "Visit", "Visit"),
}
_CLINICAL_DRUG = ("Drug", "RxNorm", "Clinical Drug")
_OTHERS = (
    (0, "No matching concept", ("Metadata", "None", "Undefined")),
    (8507, "MALE", ("Gender", "Gender", "Gender")),
    (8532, "FEMALE", ("Gender", "Gender", "Gender")),
    (8527, "White", ("Race", "Race", "Race")),
    (8516, "Black or African American", ("Race", "Race", "Race")),
    (8515, "Asian", ("Race", "Race", "Race")),
    (8552, "Unknown", ("Race", "Race", "Race")),
    (38003563, "Hispanic or Latino", ("Ethnicity", "Ethnicity", "Ethnicity")),
    (38003564, "Not Hispanic or Latino", ("Ethnicity", "Ethnicity", "Ethnicity")),
    (32817, "EHR", ("Type Concept", "Type Concept", "Type Concept")),
    (4298794, "Smoker", ("Observation", "SNOMED", "Clinical Finding")),
    (4310250, "Ex-smoker", ("Observation", "SNOMED", "Clinical Finding")),
    (4144272, "Never smoked tobacco", ("Observation", "SNOMED", "Clinical Finding")),
)
# Ancestors among the catalogue's own concepts, beside `example_descendants`.
_PARENTS = ((316866, 320128), (201820, 201254))
_SINCE, _UNTIL = "1970-01-01", "2099-12-31"


@dataclass(frozen=True)
class Vocabulary:
    """Rows for the vocabulary tables.

    Args:
        concepts: id to (name, domain, vocabulary, class).
        parents: pairs (ancestor, descendant), one level apart.
    """

    concepts: Mapping[int, tuple[str, str, str, str]]
    parents: Sequence[tuple[int, int]]

    def rows(self) -> Iterator[tuple[str, Sequence[str], list[tuple[Any, ...]]]]:
        """Each table's name, columns and rows."""
        yield "concept", _CONCEPT, [_concept(i, *c) for i, c in sorted(self.concepts.items())]
        yield "concept_ancestor", _ANCESTOR, sorted(ancestry(self.concepts, self.parents))
        yield "concept_relationship", _RELATIONSHIP, sorted(self._relationships())
        vocabularies = sorted({vocabulary for _, _, vocabulary, _ in self.concepts.values()})
        yield "vocabulary", _VOCABULARY, [(v, v, "catalogue", "partial", 0) for v in vocabularies]
        domains = sorted({domain for _, domain, _, _ in self.concepts.values()})
        yield (
            "domain",
            ("domain_id", "domain_name", "domain_concept_id"),
            [(domain, domain, 0) for domain in domains],
        )

    def _relationships(self) -> Iterator[tuple[Any, ...]]:
        for above, below in self.parents:
            yield below, above, "Is a", _SINCE, _UNTIL
            yield above, below, "Subsumes", _SINCE, _UNTIL
        for concept in self.concepts:
            yield concept, concept, "Maps to", _SINCE, _UNTIL


_CONCEPT = (
    "concept_id",
    "concept_name",
    "domain_id",
    "vocabulary_id",
    "concept_class_id",
    "standard_concept",
    "concept_code",
    "valid_start_date",
    "valid_end_date",
)
_ANCESTOR = (
    "ancestor_concept_id",
    "descendant_concept_id",
    "min_levels_of_separation",
    "max_levels_of_separation",
)
_RELATIONSHIP = (
    "concept_id_1",
    "concept_id_2",
    "relationship_id",
    "valid_start_date",
    "valid_end_date",
)
_VOCABULARY = (
    "vocabulary_id",
    "vocabulary_name",
    "vocabulary_reference",
    "vocabulary_version",
    "vocabulary_concept_id",
)


def _concept(concept_id: int, name: str, *place: str) -> tuple[Any, ...]:
    return (concept_id, name[:255], *place, "S", str(concept_id), _SINCE, _UNTIL)


def ancestry(
    concepts: Iterable[int], parents: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, int, int, int]]:
    """The reflexive transitive closure with the fewest and the most levels between."""
    above: dict[int, list[int]] = {}
    for parent, child in parents:
        above.setdefault(child, []).append(parent)
    for concept in concepts:
        levels = {concept: (0, 0)}
        waiting = [(concept, 0)]
        while waiting:
            current, level = waiting.pop()
            for parent in above.get(current, ()):
                low, high = levels.get(parent, (level + 1, level + 1))
                levels[parent] = (min(low, level + 1), max(high, level + 1))
                waiting.append((parent, level + 1))
        for ancestor, (low, high) in levels.items():
            yield ancestor, concept, low, high


@cache
def catalogue_entries() -> Mapping[str, Mapping[str, Any]]:
    """The entries of omop/catalogue.toml by feature name, as they stand there."""
    path = Path(federated_analytics.__file__).parent / "omop" / "catalogue.toml"
    with path.open("rb") as file:
        return {entry["name"]: entry for entry in tomllib.load(file)["feature"]}


def concept_ids(feature: str) -> list[int]:
    """The concepts of a feature, in the catalogue's order."""
    return [concept["id"] for concept in catalogue_entries()[feature]["concepts"]]


def descendant_ids(concept: int) -> list[int]:
    """The example descendants of a concept that the catalogue names."""
    return [below for above, below in vocabulary().parents if above == concept]


@cache
def vocabulary() -> Vocabulary:
    """All concepts of the catalogue, their units and what every CDM needs."""
    concepts: dict[int, tuple[str, str, str, str]] = {}
    parents: set[tuple[int, int]] = set(_PARENTS)
    for concept_id, name, place in _OTHERS:
        concepts[concept_id] = (name, *place)
    for entry in catalogue_entries().values():
        if entry["domain"] not in _DOMAINS:
            continue
        place = _DOMAINS[entry["domain"]]
        for unit in [entry, *entry.get("units", [])]:
            if "unit_concept_id" in unit:
                concepts[unit["unit_concept_id"]] = (unit["unit"], "Unit", "UCUM", "Unit")
        for concept in entry.get("concepts", []):
            concepts.setdefault(concept["id"], (concept["name"], *place))
        below = _CLINICAL_DRUG if entry["domain"] == "drug" else place
        for concept in entry.get("example_descendants", []):
            concepts.setdefault(concept["id"], (concept["name"], *below))
            parents.update((above, concept["id"]) for above in _above(entry, concept["name"]))
    return Vocabulary(concepts, sorted(parents))


def _above(entry: Mapping[str, Any], name: str) -> list[int]:
    """The concept of an entry that an example descendant belongs to.

    A drug product belongs to the ingredient that its name holds; a disorder to the first concept.
    """
    if entry["domain"] != "drug":
        return [entry["concepts"][0]["id"]]
    return [c["id"] for c in entry["concepts"] if c["name"].lower() in name.lower()]
