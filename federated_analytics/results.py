"""From what the sites released to the rows of the result."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from federated_analytics import __version__
from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.table import Key, merge_tables
from federated_analytics.analyses.base import Context, Estimate, Merged, Query, analyses
from federated_analytics.federation import Outcome
from federated_analytics.messages import Answer, Terms, Withheld
from federated_analytics.omop.strata import SITE
from federated_analytics.report.result import Result, Row, pair
from federated_analytics.site_rows import (
    answers_of,
    participation_rows,
    shows_own,
    suppression_rows,
    terms_of,
)

if TYPE_CHECKING:
    from federated_analytics.omop.features import Feature

POOLED = "pooled"
NOWHERE = Key((), "", "", "")
"""The place of a withheld cell that its site does not tell."""


def result_of(outcome: Outcome) -> Result:
    """The summarised result of a finished study."""
    rows: list[Row] = []
    settings: dict[int, dict[str, str]] = {}
    for position, query in enumerate(outcome.study.analysis):
        result_id = position + 1
        rows += _analysis_rows(outcome, position, query, result_id)
        settings[result_id] = _settings(outcome, query.kind, query)
    participation, suppression = len(settings) + 1, len(settings) + 2
    by_site = any(SITE in query.by for query in outcome.study.analysis)
    for p in outcome.participation:
        rows += participation_rows(p, participation, by_site)
    settings[participation] = _settings(outcome, "participation")
    rows += [row for p in outcome.answered for row in suppression_rows(outcome, p, suppression)]
    settings[suppression] = _settings(outcome, "suppression")
    return Result(tuple(rows), settings, outcome.study.to_toml())


def _analysis_rows(outcome: Outcome, position: int, query: Query, result_id: int) -> list[Row]:
    rows: list[Row] = []
    for population in outcome.study.populations_of(query):
        answers = {
            p.site: answer
            for p in outcome.answered
            for answer in answers_of(p)
            if (answer.analysis, answer.population) == (position, population.name)
            and answer.refusal is None
        }
        shown = {p.site for p in outcome.answered if p.disclosure and shows_own(p)}
        features = outcome.study.features_of(query, population)
        context = _context(features, answers.values(), pooled=True)
        place = (result_id, population.name)
        merged = _merged(answers, outcome)
        rows += _rows(query, merged, context, place, POOLED)
        for site in sorted(shown & set(answers)):
            own = _own(answers[site])
            alone = _context(features, [answers[site]], pooled=False)
            estimates = _rows(query, own, alone, place, site)
            rows += estimates
            if SITE in query.by:
                rows += [_with_site(row, site) for row in estimates]
    return rows


def _keeps_zeros(outcome: Outcome, site: str) -> bool:
    terms = terms_of(outcome, site)
    return terms is not None and terms.zero_is_sensitive


def _context(
    features: Mapping[str, Feature], answers: Iterable[Answer], *, pooled: bool
) -> Context:
    labels: dict[str, str] = {}
    for answer in answers:
        labels = {**answer.labels, **labels}
    return Context(features, labels, pooled)


def _merged(answers: Mapping[str, Answer], outcome: Outcome) -> dict[Key, Merged]:
    """Pooled cells, withheld where fewer than the least number of sites stand behind one (R12).

    A site that does not mention a cell has nobody in it (R1 releases zero) and stands behind the
    pooled number; unless it withheld cells without telling which, or says nothing of zeros, when
    it may be one of them.
    """
    silent = {
        site
        for site, answer in answers.items()
        if any(w.key == NOWHERE for w in answer.withheld) or _keeps_zeros(outcome, site)
    }
    told = {site: {c.key for c in answers[site].cells} for site in answers}
    tables = [{c.key: c.value for c in answers[site].cells} for site in sorted(answers)]
    merged: dict[Key, Aggregate] = merge_tables(tables)
    withheld: dict[Key, dict[str, Withheld]] = {}
    for site, answer in answers.items():
        for place in answer.withheld:
            if place.key != NOWHERE:
                withheld.setdefault(place.key, {})[site] = place
    cells: dict[Key, Merged] = {}
    for key in dict.fromkeys((*merged, *withheld)):
        keeping = withheld.get(key, {})
        unknown = sum(site not in keeping and key not in told[site] for site in silent)
        behind = len(answers) - len(keeping) - unknown
        if key in merged and behind >= outcome.min_sites:
            cells[key] = Merged(merged[key], behind, noise=_variances(answers.values(), key))
        else:
            bounded = all(place.below for place in keeping.values()) and key not in merged
            most = sum(place.below - 1 for place in keeping.values())
            cells[key] = Merged(None, behind, most + 1 if bounded and not unknown else 0)
    return cells


def _variances(answers: Iterable[Answer], key: Key) -> dict[str, float]:
    """Variance of the noise in a pooled cell, by statistic: the sites' noises are independent."""
    strata = tuple(name for name, _ in key.strata)
    found: dict[str, float] = {}
    for answer in answers:
        for noise in answer.noise:
            place = (noise.strata, noise.variable, noise.name)
            if place == (strata, key.variable, key.name) and noise.level in ("", key.level):
                found[noise.statistic] = found.get(noise.statistic, 0.0) + noise.scale**2
    return found


