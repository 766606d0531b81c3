"""The report: one file, no reference to anything outside, hostile texts inert, no overflow."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from federated_analytics.report.html import render
from federated_analytics.report.result import Result
from tests.report.sample import failed, sample

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&{{ 7*7 }}\x00\x1b"
VOID = {"meta", "img", "link", "br", "hr", "input"}
FORBIDDEN = {"script", "iframe", "object", "embed", "link", "base", "form", "img"}


class Reader(HTMLParser):
    """Checks that tags nest, and keeps what the page could load or run."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name.startswith("on"):
                self.handlers.append(name)
            if name in ("src", "href", "srcset", "action", "data", "xlink:href"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert not reader.open
    assert not FORBIDDEN & set(reader.tags)
    assert not reader.handlers
    assert len(set(reader.ids)) == len(reader.ids)
    return reader


@pytest.fixture(scope="module")
def result() -> Result:
    return sample()


@pytest.fixture(scope="module")
def page(result: Result) -> str:
    return render(result)


def test_nothing_outside_is_referenced(page: str) -> None:
    reader = read(page)
    assert all(link.startswith(("#", "data:text/csv")) for link in reader.links)
    targets = {link[1:] for link in reader.links if link.startswith("#")}
    assert targets <= set(reader.ids)
    assert "http://" not in page
    assert "https://" not in page
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in unescape(page)


def test_says_who_took_part_and_why_not(page: str) -> None:
    text = " ".join(read(page).text)
    assert "3 of 4" in text
    assert "database_timeout" in text
    assert "raise deadline-seconds" in text
    assert "same database as hospital-b" in text


def test_holds_numbers_methods_study_and_synthetic_banner(page: str) -> None:
    text = " ".join(read(page).text)
    assert "2,500" in text
    assert "Synthetic data" in text
    assert "STAN-CS-79-773" in text
    assert "Flower 1.41.0" in text
    assert "withheld 220 numbers" in text
    assert 'name = "Blood pressure and glycaemia in type 2 diabetes"' in text


def test_csv_travels_in_the_page(page: str, result: Result, tmp_path: Path) -> None:
    link = next(x for x in read(page).links if x.startswith("data:"))
    path = tmp_path / "result.csv"
    path.write_bytes(base64.b64decode(link.split(",", 1)[1]))
    assert Result.load(path) == result


def test_same_result_same_page(page: str, result: Result) -> None:
    assert render(result) == page


@pytest.mark.parametrize("make", [failed, lambda: Result(()), lambda: Result((), {}, "x = 1")])
def test_renders_without_numbers(make: type[Result]) -> None:
    text = " ".join(read(render(make())).text)
    assert "No site answered" in text


def test_every_result_type_alone_renders(result: Result) -> None:
    for settings in result.settings.values():
        read(render(result.select(result_type=settings["result_type"])))


def test_one_site_alone_renders(result: Result) -> None:
    text = " ".join(read(render(result.select(cdm_name="hospital-c"))).text)
    assert "240" in text


def test_hostile_texts_stay_text(result: Result) -> None:
    rows = tuple(
        replace(
            r,
            cdm_name=r.cdm_name if r.cdm_name == "pooled" else r.cdm_name + EVIL,
            group_level=r.group_level + EVIL,
            strata_level=r.strata_level.replace("Male", EVIL),
            variable_name=r.variable_name.replace("bmi", EVIL),
            variable_level=None if r.variable_level is None else r.variable_level + EVIL,
            estimate_value=EVIL if r.estimate_type == "character" else r.estimate_value,
        )
        for r in result.rows
    )
    settings = {
        i: {k: v if k in ("result_type", "labels") else EVIL for k, v in values.items()}
        for i, values in result.settings.items()
    }
    page = render(Result(rows, settings, f"{EVIL}\n</code></pre>"))
    text = " ".join(read(page).text)
    assert "<script>alert(1)</script>" in text
    assert "{{ 7*7 }}" in text
    assert "\x00" not in page
    assert "\x1b" not in page


def test_hostile_labels_stay_text(result: Result) -> None:
    labels = '{"bmi": {"label": "<script>x</script>", "unit": "</title><script>"}}'
    settings = {i: {**values, "labels": labels} for i, values in result.settings.items()}
    read(render(Result(result.rows, settings)))


def test_report_writes_the_page(result: Result, page: str, tmp_path: Path) -> None:
    assert result.report(tmp_path / "deep" / "report.html").read_text() == page


def test_notebook_view_is_compact_and_inert(result: Result) -> None:
    fragment = result._repr_html_()
    reader = read(fragment)
    assert "3 of 4 sites answered" in " ".join(reader.text)
    assert len(fragment) < 60_000
    rows = tuple(replace(r, cdm_name=r.cdm_name + EVIL) for r in result.rows)
    read(Result(rows, result.settings)._repr_html_())
    read(Result(())._repr_html_())


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PROBE = """<!DOCTYPE html><body style="margin:0"><iframe id="f" src="report.html"
style="width:{width}px;height:2000px;border:0"></iframe><pre id="o">waiting</pre><script>
onload = () => {{ const d = document.getElementById("f").contentDocument.documentElement;
document.getElementById("o").textContent = "measured " + d.scrollWidth; }}</script>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_no_horizontal_overflow(page: str, tmp_path: Path, width: int) -> None:
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    (tmp_path / "probe.html").write_text(PROBE.format(width=width), encoding="utf-8")
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", "--allow-file-access-from-files", "--window-size=1400,1200",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--dump-dom",
        (tmp_path / "probe.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    measured = re.search(r'<pre id="o">measured (\d+)</pre>', done.stdout)
    assert measured, done.stderr[-500:]
    assert int(measured.group(1)) <= width
