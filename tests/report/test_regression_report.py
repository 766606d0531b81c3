"""Regression in tables and figures, against numpy's least squares of the same persons."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from federated_analytics.report.cells import View
from federated_analytics.report.regression import p_text, regression_tables
from federated_analytics.report.result import Result
from federated_analytics.report.table_text import to_text
from tests.report.outcomes import EVERYONE, cells_of, columns, texts
from tests.report.persons import SITES, Person, persons_of
from tests.report.sample import sample


@pytest.fixture(scope="module")
def result() -> Result:
    return sample()


@pytest.fixture(scope="module")
def view(result: Result) -> View:
    return View(result)


@pytest.fixture(scope="module")
def persons() -> list[Person]:
    return [person for site in SITES for person in persons_of(site)]


def least_squares(persons: list[Person]) -> list[tuple[float, float, float, float, float]]:
    """Coefficient, standard error, 95 % interval and p value of each column, by numpy."""
    rows = np.array([row for person in persons if (row := columns(person)) is not None])
    x = np.column_stack([np.ones(len(rows)), rows[:, :-1]])
    solved = np.linalg.lstsq(x, rows[:, -1], rcond=None)
    degrees = len(rows) - x.shape[1]
    errors = np.sqrt(np.diag(np.linalg.inv(x.T @ x)) * solved[1][0] / degrees)
    half = stats.t.ppf(0.975, degrees) * errors
    p = 2 * stats.t.sf(abs(solved[0] / errors), degrees)
    return [
        (float(b), float(e), float(b - h), float(b + h), float(q))
        for b, e, h, q in zip(solved[0], errors, half, p, strict=True)
    ]


def test_coefficients_are_those_of_least_squares(view: View, persons: list[Person]) -> None:
    table = next(t for t in regression_tables(view, EVERYONE) if t.main)
    assert [line.label for line in table.lines] == [
        "Intercept", "Age (per year)", "Sex (reference: Female)", "Male",
        "Smoking status (reference: Never)", "Former", "Current", "Body mass index (per kg/m²)",
        "Hypertension",
    ]  # fmt: skip
    numbers = [line.cells for line in table.lines if line.cells]
    expected = least_squares(persons)
    for shown, (value, error, low, high, p) in zip(numbers, expected, strict=True):
        digits = len(shown[1].partition(".")[2])
        assert len(shown[1].replace(".", "").lstrip("0")) == 2
        printed = [shown[0], shown[1], *shown[2].split(" to ")]
        read = [float(text.replace("−", "-")) for text in printed]
        assert read == pytest.approx([value, error, low, high], abs=0.501 * 10**-digits)
        assert shown[3] == "<0.001" if p < 0.001 else float(shown[3]) == pytest.approx(p, abs=0.006)
    complete = [p for p in persons if columns(p) is not None]
    assert f"Persons: {len(complete):,}" in table.notes[0]
    assert f"missing value: {len(persons) - len(complete)}" in table.notes[0]


def test_forest_shows_small_coefficients_of_more_units(
    result: Result, persons: list[Person]
) -> None:
    figure = result.plot("systolic_bp", "coefficients", population=EVERYONE, width=800)
    bmi = least_squares(persons)[5]
    label = "Body mass index (per 10 kg/m²)"
    shown = texts(figure)
    text = shown[shown.index(label) + 1].replace("−", "-")
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", text)]
    assert numbers == pytest.approx([10 * bmi[0], 10 * bmi[2], 10 * bmi[3]], abs=0.01)
    assert "Difference in systolic blood pressure (mmHg)" in shown
    assert not any("Intercept" in text for text in shown)


def test_regressions_by_stratum_stand_beside_each_other(view: View, result: Result) -> None:
    table = next(t for t in regression_tables(view, EVERYONE) if not t.main)
    assert [name for name, _ in table.spans()] == ["Female", "Male", "Unknown"]
    assert cells_of(table, "Persons, n")[4] == "<5"
    assert set(cells_of(table, "Age (per year)")[4:]) == {"–"}
    assert cells_of(table, "Male")[0] == "n/a"
    figure = result.plot("systolic_bp", "coefficients", "sex", population=EVERYONE)
    assert "Unknown" not in texts(figure)
    assert not any(text.startswith("Sex: ") for text in texts(figure))


@pytest.mark.parametrize(
    ("p", "text"),
    [("0.43", "0.43"), ("0.0995", "0.10"), ("0.012", "0.012"), ("9e-9", "<0.001"), ("0", "<0.001"),
     ("-", "–"), ("NA", "n/a")],
)  # fmt: skip
def test_p_values_as_printed(view: View, p: str, text: str) -> None:
    cell = next(c for c in view.of("linear_regression") if "p_value" in c.estimates)
    assert p_text(replace(cell, estimates={"p_value": p})) == text


def test_terminal_and_notebook_show_them(result: Result) -> None:
    text = to_text(result.select(group_level=EVERYONE), 100)
    assert "Linear regression of systolic blood pressure" in text
    assert "89.2 (" in text
    fragment = result._repr_html_()
    assert "Linear regression of systolic blood pressure" in fragment
    assert "NR: not reached" in fragment
    assert result.plot("death").title.startswith("Survival – ")
    alone = result.select(result_type="linear_regression")
    assert alone.plot().title.startswith("Coefficients of systolic blood pressure")
