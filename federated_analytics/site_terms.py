"""What sites say of their policies before anything is asked."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from federated_analytics import wire
from federated_analytics.couriers import Courier
from federated_analytics.errors import FederatedAnalyticsError, NoSites
from federated_analytics.exchange import released
from federated_analytics.messages import Request, Terms

SECONDS = 60.0


@dataclass(frozen=True)
class Introduction:
    """One site's terms; None where it gave none, `code` then says why."""

    site: str
    terms: Terms | None
    version: str = ""
    code: str = ""


def site_terms(courier: Courier, seconds: float = SECONDS) -> list[Introduction]:
    """Ask every site for the public part of its policy. NoSites where none is connected."""
    return sorted(introductions(courier, seconds).values(), key=lambda one: one.site)


def introductions(courier: Courier, seconds: float = SECONDS) -> dict[str, Introduction]:
    """As `site_terms`, by the address of each site."""
    addresses = courier.addresses()
    if not addresses:
        raise NoSites("No site is connected.")
    body = wire.encode_request(Request(study="", round=0, run="", seconds=seconds))
    found = {address: Introduction(address, None, code="no_answer") for address in addresses}
    for reply in courier.exchange(dict.fromkeys(addresses, body), time.monotonic() + seconds):
        try:
            said = wire.decode_release(released(reply.body or b""))
        except FederatedAnalyticsError as error:
            found[reply.address] = Introduction(reply.address, None, code=error.code)
            continue
        code = said.refusal.code if said.refusal else ""
        name = said.site or reply.address
        found[reply.address] = Introduction(name, said.terms, said.version, code)
    return found


def to_json(introductions: Sequence[Introduction]) -> str:
    """For the way back through a run's log."""
    return json.dumps([asdict(one) for one in introductions])


def from_json(text: str) -> list[Introduction]:
    """What `to_json` wrote."""
    return [
        Introduction(**{**one, "terms": Terms(**one["terms"]) if one["terms"] else None})
        for one in json.loads(text)
    ]


def to_text(introductions: Sequence[Introduction]) -> str:
    """A column a site, a line a term."""
    names = ["", *(one.site for one in introductions)]
    rows = [["version", *(one.version or one.code for one in introductions)]]
    for term in Terms.__dataclass_fields__:
        values = (str(getattr(one.terms, term)) if one.terms else "-" for one in introductions)
        rows.append([term.replace("_", " "), *values])
    widths = [max(len(row[i]) for row in [names, *rows]) for i in range(len(names))]
    lines = [
        "  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip()
        for row in [names, *rows]
    ]
    return "\n".join(lines) + "\n"
