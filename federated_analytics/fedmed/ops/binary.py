"""The original's operations on rows, by name, and what each is in an expression."""

from __future__ import annotations

NAMES = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "div": "div",
    "truediv": "div",
    "pow": "pow",
    "eq": "eq",
    "ne": "ne",
    "lt": "lt",
    "le": "le",
    "gt": "gt",
    "ge": "ge",
    "abs": "abs",
    "neg": "neg",
    "and": "and",
    "or": "or",
    "not": "not",
    "round": "round",
}
