"""Tables: their numbers, how they are printed, and texts that try to break out of them."""

from __future__ import annotations

import io
from dataclasses import replace
from statistics import fmean, stdev

import pytest
from rich.console import Console

from federated_analytics.report import numerals
from federated_analytics.report.cells import Label, View
from federated_analytics.report.result import Result, Row
from federated_analytics.report.site_tables import (
    attrition,
    participation,
    per_site,
    suppression,
)
from federated_analytics.report.table_text import (
    markdown,
    plain,
    to_markdown,
    to_terminal,
    to_text,
)
from federated_analytics.report.tables import Column, Line, Table, table_ones
from tests.report.persons import SITES, persons_of
from tests.report.sample import sample


@pytest.fixture(scope="module")
def result() -> Result:
    return sample()


@pytest.fixture(scope="module")
def view(result: Result) -> View:
    return View(result)


def cell(table: Table, label: str, column: str, after: str = "") -> str:
    """The text in the row `label`, the first one below the heading `after`."""
    labels = [line.label for line in table.lines]
    start = labels.index(after) if after else 0
    line = table.lines[labels.index(label, start)]
    return line.cells[[c.label for c in table.columns].index(column)]


def test_table_one_holds_the_numbers(view: View) -> None:
    persons = [p for site in SITES for p in persons_of(site)]
    diabetics = [p for p in persons if p["diabetes"]]
    ages = [float(p["age"] or 0) for p in diabetics]
    without = sum(p["bmi"] is None for p in diabetics)
    compared = table_ones(view)[0]
    assert cell(compared, "Persons, n", "Type 2 diabetes") == f"{len(diabetics):,}"
    assert cell(compared, "Persons, n", "Everyone") == f"{len(persons):,}" == "2,500"
    mean = f"{fmean(ages):.1f} ({stdev(ages):.1f})"
    assert cell(compared, "Mean (SD)", "Type 2 diabetes", "Age (years)") == mean
    share = f"{without} ({100 * without / len(diabetics):.1f})"
    heading = "Body mass index (kg/m²)"
    assert cell(compared, "Missing, n (%)", "Type 2 diabetes", heading) == share


def test_each_population_has_single_and_crossed_strata(view: View) -> None:
    titles = [table.title for table in table_ones(view)]
    assert titles == [
        "Characteristics of the populations",
        "Characteristics – Type 2 diabetes",
        "Characteristics by sex and age group – Type 2 diabetes",
        "Characteristics – Everyone",
        "Characteristics by sex and age group – Everyone",
    ]
    single, crossed = table_ones(view)[1:3]
    assert [(c.over, c.label) for c in single.columns][:3] == [
        ("", "Overall"),
        ("Sex", "Female"),
        ("Sex", "Male"),
    ]
    assert single.spans()[0] == ("", 1)
    assert ("Female", 3) in crossed.spans()
    assert [c.label for c in crossed.columns][:3] == ["18 to 44", "45 to 64", "65 or older"]


def test_withheld_numbers_stay_withheld(view: View) -> None:
    single = table_ones(view)[1]
    assert cell(single, "Persons, n", "Unknown") == "<5"
    assert cell(single, "Mean (SD)", "Unknown", "Age (years)") == "–"
    assert any("threshold" in note for note in single.notes)


def test_yes_no_features_take_one_line(view: View) -> None:
    compared = table_ones(view)[0]
    labels = [line.label for line in compared.lines]
    assert "Hypertension, n (%)" in labels
    assert "Yes" not in labels
    assert "Never" in labels


def test_per_site_shows_pooled_first(view: View) -> None:
    table = per_site(view, "Everyone")
    labels = [line.label for line in table.lines]
    assert labels[:5] == ["Age (years)", "Pooled", "hospital-a", "hospital-b", "hospital-c"]
    assert cell(table, "hospital-a", "Persons") == "1,400"


def test_attrition(view: View) -> None:
    table = attrition(view, "Everyone")
    assert table.lines[0].label == "In the database"
    assert cell(table, "In the database", "Pooled") == "7,500 (100.0)"
    assert cell(table, "365 days of observation before", "hospital-b") == "860 (33.3)"


