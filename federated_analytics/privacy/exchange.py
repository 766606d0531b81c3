"""R14 for scripts: what of a script's bundle may leave, where its own messages may not.

A bundle is what a node's host hands to the hub (`flame.letters`): numbered letters. Where the
policy lets no message of a script's own making leave, a letter keeps only what the site's own
runtime wrote into it, or what the policy released.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Letter = Mapping[str, Any]

STATUSES = frozenset({"starting", "running", "finished", "failed", "stopped", "absent"})
WITHHELD: Letter = {"kind": "withheld"}
"""Keeps a letter's number, so that those behind it still arrive in order."""


def _status(letter: Letter) -> Letter:
    status = letter.get("status")
    reason = "the site's own log says why" if status == "failed" else ""
    return {
        "kind": "status",
        "status": status if status in STATUSES else "failed",
        "reason": reason,
    }


def _hello(letter: Letter) -> Letter:
    public = str(letter.get("public"))
    voucher = str(letter.get("voucher", ""))
    if not _is_hex(public, 64) or (not _is_hex(voucher, 128) and voucher):
        return WITHHELD
    return {"kind": "hello", "public": public, "voucher": voucher}


def _is_hex(text: str, length: int) -> bool:
    return len(text) == length and all(c in "0123456789abcdef" for c in text)


def _acknowledge(letter: Letter) -> Letter:
    # Both were given by the sender of the message, through the hub.
    return {key: str(letter.get(key))[:100] for key in ("kind", "id", "sender")}


def _release(letter: Letter) -> Letter:
    return {key: letter.get(key) for key in ("kind", "id", "recipients", "release")}


_KEPT: Mapping[str, Callable[[Letter], Letter]] = {
    "status": _status,
    "hello": _hello,
    "acknowledge": _acknowledge,
    "ended": lambda letter: {"kind": "ended"},
    "asked": lambda letter: {"kind": "asked", "nodes": letter.get("nodes")},
    "release": _release,
}


def restrained(bundle: Mapping[str, Any]) -> dict[str, Any]:
    """A bundle without what a script could have written: messages, objects, logs, progress."""
    letters = [[number, _restrained(letter)] for number, letter in bundle["letters"]]
    return {"confirmed": int(bundle["confirmed"]), "letters": letters}


def _restrained(letter: Letter) -> Letter:
    keep = _KEPT.get(str(letter.get("kind")))
    return WITHHELD if keep is None else keep(letter)
