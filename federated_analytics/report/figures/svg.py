"""Drawings in SVG: small, sharp in print, readable in light and dark, without scripts."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

# Okabe & Ito's palette, which colour-blind readers can tell apart, with lighter twins for dark.
COLOURS = {
    "ink": ("#1d2733", "#e8edf2"),
    "soft": ("#5a6672", "#a3b0bd"),
    "rule": ("#d9dfe5", "#37424e"),
    "track": ("#edf1f4", "#2a343f"),
    "paper": ("#ffffff", "#171d24"),
    "s0": ("#0072b2", "#56a9e0"),
    "s1": ("#d55e00", "#f2894a"),
    "s2": ("#009e73", "#3fc79f"),
    "s3": ("#b0568f", "#e09cc6"),
    "s4": ("#b98200", "#f0bd55"),
    "s5": ("#3f9fd6", "#9ad4f5"),
}
SERIES = tuple(name for name in COLOURS if name.startswith("s") and name[1:].isdigit())
FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"
PAD = 8
CONTROL = re.compile(r"[\x00-\x1f\x7f\ufffe\uffff]")


def _style() -> str:
    dark = "".join(
        f".fa .f-{name}{{fill:{colour}}}.fa .k-{name}{{stroke:{colour}}}"
        for name, (_, colour) in COLOURS.items()
    )
    return f"<style>@media screen and (prefers-color-scheme:dark){{{dark}}}</style>"


STYLE = _style()


@dataclass(frozen=True)
class Figure:
    """A finished figure.

    Fields:
        svg: an SVG document of its own
        title: what it shows, in one line
    """

    svg: str
    title: str

    def save(self, path: str | Path) -> Path:
        """Write the SVG file."""
        from federated_analytics.report.formats import write_text

        return write_text(Path(path), self.svg)

    def inline(self) -> str:
        """The SVG for a page that holds `STYLE` and gives the background."""
        bare = self.svg.replace(STYLE, "").replace(' xmlns="http://www.w3.org/2000/svg"', "")
        return re.sub(r'<rect class="f-paper"[^>]*/>', "", bare, count=1)

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        return f'<div style="max-width:760px">{self.svg}</div>'


class Drawing:
    """Collects marks; coordinates in CSS pixels from the upper left corner."""

    def __init__(self, width: float, title: str, description: str = "") -> None:
        self.width = width
        self.height = 0.0
        self.title = title
        self.description = description
        self._marks: list[str] = []

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str = "",
        stroke: str = "",
        opacity: float = 1.0,
        radius: float = 0.0,
        hover: str = "",
    ) -> None:
        shape = f'x="{_n(x)}" y="{_n(y)}" width="{_n(max(0, width))}" height="{_n(max(0, height))}"'
        if radius:
            shape += f' rx="{_n(radius)}"'
        self._add("rect", shape + _paint(fill, stroke, opacity=opacity), y + height, hover)

    def line(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        *,
        stroke: str = "rule",
        width: float = 1.0,
        dash: str = "",
        hover: str = "",
    ) -> None:
        shape = f'x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}"'
        self._add("line", shape + _paint("", stroke, width, dash), max(y1, y2), hover)

    def path(
        self,
        points: Sequence[tuple[float, float]],
        *,
        fill: str = "",
        stroke: str = "",
        width: float = 1.5,
        dash: str = "",
        opacity: float = 1.0,
        closed: bool = False,
        hover: str = "",
    ) -> None:
        if not points:
            return
        text = "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points) + ("Z" if closed else "")
        lowest = max(y for _, y in points)
        self._add("path", f'd="{text}"' + _paint(fill, stroke, width, dash, opacity), lowest, hover)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        anchor: str = "start",
        fill: str = "ink",
        size: float = 12.0,
        bold: bool = False,
        room: float = 0.0,
    ) -> None:
        """A line of text on the baseline `y`; shortened to `room` pixels, then shown on hover."""
        shown = shortened(text, room, size, bold) if room else text
        weight = ' font-weight="600"' if bold else ""
        place = f'x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}"{weight}'
        if anchor != "start":
            place += f' text-anchor="{anchor}"'
        inner = _escape(shown)
        if shown != text:
            inner = f"<title>{_escape(text)}</title>{inner}"
        self._marks.append(f"<text {place}{_paint(fill, '')}>{inner}</text>")
        self.height = max(self.height, y + size / 3)

    def hatched(
        self, x: float, y: float, width: float, height: float, *, colour: str, hover: str = ""
    ) -> None:
        """A rectangle with diagonal lines: something is there that is not shown."""
        self.rect(x, y, width, height, fill=colour, opacity=0.12, hover=hover)
        for x1, y1, x2, y2 in _diagonals(x, y, width, height):
            self.line(x1, y1, x2, y2, stroke=colour, width=1)

    def finish(self) -> Figure:
        """The figure, as high as its lowest mark, with a margin on all sides."""
        wide, high = _n(self.width + 2 * PAD), math.ceil(self.height) + 2 * PAD
        described = f"<desc>{_escape(self.description)}</desc>" if self.description else ""
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="fa" role="img" '
            f'viewBox="{-PAD} {-PAD} {wide} {high}" width="{wide}" height="{high}" '
            f'style="max-width:100%;height:auto" font-family="{FONT}">'
            f"<title>{_escape(self.title)}</title>{described}{STYLE}"
            f'<rect class="f-paper" x="{-PAD}" y="{-PAD}" width="{wide}" height="{high}" '
            f'fill="{COLOURS["paper"][0]}"/>{"".join(self._marks)}</svg>'
        )
        return Figure(svg, self.title)

    def _add(self, name: str, attributes: str, lowest: float, hover: str) -> None:
        self.height = max(self.height, lowest)
        if hover:
            self._marks.append(f"<{name} {attributes}><title>{_escape(hover)}</title></{name}>")
        else:
            self._marks.append(f"<{name} {attributes}/>")


def text_width(text: str, size: float = 12.0, bold: bool = False) -> float:
    """About how wide a text is, in pixels."""
    units = 0.0
    for char in text:
        if char in "iljtfrI.,:;'|![]() ":
            units += 0.32
        elif char in "mwMW%@—":
            units += 0.88
        elif ord(char) > 0x2E80:
            units += 1.0
        else:
            units += 0.7 if char.isupper() else 0.6
    return units * size * (1.06 if bold else 1.0)


def shortened(text: str, room: float, size: float = 12.0, bold: bool = False) -> str:
    """The text, cut with an ellipsis where it is wider than `room` pixels."""
    text = text[:400]
    if text_width(text, size, bold) <= room:
        return text
    while text and text_width(text + "…", size, bold) > room:
        text = text[:-1]
    return text.rstrip() + "…"


def wrapped(text: str, room: float, size: float = 12.0, lines: int = 3) -> list[str]:
    """The text on at most `lines` lines of `room` pixels."""
    found: list[str] = []
    for word in text[:1000].split():
        if found and text_width(f"{found[-1]} {word}", size) <= room:
            found[-1] += f" {word}"
        else:
            found.append(word)
    if len(found) > lines:
        found = [*found[: lines - 1], " ".join(found[lines - 1 :])]
    return [shortened(line, room, size) for line in found] or [""]


def _diagonals(
    x: float, y: float, width: float, height: float
) -> list[tuple[float, float, float, float]]:
    found, offset, gap = [], 2.5, 5.0
    while offset < width + height:
        x1, y1 = (offset, 0.0) if offset <= width else (width, offset - width)
        x2, y2 = (0.0, offset) if offset <= height else (offset - height, height)
        found.append((x + x1, y + y1, x + x2, y + y2))
        offset += gap
    return found


def _paint(fill: str, stroke: str, width: float = 1.0, dash: str = "", opacity: float = 1.0) -> str:
    classes = [f"f-{fill}"] * bool(fill) + [f"k-{stroke}"] * bool(stroke)
    text = f' class="{" ".join(classes)}"' if classes else ""
    text += f' fill="{COLOURS[fill][0]}"' if fill else ' fill="none"'
    if stroke:
        text += f' stroke="{COLOURS[stroke][0]}" stroke-width="{_n(width)}"'
    if dash:
        text += f' stroke-dasharray="{dash}"'
    return text + (f' opacity="{_n(opacity)}"' if opacity < 1 else "")


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if math.isfinite(value) else "0"


def _escape(text: str) -> str:
    return escape(CONTROL.sub("�", text[:2000]), quote=True)