def test_participation_names_failures_with_their_remedy(view: View) -> None:
    table = participation(view)
    assert cell(table, "hospital-a", "Status") == "answered"
    remark = cell(table, "hospital-d", "Remark")
    assert remark.startswith("database_timeout")
    assert "raise deadline-seconds" in remark
    assert cell(table, "hospital-c", "Remark") == "same database as hospital-b"


def test_suppression(view: View) -> None:
    lines = suppression(view).lines
    assert lines[0].label == "hospital-a"
    assert lines[0].cells[1:5] == ("histogram", "Haemoglobin A1c", "14", "minimum count")


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (numerals.count("1234567"), "1,234,567"),
        (numerals.count("<5"), "<5"),
        (numerals.count("-"), "–"),
        (numerals.count("NA"), "n/a"),
        (numerals.decimal("-1234.5678", 2), "−1,234.57"),
        (numerals.decimal("0.0001234", 2), "0.00012"),
        (numerals.decimal("0", 1), "0.0"),
        (numerals.decimal("inf", 1), "–"),
        (numerals.percent("0.01"), "<0.1"),
        (numerals.percent("99.99"), ">99.9"),
        (numerals.percent("100"), "100.0"),
        (numerals.seconds("6.42"), "6.4 s"),
        (numerals.seconds("75"), "1 min 15 s"),
        (numerals.seconds("3720"), "1 h 2 min"),
        (numerals.size("512"), "512 B"),
        (numerals.size("2140000"), "2.1 MB"),
        (str(numerals.digits_of(1)), "1"),
        (str(numerals.digits_of(0.1)), "2"),
        (str(numerals.digits_of(None, 1523.2)), "0"),
        (str(numerals.digits_of(None, 0.02)), "4"),
        (Label("x", "mm[Hg]").axis, "x (mmHg)"),
        (Label("x", "10*3/uL").axis, "x (10³/µL)"),
        (Label("x", "umol/L").axis, "x (µmol/L)"),
        (Label("x").axis, "x"),
    ],
)
def test_numbers_as_papers_print_them(made: str, expected: str) -> None:
    assert made == expected


def test_plain_text_fits_the_width(result: Result) -> None:
    text = to_text(result, 80)
    tables = text.split("\n\nWithheld\n")[0].split("\n\nAttrition")[1:]
    longest = max(len(line) for part in tables for line in part.splitlines())
    assert longest <= 92
    assert "(continued)" in text
    assert "65 or older" in text
    assert text.startswith("Blood pressure and glycaemia in type 2 diabetes (synthetic data)")


def test_terminal_shows_texts_as_they_are(result: Result) -> None:
    rows = tuple(replace(r, group_level="[red]\x1b[2Jx") for r in result.rows)
    out = io.StringIO()
    to_terminal(Result(rows, result.settings), Console(file=out, width=160))
    assert "[red]" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_markdown_cannot_be_broken_out_of() -> None:
    table = Table("T", "Stub", (Column("a|b", "over"),), (Line("<b>x</b>\n| y", ("[l](u)",)),))
    lines = markdown(table).splitlines()
    assert lines[0] == "| Stub | over: a\\|b |"
    assert len(lines) == 3
    assert "<b>" not in lines[2]
    assert "\\[l\\]" in lines[2]


def test_markdown_has_every_table(result: Result) -> None:
    text = to_markdown(result)
    assert "## Participation" in text
    assert "## Characteristics of the populations" in text
    assert "| **Persons, n** |" in text


def test_plain_aligns_numbers_to_the_right() -> None:
    table = Table("T", "S", (Column("n"),), (Line("a", ("1",)), Line("b", ("1,000",))))
    assert plain(table).splitlines()[4:6] == ["a      1", "b  1,000"]


def test_labels_that_are_not_json_are_ignored(result: Result) -> None:
    row = Row(1, "pooled", "population", "p", "overall", "overall", "some_thing", None,
              "mean", "numeric", "1", "overall", "overall")  # fmt: skip
    for text in ("{", "[1]", '{"some_thing": 3}', '{"some_thing": {"step": "x", "unit": null}}'):
        view = View(Result((row,), {1: {"result_type": "summary", "labels": text}}))
        assert table_ones(view)[0].lines
    assert View(Result((row,))).label("some_thing").label == "Some thing"
