"""What became of each site in a study, under a name that no other has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from federated_analytics.messages import Disclosure, Refusal

ANSWERED, REFUSED, FAILED, NO_ANSWER = "answered", "refused", "failed", "no_answer"


@dataclass(frozen=True)
class Participation:
    """What became of one site.

    Fields:
        disclosure: what it released; None where it did not
        refusal: why not; None where it did
        note: what a reader of its numbers must know, such as a database shared with another
    """

    site: str
    status: str
    seconds: float
    bytes_sent: int
    bytes_received: int
    disclosure: Disclosure | None = None
    refusal: Refusal | None = None
    note: str = ""


def site_name(own: str, address: str) -> str:
    """The site's own name, cut and cleaned; or one made of its address."""
    clean = "".join(c for c in own if c.isprintable())[:60].strip()
    if clean and clean.lower() not in ("pooled", "na"):
        return clean
    tail = address[-6:] if address.isdecimal() else address
    return f"site-{tail}"[:60]


def noted(found: Sequence[Participation]) -> tuple[Participation, ...]:
    """Unique names, and a note where two sites read one database."""
    told: list[Participation] = []
    names: dict[str, int] = {}
    databases: dict[str, str] = {}
    for p in found:
        names[p.site] = names.get(p.site, 0) + 1
        name = p.site if names[p.site] == 1 else f"{p.site} ({names[p.site]})"
        note = ""
        if p.disclosure is not None and p.disclosure.database:
            first = databases.setdefault(p.disclosure.database, name)
            if first != name:
                note = f"reads the same database as {first}: its persons are counted twice"
        told.append(replace(p, site=name, note=note))
    return tuple(told)
