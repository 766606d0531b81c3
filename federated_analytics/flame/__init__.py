"""FLAME analysis scripts, unchanged, on one machine or on a Flower federation."""

from __future__ import annotations
