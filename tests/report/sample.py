"""A realistic result for the report's tests: simulated persons, counted with a threshold of 5."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import pairwise
from statistics import fmean, stdev

from federated_analytics.report.result import POOLED, Result, Row, pair
from tests.report import outcomes
from tests.report.persons import CONCEPTS, LABELS, SITES, Person, persons_of

Strata = tuple[tuple[str, str], ...]

THRESHOLD = 5
POPULATIONS = ("Type 2 diabetes", "Everyone")
NUMERIC = ("age", "bmi", "systolic_bp", "hba1c")
EDGES = [4 + 0.5 * i for i in range(21)]
STUDY_TOML = """[study]
name = "Blood pressure and glycaemia in type 2 diabetes"
description = "How well are blood pressure and glucose controlled?"

[[population]]
name = "Type 2 diabetes"
kind = "condition"
concepts = [201826]

[[analysis]]
kind = "summary"
features = ["age", "bmi", "systolic_bp", "hba1c"]
by = ["sex", "age_group"]
"""


@cache
def sample() -> Result:
    """Three sites that answered, one that failed, two populations, every result type."""
    persons = {site: list(persons_of(site)) for site in SITES}
    settings: dict[int, dict[str, str]] = {}
    rows: list[Row] = []
    for result_id, (kind, title, answer) in enumerate(ANALYSES, start=1):
        settings[result_id] = _settings(kind, title)
        for population in POPULATIONS:
            for site in (POOLED, *SITES):
                pool = [p for s in SITES if site in (POOLED, s) for p in persons[s]]
                chosen = [p for p in pool if population == "Everyone" or p["diabetes"]]
                rows += answer(_Place(result_id, site, population), chosen)
    last = len(ANALYSES)
    settings[last + 1] = _settings("participation", "Participation")
    settings[last + 2] = _settings("suppression", "Suppression")
    rows += [*_participation(last + 1), *_suppression(last + 2)]
    return Result(tuple(rows), settings, STUDY_TOML)


def failed() -> Result:
    """Nobody answered."""
    settings = {1: _settings("participation", "Participation")}
    rows = [r for r in _participation(1) if r.cdm_name == "hospital-d"]
    return Result(tuple(rows), settings, STUDY_TOML)


def _settings(kind: str, title: str) -> dict[str, str]:
    return {
        "result_type": kind,
        "package_name": "federated_analytics",
        "package_version": "1.0.0",
        "group": "population",
        "strata": "sex &&& age_group",
        "additional": "",
        "min_cell_count": str(THRESHOLD),
        "study": "Blood pressure and glycaemia in type 2 diabetes",
        "description": "How well are blood pressure and glucose controlled?",
        "sites": "3",
        "title": title,
        "labels": json.dumps(LABELS),
        "started": "2026-11-23T09:30:00+00:00",
        "elapsed_seconds": "6.42",
        "rounds": "1",
        "bytes": "18230",
        "flwr_version": "1.41.0",
        "synthetic": "true",
    }


class _Place:
    """Where an estimate stands; makes its rows."""

    def __init__(self, result_id: int, site: str, population: str) -> None:
        self.place = (result_id, site, "population", population)

    def row(
        self,
        strata: Strata,
        variable: str,
        level: str | None,
        estimate: tuple[str, str, object],
        additional: dict[str, str] | None = None,
    ) -> Row:
        names, levels = [n for n, _ in strata], [x for _, x in strata]
        more = additional or {}
        name, kind, value = estimate
        return Row(
            *self.place,
            *pair(names, levels),
            variable,
            level,
            name,
            kind,
            str(value),
            *pair(list(more), list(more.values())),
        )


def _strata(persons: list[Person]) -> Iterator[tuple[Strata, list[Person]]]:
    for names in ((), ("sex",), ("age_group",), ("sex", "age_group")):
        for levels in sorted({tuple(str(p[n]) for n in names) for p in persons}):
            group = [p for p in persons if tuple(str(p[n]) for n in names) == levels]
            yield tuple(zip(names, levels, strict=True)), group


def _shown(persons: int) -> str:
    return f"<{THRESHOLD}" if 0 < persons < THRESHOLD else str(persons)


def _share(part: int, whole: int) -> str:
    if 0 < part < THRESHOLD or 0 < whole < THRESHOLD:
        return "-"
    return repr(100 * part / whole) if whole else "NA"


def _counted(
    place: _Place,
    strata: Strata,
    variable: str,
    level: str | None,
    part: int,
    whole: int,
    **more: str,
) -> Iterator[Row]:
    for estimate in (
        ("count", "integer", _shown(part)),
        ("percentage", "percentage", _share(part, whole)),
    ):
        yield place.row(strata, variable, level, estimate, more)


def _counts(place: _Place, persons: list[Person]) -> Iterator[Row]:
    for strata, group in _strata(persons):
        yield place.row(strata, "persons", None, ("count", "integer", _shown(len(group))))
    steps = (
        "In the database",
        "With a condition of the concept set",
        "365 days of observation before",
    )
    sizes = (len(persons) * 3, int(len(persons) * 1.2), len(persons))
    for position, (step, size) in enumerate(zip(steps, sizes, strict=True), start=1):
        yield from _counted(place, (), "attrition", step, size, sizes[0], step=str(position))


def _summary(place: _Place, persons: list[Person]) -> Iterator[Row]:
    for strata, group in _strata(persons):
        for name in NUMERIC:
            values = [float(p[name]) for p in group if p[name] is not None]
            gone = len(group) - len(values)
            held = len(values) >= THRESHOLD
            numbers = _moments(values) if held else dict.fromkeys(_MOMENTS, "-")
            estimates = [
                ("count", "integer", _shown(len(values))),
                ("count_records", "integer", len(values) * 3 if held else "-"),
                ("count_missing", "integer", _shown(gone)),
                ("percentage_missing", "percentage", _share(gone, len(group))),
                *((key, "numeric", value) for key, value in numbers.items()),
                ("sites", "integer", "3"),
            ]
            for estimate in estimates:
                yield place.row(strata, name, None, estimate)


_MOMENTS = (
    "mean", "sd", "variance", "sum", "coefficient_of_variation", "conf_low", "conf_high",
)  # fmt: skip


def _moments(values: list[float]) -> dict[str, str]:
    mean, sd = fmean(values), stdev(values)
    half = 1.96 * sd / math.sqrt(len(values))
    numbers = (mean, sd, sd**2, sum(values), sd / mean, mean - half, mean + half)
    return dict(zip(_MOMENTS, map(repr, numbers), strict=True))


def _quantiles(place: _Place, persons: list[Person]) -> Iterator[Row]:
    names = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}
    for strata, group in _strata(persons):
        for name in NUMERIC:
            values = sorted(float(p[name]) for p in group if p[name] is not None)
            yield place.row(strata, name, None, ("count", "integer", _shown(len(values))))
            step = float(str(LABELS[name]["step"])) * 5
            for estimate, share in names.items():
                value = values[int(share * (len(values) - 1))] if len(values) >= THRESHOLD else None
                bounds = {"": 0.0, "_lower": -step, "_upper": step}
                for suffix, shift in bounds.items():
                    text = "-" if value is None else repr(value + shift)
                    yield place.row(strata, name, None, (estimate + suffix, "numeric", text))


def _histogram(place: _Place, persons: list[Person]) -> Iterator[Row]:
    for strata, group in _strata(persons):
        values = [float(p["hba1c"]) for p in group if p["hba1c"] is not None]
        yield place.row(strata, "hba1c", None, ("count", "integer", _shown(len(values))))
        for low, high in pairwise(EDGES):
            inside = sum(low <= v < high for v in values)
            level, more = (
                f"[{low:g}, {high:g})",
                {"bin_lower": f"{low:g}", "bin_upper": f"{high:g}"},
            )
            yield from _counted(place, strata, "hba1c", level, inside, len(values), **more)
            share = _share(inside, len(values))
            density = share if share in ("-", "NA") else repr(float(share) / 100 / (high - low))
            yield place.row(strata, "hba1c", level, ("density", "numeric", density), more)


def _frequencies(place: _Place, persons: list[Person]) -> Iterator[Row]:
    for strata, group in _strata(persons):
        for name in ("sex", "smoking", "hypertension", "asthma"):
            for level in sorted({str(p[name]) for p in group}):
                part = sum(p[name] == level for p in group)
                yield from _counted(place, strata, name, level, part, len(group))


def _top_concepts(place: _Place, persons: list[Person]) -> Iterator[Row]:
    ranked = sorted(CONCEPTS, key=lambda name: -sum(float(p[name] or 0) for p in persons))
    for rank, name in enumerate(ranked, start=1):
        part = sum(p[name] == 1.0 for p in persons)
        more = {"domain": "condition", "rank": str(rank)}
        yield from _counted(place, (), name, str(CONCEPTS[name][0]), part, len(persons), **more)


def _participation(result_id: int) -> Iterable[Row]:
    for site, (size, _) in SITES.items():
        estimates: list[tuple[str, str, object]] = [
            ("status", "character", "answered"),
            ("seconds", "numeric", 0.8),
            ("bytes_sent", "integer", 3900),
            ("bytes_received", "integer", 2140),
            ("persons", "integer", size * 3),
        ]
        if site == "hospital-c":
            estimates.append(("note", "character", "same database as hospital-b"))
        yield from (_own(result_id, site, "participation", e) for e in estimates)
    for estimate in (
        ("status", "character", "failed"),
        ("code", "character", "database_timeout"),
        ("remedy", "character", "Ask for fewer features or strata, or raise deadline-seconds."),
        ("seconds", "numeric", 30.0),
    ):
        yield _own(result_id, "hospital-d", "participation", estimate)


def _suppression(result_id: int) -> Iterable[Row]:
    for site, cells in (("hospital-a", 14), ("hospital-c", 96)):
        for variable, analysis in (("hba1c", "histogram"), ("bmi", "summary")):
            more = {
                "rule": "minimum_count",
                "analysis": analysis,
                "population": POPULATIONS[0],
            }
            reason = "Fewer than 5 persons behind the number."
            yield _own(result_id, site, variable, ("count_suppressed", "integer", cells), more)
            yield _own(result_id, site, variable, ("reason", "character", reason), more)


def _own(
    result_id: int,
    site: str,
    variable: str,
    estimate: tuple[str, str, object],
    additional: dict[str, str] | None = None,
) -> Row:
    row = _Place(result_id, site, "").row((), variable, None, estimate, additional)
    values = {**vars(row), "group_name": "overall", "group_level": "overall"}
    return Row(**values)


Answer = Callable[[_Place, list[Person]], Iterable[Row]]
ANALYSES: tuple[tuple[str, str, Answer], ...] = (
    ("counts", "Population sizes", _counts),
    ("summary", "Means and spread", _summary),
    ("quantiles", "Quantiles", _quantiles),
    ("histogram", "Distribution of HbA1c", _histogram),
    ("frequencies", "Categories", _frequencies),
    ("top_concepts", "Most frequent conditions", _top_concepts),
    ("survival", "Survival", outcomes.survival),
    ("linear_regression", "", outcomes.regression),
)
