"""Cohort definitions that somebody else wrote: what reaches the SQL, and what is refused."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from federated_analytics.errors import CohortError, ConfigError, MissingExtra
from federated_analytics.omop.atlas_definition import (
    MAX_NESTED_GROUPS,
    MAX_RULES,
    Definition,
    read_definition,
)
from tests.omop.definitions import CRITERIA, EVERYTHING, GROUP, SMALL, compiled


def _strings(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all strings in a definition."""
    if isinstance(value, str):
        yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _strings(item, (*path, key))


def _with(definition: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(definition)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


HOSTILE = [
    "'; DROP TABLE person; --",
    "x' OR '1'='1",
    "\\'; SELECT pg_sleep(9); --",
    "a -- b",
    "a /* b */",
    "@cdm_database_schema.person",
    "{1 = 1}?{SELECT 1}",
    "#Codesets",
    "a;b",
    "100%s",
    "$$x$$",
    'a"b',
    "a\nb",
    "a\x00b",
    "\u2019 x",
    "\ud800",
    "x" * 200,
]


def _outcome(definition: Any) -> Definition | str:
    try:
        return read_definition(json.dumps(definition))
    except CohortError as error:
        return str(error)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_string_of_a_definition_reaches_the_sql_unread(hostile: str) -> None:
    """Each string of a definition that has every kind of string: refused, or of no effect."""
    expected = read_definition(json.dumps(EVERYTHING)).expression
    refused = ignored = 0
    for path in _strings(EVERYTHING):
        found = _outcome(_with(EVERYTHING, path, hostile))
        if isinstance(found, Definition):
            assert found.expression == expected, path
            ignored += 1
        else:
            assert hostile not in found
            refused += 1
    assert refused > 100
    assert ignored > 20


def test_what_is_read_and_nothing_else_becomes_sql() -> None:
    """The strings that are left are all of the lists that the module documents."""
    kept = read_definition(json.dumps(EVERYTHING)).expression
    words = {path[-1] for path in _strings(kept)}
    assert words <= {
        *("Type", "Op", "Value", "Extent", "StartDate", "EndDate", "Text", "DateField"),
        *("CollapseType", "CountColumn", "StartWith", "EndWith"),
    }


@pytest.mark.parametrize("key", ["CodesetId", "CONCEPT_ID", "Days", "Count", "id", "PriorDays"])
@pytest.mark.parametrize("value", ["0) OR (1=1", "1", 1.5, 2**40, [1], {"a": 1}])
def test_ids_and_numbers_are_numbers(key: str, value: Any) -> None:
    def replaced(node: Any) -> Any:
        if isinstance(node, dict):
            return {k: value if k == key else replaced(v) for k, v in node.items()}
        return [replaced(item) for item in node] if isinstance(node, list) else node

    with pytest.raises(CohortError):
        compiled(replaced(EVERYTHING))


def _nested(depth: int) -> Any:
    group = copy.deepcopy(GROUP)
    for _ in range(depth):
        group = {**GROUP, "Groups": [group]}
    return {**EVERYTHING, "AdditionalCriteria": group}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[]", "not an ATLAS cohort definition"),
        ("7", "not an ATLAS cohort definition"),
        ("null", "not an ATLAS cohort definition"),
        ('{"expression": "x"}', "not an ATLAS cohort definition"),
        ('{"PrimaryCriteria": []}', "not an ATLAS cohort definition"),
        ('{"PrimaryCriteria": {}}', "incomplete"),
        ('{"PrimaryCriteria": {"CriteriaList": [{"Nonsense": {}}]}}', "incomplete"),
        ('{"PrimaryCriteria": {"CriteriaList": 5}}', "incomplete"),
        (json.dumps(SMALL | {"CensorWindow": {"StartDate": "2020-13-45"}}), "no such day"),
        ('{"PrimaryCriteria": {"a": NaN}}', "NaN"),
        ('{"PrimaryCriteria": {"a b": 1}}', "a key is not a word"),
        ("[" * 100_000, "nested too deeply"),
        ('{"PrimaryCriteria": ' + '{"a":' * 70 + "1" + "}" * 71, "levels deep"),
        ('{"PrimaryCriteria": {"a": ' + "1" * 5_000 + "}}", "not JSON"),
        (json.dumps({"PrimaryCriteria": {}, "name": "x" * 2**20}), "larger than 1 MiB"),
        (json.dumps(_nested(MAX_NESTED_GROUPS + 1)), "nested in criteria"),
        (json.dumps({**EVERYTHING, "InclusionRules": [{}] * (MAX_RULES + 1)}), "at most 60"),
        (json.dumps({**EVERYTHING, "InclusionRules": {}} | {"InclusionRules": 3}), "at most 60"),
    ],
)
def test_what_is_no_definition_says_so(text: str, message: str) -> None:
    with pytest.raises(CohortError, match=message) as caught:
        compiled(text)
    assert caught.value.remedy


def test_a_definition_that_becomes_too_much_sql() -> None:
    group = {**GROUP, "CriteriaList": GROUP["CriteriaList"] * 20}  # type: ignore[operator]
    primary = {**EVERYTHING["PrimaryCriteria"], "CriteriaList": CRITERIA * 5}
    with pytest.raises(CohortError, match="characters of SQL"):
        compiled({**EVERYTHING, "PrimaryCriteria": primary, "AdditionalCriteria": group})


def test_the_error_names_the_place() -> None:
    path = ("PrimaryCriteria", "CriteriaList", 0, "ConditionOccurrence", "StopReason", "Text")
    with pytest.raises(CohortError) as caught:
        compiled(_with(SMALL, path, "it's"))
    where = "PrimaryCriteria.CriteriaList[0].ConditionOccurrence.StopReason.Text"
    assert caught.value.where == where
    assert "letters, digits" in caught.value.message


def test_names_have_no_effect_and_the_web_services_wrapping_is_opened() -> None:
    renamed = _with(SMALL, ("ConceptSets", 0, "name"), "Robert'); DROP TABLE person;--")
    assert compiled(renamed).statements == compiled(SMALL).statements
    wrapped = {"id": 7, "name": "wrapped", "expression": SMALL}
    assert compiled(wrapped) == compiled(SMALL)


def test_a_text_filter_keeps_its_meaning_without_a_percent_sign() -> None:
    wanted = "C.stop_reason  like chr(37) || 'recovered, well (2020)' || chr(37)"
    assert any(wanted in statement for statement in compiled(SMALL).statements)


def test_other_definitions_get_other_tables() -> None:
    other = {**SMALL, "QualifiedLimit": {"Type": "First"}}
    assert compiled(other).table != compiled(SMALL).table


def test_schemas_are_quoted() -> None:
    cohort = compiled(SMALL, 'a "b"; DROP')
    assert any('"a ""b""; DROP".CONDITION_OCCURRENCE' in s for s in cohort.statements)
    for name in ("", "a\nb", "50%", "x" * 64):
        with pytest.raises(ConfigError):
            compiled(SMALL, name)


def test_without_the_package_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckcdm", None)
    with pytest.raises(MissingExtra, match="duckcdm"):
        compiled(SMALL)
