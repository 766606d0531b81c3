"""Scales, axes and legends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from federated_analytics.report.figures.svg import Drawing, text_width


@dataclass(frozen=True)
class Scale:
    """Maps numbers between `low` and `high` to pixels between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 6) -> list[float]:
        """About `count` round numbers from low to high."""
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        step = nice_step(span / max(1, count))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(i * step, 12) for i in range(first, last + 1)]


def nice_step(rough: float) -> float:
    """The smallest of 1, 2, 5 × a power of ten that is at least `rough`."""
    power = float(10 ** math.floor(math.log10(rough)))
    return next(power * f for f in (1, 2, 5, 10) if power * f >= rough * (1 - 1e-9))


def tick_text(value: float) -> str:
    """A tick's number: "1,200", "0.25"."""
    text = f"{value:,.10g}" if abs(value) >= 1 else f"{value:.10g}"
    return text.replace("-", "−")


def x_axis(drawing: Drawing, scale: Scale, y: float, top: float, label: str = "") -> None:
    """Ticks with faint lines up to `top`, and the axis's label."""
    room = abs(scale.end - scale.start)
    for tick in scale.ticks(max(2, int(room / 52))):
        x = scale(tick)
        drawing.line(x, top, x, y, stroke="rule")
        drawing.text(x, y + 15, tick_text(tick), anchor="middle", fill="soft", size=11)
    if label:
        middle = (scale.start + scale.end) / 2
        drawing.text(middle, y + 33, label, anchor="middle", fill="soft", room=room)


def legend(drawing: Drawing, x: float, y: float, entries: Sequence[tuple[str, str]]) -> float:
    """Names with their colours, wrapped to the drawing's width; returns the y below."""
    left = x
    for name, colour in entries:
        width = min(text_width(name) + 34, drawing.width - left)
        if x > left and x + width > drawing.width:
            x, y = left, y + 18
        if colour == "withheld":
            drawing.hatched(x, y - 10, 12, 12, colour="soft")
        else:
            drawing.rect(x, y - 10, 12, 12, fill=colour, radius=2)
        drawing.text(x + 17, y, name, fill="soft", room=drawing.width - x - 17)
        x += width + 8
    return y + 12
