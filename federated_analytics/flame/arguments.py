"""Arguments of the SDK's methods: checked, and refused with what to write instead."""

from __future__ import annotations

from typing import Any

from federated_analytics.flame.errors import InvalidArgument


def waiting_limit(max_attempts: int, timeout: float | None, attempt_timeout: float) -> float | None:
    """How long a sending waits for acknowledgements, in seconds; None: without a bound."""
    if isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 1:
        raise InvalidArgument(
            "max_attempts is a whole number.", where="max_attempts", remedy="Use 1 or more."
        )
    each = seconds(attempt_timeout, "attempt_timeout")
    total = seconds(timeout, "timeout")
    if total is None:
        return None
    return total if each is None else min(total, max_attempts * each)


def node_ids(nodes: Any, where: str) -> list[str]:
    """A list of node ids, each once; a single id is taken as a list of one."""
    if isinstance(nodes, str):
        return [nodes]
    try:
        return list(dict.fromkeys(str(node) for node in nodes))
    except TypeError:
        raise InvalidArgument(
            "Node ids come in a list.", where=where, remedy="Write ['node-a', 'node-b']."
        ) from None


def seconds(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise InvalidArgument(
            f"{where} is a number of seconds.", where=where, remedy="Use 0 or more, or None."
        )
    return float(value) if value < 1e9 else None


def check_text(value: Any, where: str) -> None:
    if not isinstance(value, str):
        raise InvalidArgument(f"{where} is a text.", where=where, remedy="Write 'results'.")


def check_choice(value: Any, allowed: tuple[str, ...], where: str) -> None:
    if value not in allowed:
        raise InvalidArgument(
            f"{value!r} is no {where}.",
            where=where,
            remedy=f"Use {', '.join(repr(name) for name in allowed)}.",
        )
