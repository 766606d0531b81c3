"""What a report says of noise: budget, methods, attrition."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from federated_analytics.report import numerals
from federated_analytics.report.cells import View
from federated_analytics.report.html import render
from federated_analytics.report.methods import REFERENCES, cited, paragraphs
from federated_analytics.report.result import Result, Row
from federated_analytics.report.site_tables import privacy_budget
from federated_analytics.report.table_text import to_text
from federated_analytics.report.tables import table_ones
from tests.report.outcomes import EVERYONE, cells_of, texts
from tests.report.sample import sample


@pytest.fixture(scope="module")
def result() -> Result:
    return sample()


def with_noise(result: Result) -> Result:
    settings = {
        i: {**s, "noisy_sites": "2", "sites_answered": "3", "epsilon": "1", "delta": "1e-06"}
        for i, s in result.settings.items()
    }
    first = next(r for r in result.rows if r.variable_name == "participation")
    rows: list[Row] = []
    for site, charged, left in (("hospital-a", "0.48", "3.204"), ("hospital-b", "0.5", "0")):
        told = {"epsilon_charged": charged, "epsilon_remaining": left}
        if site == "hospital-a":
            told |= {"epsilon_budget": "5", "delta": "2.5e-07", "budget_days": "365"}
        for name, value in told.items():
            at = replace(first, cdm_name=site, estimate_name=name, estimate_value=value)
            rows.append(replace(at, estimate_type="numeric"))
    return Result((*result.rows, *rows), settings, result.study_toml)


def test_budget_is_a_table_of_its_own(result: Result) -> None:
    noisy = with_noise(result)
    table = privacy_budget(View(noisy))
    assert cells_of(table, "hospital-a") == ("0.48", "3.2", "5", "2.5 × 10⁻⁷", "365 days")
    assert cells_of(table, "hospital-b") == ("0.5", "0", "–", "10⁻⁶", "–")
    assert {line.label for line in table.lines} == {"hospital-a", "hospital-b"}
    assert 'id="budget"' in render(noisy)
    assert 'id="budget"' not in render(result)
    assert "Privacy budget" in to_text(noisy)


def test_methods_name_what_was_done_and_cite_it(result: Result) -> None:
    noisy = View(with_noise(result))
    found = {p.title: p for p in paragraphs(noisy)}
    assert "steps of 73 days up to day 1,825" in found["Time to event"].text
    assert "Greenwood" in found["Time to event"].text
    assert "complete cases" in found["Linear regression"].text
    noise = found["Differential privacy"].text
    assert "2 of the 3 sites" in noise
    assert "hospital-a: charged ε = 0.48, remaining ε = 3.204" in noise
    assert "δ = 10⁻⁶" in noise
    assert set(cited(found.values())) <= set(REFERENCES)
    exact = {p.title for p in paragraphs(View(result))}
    assert "Differential privacy" not in exact
    counts = {p.title for p in paragraphs(View(result.select(result_type="counts")))}
    assert not counts & {"Time to event", "Linear regression"}


def test_attrition_with_noise_is_never_negative(result: Result) -> None:
    rows = tuple(
        replace(r, estimate_value="3001")
        if r.variable_name == "attrition" and r.additional_level == "3"
        and r.estimate_name == "count" and r.cdm_name == "pooled"
        else r
        for r in result.rows
    )  # fmt: skip
    shown = texts(Result(rows, result.settings).plot(kind="attrition", population=EVERYONE))
    assert "left out: about 0" in shown
    assert not any("-" in text or "−" in text for text in shown)


def test_small_numbers_as_powers() -> None:
    assert numerals.power("1e-06") == "10⁻⁶"
    assert numerals.power("2.5e-7") == "2.5 × 10⁻⁷"
    assert numerals.power("") == "–"


def test_noisy_counts_and_means_show_their_intervals(result: Result) -> None:
    noisy = with_noise(result)
    cell = next(
        r for r in noisy.rows
        if r.variable_name == "persons" and r.estimate_name == "count"
        and r.group_level == EVERYONE and r.cdm_name == "pooled" and not r.strata
    )  # fmt: skip
    ends = {"count_lower": "2451", "count_upper": "2549"}
    more = tuple(replace(cell, estimate_name=n, estimate_value=v) for n, v in ends.items())
    shown = View(Result((*noisy.rows, *more), noisy.settings))
    table = table_ones(shown)[0]
    assert cells_of(table, "Persons, n")[1] == "2,500 (2,451–2,549)"
    assert re.fullmatch(r"[\d.]+ to [\d.]+", cells_of(table, "95 % CI")[1])
    assert any("noise of differential privacy" in note for note in table.notes)
    exact = table_ones(View(result))[0]
    assert not any(line.label == "95 % CI" for line in exact.lines)
    assert not any("noise" in note for note in exact.notes)
