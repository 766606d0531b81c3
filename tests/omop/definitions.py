"""Cohort definitions that use everything that ATLAS can write."""

from __future__ import annotations

import json
from typing import Any

from federated_analytics.omop.atlas import CompiledCohort, compile_cohort


def compiled(definition: Any, schema: str = "cdm", vocabulary: str | None = None) -> CompiledCohort:
    text = definition if isinstance(definition, str) else json.dumps(definition)
    return compile_cohort(text, cdm_schema=schema, vocabulary_schema=vocabulary or schema)


CONCEPT = {"CONCEPT_ID": 8532, "CONCEPT_NAME": "FEMALE", "VALID_START_DATE": 0}
DATES = {"Value": "1990-01-01", "Extent": "2020-12-31", "Op": "bt"}
AGE = {"Value": 18, "Extent": 99.5, "Op": "!bt"}
TEXT = {"Text": "recovered, well (2020)", "Op": "contains"}
OTHERS = {"CodesetId": 1, "IsExclusion": True}
EVENT = {"CodesetId": 0, "First": True, "OccurrenceStartDate": DATES, "Age": AGE}
WHO = {"Gender": [CONCEPT], "GenderCS": OTHERS, "VisitType": [CONCEPT]}
ERA = {
    "CodesetId": 0,
    "EraStartDate": DATES,
    "EraEndDate": DATES,
    "AgeAtStart": AGE,
    "EraLength": AGE,
}
CRITERIA: list[dict[str, Any]] = [
    {"ConditionOccurrence": {**EVENT, **WHO, "StopReason": TEXT, "ConditionSourceConcept": 1}},
    {"ConditionEra": {**ERA, "OccurrenceCount": {"Value": 1, "Op": "gte"}}},
    {"Death": {"CodesetId": 0, "OccurrenceStartDate": DATES, "DeathType": [CONCEPT]}},
    {"DeviceExposure": {**EVENT, "UniqueDeviceId": {"Text": "A1", "Op": "!endsWith"}}},
    {"DoseEra": {"CodesetId": 0, "DoseValue": {"Value": 1.25, "Op": "gt"}}},
    {"DrugEra": {**ERA, "GapDays": AGE}},
    {"DrugExposure": {**EVENT, **WHO, "LotNumber": {"Text": "B", "Op": "startsWith"}}},
    {"Measurement": {**EVENT, "ValueAsNumber": {"Value": 6.5, "Op": "gte"}, "Unit": [CONCEPT]}},
    {"Observation": {**EVENT, "ValueAsString": {"Text": "zo\u00eb", "Op": "contains"}}},
    {"ObservationPeriod": {"UserDefinedPeriod": {"StartDate": "2001-01-01", "EndDate": ""}}},
    {"ProcedureOccurrence": {**EVENT, **WHO, "Modifier": [CONCEPT]}},
    {"Specimen": {**EVENT, "SourceId": {"Text": "1", "Op": "contains"}}},
    {"VisitOccurrence": {**EVENT, "VisitLength": AGE, "ProviderSpecialty": [CONCEPT]}},
    {"VisitDetail": {"CodesetId": 0, "VisitDetailStartDate": DATES}},
    {"PayerPlanPeriod": {"PeriodStartDate": DATES, "PeriodLength": AGE}},
]
GROUP = {
    "Type": "AT_LEAST",
    "Count": 1,
    "CriteriaList": [
        {
            "Criteria": criterion,
            "StartWindow": {"Start": {"Days": 30, "Coeff": -1}, "End": {"Days": 0, "Coeff": 1}},
            "EndWindow": {"Start": {"Days": 9, "Coeff": -1}, "End": {"Coeff": 1}},
            "RestrictVisit": False,
            "Occurrence": {"Type": 2, "Count": 1, "IsDistinct": True, "CountColumn": "START_DATE"},
        }
        for criterion in CRITERIA[:2]
    ],
    "DemographicCriteriaList": [{"Age": AGE, "Gender": [CONCEPT], "OccurrenceStartDate": DATES}],
    "Groups": [{"Type": "ANY", "CriteriaList": [], "DemographicCriteriaList": [], "Groups": []}],
}
SMALL: dict[str, Any] = {
    "PrimaryCriteria": {
        "CriteriaList": [{"ConditionOccurrence": {"CodesetId": 0, "StopReason": TEXT}}],
        "ObservationWindow": {},
    },
    "ConceptSets": [{"id": 0, "name": "A set", "expression": {"items": [{"concept": CONCEPT}]}}],
}
EVERYTHING: dict[str, Any] = {
    "Title": "Everything",
    "cdmVersionRange": ">=5.0.0",
    "ConceptSets": [
        {
            "id": i,
            "name": "A set",
            "expression": {
                "items": [
                    {"concept": CONCEPT, "includeDescendants": True, "includeMapped": True},
                    {"concept": {"CONCEPT_ID": 1}, "isExcluded": True},
                ]
            },
        }
        for i in (0, 1)
    ],
    "PrimaryCriteria": {
        "CriteriaList": [
            {"ConditionOccurrence": {"CodesetId": 0, "CorrelatedCriteria": GROUP}},
            *CRITERIA,
        ],
        "ObservationWindow": {"PriorDays": 365, "PostDays": 0},
        "PrimaryCriteriaLimit": {"Type": "First"},
    },
    "AdditionalCriteria": GROUP,
    "QualifiedLimit": {"Type": "Last"},
    "ExpressionLimit": {"Type": "All"},
    "InclusionRules": [{"name": "A rule", "description": "Its reason", "expression": GROUP}],
    "EndStrategy": {"CustomEra": {"DrugCodesetId": 0, "GapDays": 30, "Offset": 0}},
    "CensoringCriteria": [CRITERIA[2]],
    "CollapseSettings": {"CollapseType": "ERA", "EraPad": 7},
    "CensorWindow": {"StartDate": "1980-01-01", "EndDate": "2030-01-01"},
}
