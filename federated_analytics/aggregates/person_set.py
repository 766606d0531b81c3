"""Which persons a count is of: what lets a rule see that one count follows from others."""

from __future__ import annotations

import math

Interval = tuple[float, float]
"""[low, high) of a numeric dimension; (-inf, inf) is everybody with a value."""

Condition = tuple[str, str | Interval]
"""A dimension (a feature or stratum by its canonical name) and one of its levels."""

PersonSet = frozenset[Condition]
"""Persons for whom every condition holds; empty for the whole population.

A dimension stands at most once in a set. Two sets of one dimension may overlap only where both
name intervals of it; levels exclude each other, and every level excludes every interval.
"""

OTHER_WHOLE = "whole:"
"""How the name of a dimension begins that does not divide the population but something wider."""

MISSING = "(missing)"
"""The level of persons without a value, in a dimension of numbers."""

ANY_VALUE: Interval = (-math.inf, math.inf)
"""Everybody with a value, in a dimension of numbers."""
