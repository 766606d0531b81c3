"""Which persons a count is of: what lets a rule see that one count follows from others."""

from __future__ import annotations

Interval = tuple[float, float]
"""[low, high) of a numeric dimension; (-inf, inf) is everybody with a value."""

Condition = tuple[str, str | Interval]
"""A dimension (a feature or stratum by its canonical name) and one of its levels."""

PersonSet = frozenset[Condition]
"""Persons for whom every condition holds; empty for the whole population.

A dimension stands at most once in a set. Two sets of one dimension may overlap only where both
name intervals of it; levels exclude each other, and every level excludes every interval.
"""

MISSING = "(missing)"
"""The level of persons without a value, in a dimension of numbers."""
