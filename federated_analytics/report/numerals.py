"""Numbers as papers print them."""

from __future__ import annotations

import math

from federated_analytics.report.cells import number

WITHHELD = "–"
UNDEFINED = "n/a"


def placeholder(text: str) -> str | None:
    """What stands for a text that is no number: "<5" itself, – where withheld, n/a; else None."""
    if number(text) is not None:
        return None
    if text.startswith("<"):
        return text
    return UNDEFINED if text in ("NA", "NaN", "") else WITHHELD


def count(text: str) -> str:
    """A whole number with thousands separators: "12345" → "12,345"; "<5" stays."""
    other = placeholder(text)
    return f"{float(text):,.0f}" if other is None else other


def decimal(text: str, digits: int) -> str:
    """A number with `digits` decimals and thousands separators."""
    other = placeholder(text)
    if other is not None:
        return other
    shown = f"{float(text):,.{digits}f}"
    if float(text) and not any(c in shown for c in "123456789"):
        return f"{float(text):.2g}".replace("-", "−")
    return shown.replace("-", "−")


def percent(text: str) -> str:
    """A percentage with one decimal: "12.34" → "12.3"; above 0 never "0.0"."""
    other = placeholder(text)
    if other is not None:
        return other
    value = float(text)
    if 0 < value < 0.05:
        return "<0.1"
    return ">99.9" if 99.95 <= value < 100 else f"{value:.1f}"


def digits_of(step: float | None, *values: float | None) -> int:
    """Decimals for the means of a feature: one more than its resolution shows.

    Args:
        step: the feature's resolution; None where it is not known.
        values: numbers from which the decimals are judged where the resolution is not known.
    """
    if step is not None:
        return max(0, min(6, -math.floor(math.log10(step) + 1e-9))) + 1
    largest = max((abs(v) for v in values if v is not None), default=0.0)
    if largest >= 1000:
        return 0
    if largest >= 10:
        return 1
    if largest >= 1 or largest == 0:
        return 2
    return min(8, 2 - math.floor(math.log10(largest)))


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power(text: str) -> str:
    """A very small number: "1e-06" → "10⁻⁶", "2.5e-07" → "2.5 × 10⁻⁷"."""
    value = number(text)
    if not value:
        return WITHHELD if value is None else "0"
    factor, exponent = f"{value:.2e}".split("e")
    raised = f"10{str(int(exponent)).translate(_RAISED)}"
    factor = factor.rstrip("0").rstrip(".")
    return raised if factor == "1" else f"{factor} × {raised}"


def seconds(text: str) -> str:
    """A duration: "0.42" → "0.4 s", "75" → "1 min 15 s"."""
    value = number(text)
    if value is None:
        return WITHHELD
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(text: str) -> str:
    """A number of bytes: "3210" → "3.2 kB"."""
    value = number(text)
    if value is None:
        return WITHHELD
    for unit, factor in (("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{value / factor:.1f} {unit}"
    return f"{value:.0f} B"
