"""The original's reduces, by name. Here a client merges aggregates, which know how themselves."""

from __future__ import annotations

NAMES = ("sum", "min", "max", "union")