def _own(answer: Answer) -> dict[Key, Merged]:
    """A site's own cells."""
    cells = {c.key: Merged(c.value, 1, noise=_variances([answer], c.key)) for c in answer.cells}
    withheld = {w.key: Merged(None, 0, w.below) for w in answer.withheld}
    withheld.pop(NOWHERE, None)
    return cells | withheld


def _rows(
    query: Query,
    cells: Mapping[Key, Merged],
    context: Context,
    place: tuple[int, str],
    cdm_name: str,
) -> list[Row]:
    result_id, population = place
    return [
        _row(estimate, result_id, population, cdm_name)
        for estimate in analyses()[query.kind].finalize(query, cells, context)
    ]


def _row(estimate: Estimate, result_id: int, population: str, cdm_name: str) -> Row:
    strata_name, strata_level = _pair(estimate.strata)
    additional_name, additional_level = _pair(estimate.additional)
    return Row(
        result_id=result_id,
        cdm_name=cdm_name,
        group_name="population",
        group_level=population,
        strata_name=strata_name,
        strata_level=strata_level,
        variable_name=estimate.variable,
        variable_level=estimate.level,
        estimate_name=estimate.name,
        estimate_type=estimate.type,
        estimate_value=estimate.value,
        additional_name=additional_name,
        additional_level=additional_level,
    )


def _pair(pairs: Iterable[tuple[str, str]]) -> tuple[str, str]:
    listed = list(pairs)
    return pair([name for name, _ in listed], [level for _, level in listed])


def _with_site(row: Row, site: str) -> Row:
    """A site's row as a level of the stratum `site`, among the pooled ones."""
    import dataclasses

    overall = row.strata_name == "overall"
    name = SITE if overall else f"{SITE} &&& {row.strata_name}"
    level = site if overall else f"{site} &&& {row.strata_level}"
    return dataclasses.replace(row, cdm_name=POOLED, strata_name=name, strata_level=level)


def _settings(outcome: Outcome, result_type: str, query: Query | None = None) -> dict[str, str]:
    answered = outcome.answered
    terms = [p.disclosure.terms for p in answered if p.disclosure and p.disclosure.terms]
    info = outcome.study.study
    settings = {
        "result_type": result_type,
        "package_name": "federated_analytics",
        "package_version": __version__,
        "min_cell_count": str(max((t.min_count for t in terms), default=0)),
        "min_sites": str(outcome.min_sites),
        "policy": ", ".join(sorted({t.preset for t in terms})),
        **_rules(terms),
        "study": info.name,
        "description": info.description,
        "study_sha256": outcome.study.digest,
        "sites": str(len(outcome.participation)),
        "sites_answered": str(len(answered)),
        "started": outcome.started.isoformat(timespec="seconds"),
        "elapsed_seconds": f"{outcome.elapsed_seconds:.1f}",
        "rounds": str(outcome.rounds),
        "secure_aggregation": str(outcome.secure).lower(),
        "bytes": str(sum(p.bytes_sent + p.bytes_received for p in outcome.participation)),
        "flwr_version": _flwr_version(),
        "synthetic": str(any(p.disclosure and p.disclosure.synthetic for p in answered)).lower(),
        "group": "population" if query is not None else "",
        "strata": " &&& ".join(query.by) if query is not None else "",
        "additional": "",
    }
    if query is not None:
        settings["title"] = query.title
        settings["labels"] = json.dumps(_labels(outcome, query), sort_keys=True)
    return settings


def _rules(terms: Sequence[Terms]) -> dict[str, str]:
    """The rules that the sites' policies had in force, where any had."""
    noisy = [t for t in terms if t.mode == "dp"]
    return {
        "complementary": str(any(t.complementary for t in terms)).lower(),
        "largest_share": f"{min((t.dominance for t in terms), default=1.0):g}",
        "rounding": str(max((t.rounding for t in terms), default=1)),
        "noisy_sites": str(len(noisy)),
        "epsilon": f"{max((t.epsilon for t in noisy), default=0.0):g}",
        "delta": f"{max((t.delta for t in noisy), default=0.0):g}",
    }


def _labels(outcome: Outcome, query: Query) -> dict[str, Any]:
    """Label, unit and step of the query's features, for those who show the result."""
    found: dict[str, Any] = {}
    for population in outcome.study.populations_of(query):
        for name, feature in outcome.study.features_of(query, population).items():
            found[name] = {
                "label": feature.label,
                "unit": feature.unit or "",
                "step": feature.step,
            }
    return found


def _flwr_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("flwr")
    except PackageNotFoundError:
        return ""
