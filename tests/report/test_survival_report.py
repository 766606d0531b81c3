"""Survival in tables and figures, against scipy's estimate of the same persons."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from scipy import stats

from federated_analytics.report.cells import View
from federated_analytics.report.result import Result
from federated_analytics.report.survival import curves, survival_tables, ticks, time_text
from tests.report.outcomes import EVERYONE, SVG, cells_of, exits, texts
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


def kaplan_meier(persons: list[Person], day: float) -> float:
    """Survival after a day, of the exact days, by scipy."""
    found = exits(persons)
    died = [d for d, happened in found if happened]
    left = [d for d, happened in found if not happened]
    curve = stats.ecdf(stats.CensoredData(uncensored=died, right=left)).sf
    return float(curve.evaluate(day))


def test_survival_table_is_kaplan_meiers(view: View, persons: list[Person]) -> None:
    table = survival_tables(view, EVERYONE)[0]
    assert [c.label for c in table.columns][3:] == ["1 year", "3 years", "5 years"]
    found = view.own("survival", site="pooled", population=EVERYONE)
    for label, group in (
        ("Overall", persons),
        ("Sex: Female", [p for p in persons if p["sex"] == "Female"]),
    ):
        texts = cells_of(table, label)
        assert texts[0] == f"{len(group):,}"
        events = sum(happened and day <= 1_825 for day, happened in exits(group))
        assert texts[1] == f"{events:,}"
        strata = () if label == "Overall" else (("sex", "Female"),)
        allowed = curves(found, [strata])[0].uncertainty
        for day, text in zip((365, 1_095, 1_825), texts[3:], strict=True):
            share, low, high = (float(n) / 100 for n in re.findall(r"[\d.]+", text))
            assert low < share < high
            assert share == pytest.approx(kaplan_meier(group, day), abs=allowed + 0.0006)
        assert allowed < 0.03


def test_withheld_curve_is_named_and_not_drawn(result: Result, view: View) -> None:
    table = survival_tables(view, EVERYONE)[0]
    assert cells_of(table, "Sex: Unknown") == ("<5", *["–"] * 5)
    figure = result.plot("death", "survival", "sex", population=EVERYONE)
    assert any("Withheld: Unknown" in text for text in texts(figure))
    assert {"Female", "Male"} <= set(texts(figure))
    assert "Unknown" not in texts(figure)


def test_number_at_risk(result: Result, view: View, persons: list[Person]) -> None:
    found = view.own("survival", site="pooled", population=EVERYONE)
    curve = curves(found, [()])[0]
    days = [day for day, _ in exits(persons)]
    shown = texts(result.plot("death", "survival", population=EVERYONE))
    for tick in ticks(1_825, 6):
        text = curve.at_risk(tick)
        at = max(edge for edge in range(0, 1_826, 73) if edge <= tick)
        true = len(days) if tick == 0 else sum(day > at for day in days)
        told = int(text.removeprefix("≤").replace(",", ""))
        assert told >= true if text.startswith("≤") else told == true
        assert text in shown


def test_curve_is_drawn_where_the_rows_say(result: Result, view: View) -> None:
    root = ET.fromstring(result.plot("death", "survival", population=EVERYONE).svg)
    line = next(e for e in root.iter(f"{SVG}path") if e.attrib.get("stroke-width") == "2")
    corners = [tuple(map(float, p.split(" "))) for p in line.attrib["d"][1:].split("L")]
    ys = [y for _, y in corners]
    assert ys == sorted(ys)
    found = view.own("survival", site="pooled", population=EVERYONE)
    points = curves(found, [()])[0].points
    drawn = [y for _, y in corners[2::2]]
    values = [cell.number("survival") or 0 for cell in points]
    assert len(drawn) == len(values) == 26
    fitted = stats.linregress(values, drawn)
    assert abs(fitted.rvalue) == pytest.approx(1, abs=1e-6)
    assert fitted.slope * 0.8 + fitted.intercept == pytest.approx(axis(root)["80"], abs=0.1)


def axis(root: ET.Element) -> dict[str, float]:
    """Heights of the vertical axis's ticks, by their text."""
    found = (e for e in root.iter(f"{SVG}text") if e.attrib.get("text-anchor") == "end")
    return {str(e.text): float(e.attrib["y"]) - 4 for e in found}


def test_joined_steps_are_said_and_their_bounds_drawn(result: Result, view: View) -> None:
    """Hospital C is small, so that its steps are joined; hospital A and B have no such gaps."""
    found = view.own("survival", site="hospital-c", population=EVERYONE)
    curve = curves(found, [()])[0]
    assert 0 < sum(curve.known) < len(curve.points)
    figure = result.plot("death", "survival", population=EVERYONE, site="hospital-c")
    root = ET.fromstring(figure.svg)
    dots = [e for e in root.iter(f"{SVG}rect") if e.attrib.get("rx") == "3.5"]
    assert len(dots) == sum(curve.known)
    dotted = [e for e in root.iter(f"{SVG}path") if e.attrib.get("stroke-dasharray") == "1.5 2.5"]
    assert len(dotted) == 2
    note = " ".join(texts(figure))
    assert f"at most {100 * curve.uncertainty:.1f} percentage points" in note
    assert "a dot marks the end of a step" in note
    assert any(text.startswith("≤") for text in texts(figure))


def test_band_falls_and_holds_the_curve(view: View) -> None:
    found = [c for c in view.of("survival") if c.population == EVERYONE and not c.strata]
    every = curves(found, (), by_site=True)
    assert [curve.label for curve in every] == ["Pooled", *SITES]
    for curve in every:
        lows, highs = zip(*curve.band, strict=True)
        assert list(lows) == sorted(lows, reverse=True)
        assert list(highs) == sorted(highs, reverse=True)
        for cell, (low, high) in zip(curve.points, curve.band, strict=True):
            assert low <= (cell.number("survival") or 0) <= high


def test_curves_differ_in_colour_and_in_line(result: Result) -> None:
    root = ET.fromstring(result.plot("death", "survival", "site", population=EVERYONE).svg)
    lines = [e for e in root.iter(f"{SVG}path") if e.attrib.get("stroke-width") == "2"]
    assert len(lines) == 4
    assert len({e.attrib["stroke"] for e in lines}) == 4
    assert len({e.attrib.get("stroke-dasharray") for e in lines}) == 4
    description = root.findtext(f"{SVG}desc") or ""
    assert "Pooled: " in description
    assert "% on day 1,825" in description


def test_times_are_round() -> None:
    assert [time_text(t, 1_825) for t in ticks(1_825, 6)] == ["0", "1", "2", "3", "4", "5"]
    assert [time_text(t, 3_650) for t in ticks(3_650, 6)] == ["0", "2", "4", "6", "8", "10"]
    assert ticks(365, 6) == [0, 60, 120, 180, 240, 300, 360]
    assert ticks(1, 6) == [0, 1]
