"""Figures are well-formed, say what they show, and never show what is withheld."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from federated_analytics.errors import FormatError
from federated_analytics.report.cells import View
from federated_analytics.report.figures import KINDS, Figure
from federated_analytics.report.figures.axes import Scale, nice_step, tick_text
from federated_analytics.report.figures.coverage import coverage
from federated_analytics.report.figures.svg import shortened, text_width, wrapped
from federated_analytics.report.result import Result
from tests.report.sample import sample

SVG = "{http://www.w3.org/2000/svg}"
ASKED = [
    ("hba1c", "histogram", ()),
    ("hba1c", "histogram", ("sex",)),
    ("hba1c", "histogram", ("sex", "age_group")),
    ("bmi", "box", ("sex", "age_group")),
    ("bmi", "box", ("site",)),
    ("bmi", "forest", ()),
    ("death", "survival", ()),
    ("death", "survival", ("sex",)),
    ("death", "survival", ("site",)),
    ("systolic_bp", "coefficients", ()),
    ("systolic_bp", "coefficients", ("sex",)),
    ("systolic_bp", "coefficients", ("site",)),
    ("smoking", "bars", ()),
    ("smoking", "bars", ("sex",)),
    ("", "bars", ()),
    ("", "prevalence", ()),
    ("", "coverage", ()),
    ("", "attrition", ()),
]


@pytest.fixture(scope="module")
def result() -> Result:
    return sample()


def texts(figure: Figure) -> list[str]:
    return ["".join(e.itertext()) for e in ET.fromstring(figure.svg).iter(f"{SVG}text")]


def coordinates(figure: Figure) -> Iterator[float]:
    for element in ET.fromstring(figure.svg).iter():
        for name in ("x", "x1", "x2", "cx"):
            if name in element.attrib:
                yield float(element.attrib[name])


@pytest.mark.parametrize("width", [330, 810])
@pytest.mark.parametrize(("variable", "kind", "by"), ASKED)
def test_well_formed_and_inside(
    result: Result, variable: str, kind: str, by: tuple[str, ...], width: int
) -> None:
    figure = result.plot(variable, kind, by, width=width)
    root = ET.fromstring(figure.svg)
    assert root.attrib["role"] == "img"
    assert root[0].tag == f"{SVG}title"
    assert root[0].text == figure.title
    assert "NaN" not in figure.svg
    assert "script" not in figure.svg
    assert all(-8 <= x <= width + 8 for x in coordinates(figure))


def test_every_kind_is_tried() -> None:
    assert {kind for _, kind, _ in ASKED} == set(KINDS)


def test_axis_has_label_and_unit(result: Result) -> None:
    assert "Body mass index (kg/m²)" in texts(result.plot("bmi", "forest"))
    assert "Haemoglobin A1c (%)" in texts(result.plot("hba1c", "histogram"))


def test_withheld_bins_are_hatched_and_hold_no_count(result: Result) -> None:
    figure = result.plot("hba1c", "histogram")
    hovers = [t.text or "" for t in ET.fromstring(figure.svg).iter(f"{SVG}title")]
    withheld = [text for text in hovers if ": <5 persons" in text]
    assert withheld
    assert any("Withheld: <5 persons" in text for text in texts(figure))
    none = [replace(r, estimate_value="10") if r.estimate_value == "<5" else r for r in result.rows]
    open_rows = tuple(
        replace(r, estimate_value="1.0") if r.estimate_value == "-" else r for r in none
    )
    shown = Result(open_rows, result.settings).plot("hba1c", "histogram")
    assert not any("Withheld" in text for text in texts(shown))


def test_groups_that_are_withheld_as_a_whole_have_no_panel(result: Result) -> None:
    titles = " ".join(texts(result.plot("hba1c", "histogram", "sex")))
    assert "Female (n = " in titles
    assert "Unknown" not in titles


def test_bars_are_as_high_as_their_percentages() -> None:
    rows = [r for r in sample().rows if r.variable_name == "hba1c" and r.additional]
    figure = sample().plot("hba1c", "histogram", width=800)
    root = ET.fromstring(figure.svg)
    bars = {
        (e.findtext(f"{SVG}title") or "").split(":")[0]: float(e.attrib["height"])
        for e in root.iter(f"{SVG}rect")
        if e.attrib.get("class") == "f-s0" and e.find(f"{SVG}title") is not None
    }
    place = [r for r in rows if r.cdm_name == "pooled" and r.group_level == "Type 2 diabetes"]
    shares = {
        r.variable_level: float(r.estimate_value)
        for r in place
        if r.estimate_name == "percentage" and not r.strata and r.variable_level in bars
    }
    ratios = {bars[str(level)] / share for level, share in shares.items()}
    assert len(shares) > 5
    assert max(ratios) / min(ratios) == pytest.approx(1, rel=0.01)


def test_forest_shows_every_site_and_the_pooled_mean(result: Result) -> None:
    shown = texts(result.plot("bmi", "forest", width=800))
    assert {"hospital-a", "hospital-b", "hospital-c", "Pooled"} <= set(shown)
    rows = {
        r.estimate_name: float(r.estimate_value)
        for r in result.select(cdm_name="pooled", variable_name="bmi", result_type="summary").rows
        if r.group_level == "Type 2 diabetes" and not r.strata and r.estimate_type == "numeric"
    }
    text = f"{rows['mean']:.2f} ({rows['conf_low']:.2f} to {rows['conf_high']:.2f})"
    assert text in shown


def test_coverage_of_few_missing_is_a_bound(result: Result) -> None:
    cell = next(c for c in View(result).of("summary") if c.text("count_missing") == "<5")
    few = replace(cell, estimates={"count": "96", "count_missing": "<5", "percentage_missing": "-"})
    assert coverage(few) == (96.0, "≥96")
    unknown = {"count": "-", "count_missing": "-", "percentage_missing": "-"}
    assert coverage(replace(cell, estimates=unknown)) == (None, "–")
    almost = {"count": "9999", "count_missing": "30", "percentage_missing": "0.3"}
    assert coverage(replace(cell, estimates=almost))[1] == "99"


def test_two_analyses_of_one_feature_do_not_mix(result: Result) -> None:
    other = tuple(
        replace(r, result_id=50, variable_level="[0, 100)", additional_level="0 &&& 100")
        for r in result.select(result_type="histogram").rows
        if r.additional_level == "4 &&& 4.5"
    )
    both = Result((*result.rows, *other), {**result.settings, 50: {"result_type": "histogram"}})
    assert both.plot("hba1c", "histogram") == result.plot("hba1c", "histogram")
    assert "[0, 100)" in both.plot("hba1c", "histogram", result_id=50).svg


def test_first_kind_that_answers(result: Result) -> None:
    assert result.plot("hba1c").title.startswith("Distribution")
    assert result.plot("bmi").title.startswith("Quantiles")
    assert result.plot("smoking").title.startswith("Smoking status")
    assert result.plot(population="Everyone").title.endswith("Everyone")


@pytest.mark.parametrize(
    ("variable", "kind", "remedy"),
    [("bmy", "", "bmi"), ("bmi", "histgram", "histogram"), ("bmi", "histogram", "analysis")],
)
def test_what_cannot_be_drawn_is_explained(
    result: Result, variable: str, kind: str, remedy: str
) -> None:
    with pytest.raises(FormatError, match=remedy):
        result.plot(variable, kind)


def test_empty_result_has_no_figure() -> None:
    with pytest.raises(FormatError):
        Result(()).plot()


def test_hostile_names_stay_text(result: Result) -> None:
    evil = '</text><script>alert("1")</script>&\x00]]>'
    rows = tuple(
        replace(
            r,
            cdm_name=evil if r.cdm_name != "pooled" else r.cdm_name,
            strata_level=r.strata_level.replace("Female", evil),
            variable_level=r.variable_level.replace("Never", evil) if r.variable_level else None,
        )
        for r in result.rows
    )
    hostile = Result(rows, result.settings)
    for variable, kind, by in ASKED:
        root = ET.fromstring(hostile.plot(variable, kind, by).svg)
        assert not list(root.iter(f"{SVG}script"))


def test_save_writes_the_svg(result: Result, tmp_path: Path) -> None:
    figure = result.plot("bmi", "forest")
    assert figure.save(tmp_path / "forest.svg").read_text() == figure.svg
    assert figure._repr_svg_() == figure.svg


def test_inline_leaves_style_and_ground_to_the_page(result: Result) -> None:
    inline = result.plot("bmi", "forest").inline()
    assert "<style>" not in inline
    assert "http" not in inline
    assert not re.search(r'<rect class="f-paper" x="-8"', inline)


def test_ticks_are_round() -> None:
    assert Scale(0, 10, 0, 100).ticks(5) == [0, 2, 4, 6, 8, 10]
    assert Scale(3.97, 4.31, 0, 100).ticks(4) == [4.0, 4.1, 4.2, 4.3]
    assert Scale(5, 5, 0, 10).ticks() == [5]
    assert Scale(5, 5, 0, 10)(5) == 5
    assert [nice_step(x) for x in (0.013, 1.0, 4.2, 70)] == [0.02, 1.0, 5.0, 100.0]
    assert tick_text(-1200.0) == "−1,200"


def test_texts_are_cut_to_their_room() -> None:
    assert shortened("short", 100) == "short"
    cut = shortened("a very long name of a concept", 80)
    assert cut.endswith("…")
    assert text_width(cut) <= 80
    assert wrapped("one two three four five six", 60, lines=2)[-1].endswith("…")
    assert wrapped("", 60) == [""]
