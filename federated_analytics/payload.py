"""A result as lines of a log: the open-source SuperLink's only way back to the analyst.

Lines are framed, numbered and checksummed, so that a torn or reordered log is noticed.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator

from federated_analytics.errors import WireError

LINE_CHARACTERS = 6_000
MARK = "federated-analytics-result"
MAX_BYTES = 64 * 2**20
_LINE = re.compile(MARK + r" (\d+)/(\d+) ([0-9a-f]{16}) ([A-Za-z0-9+/=]*)")


def to_lines(text: str) -> Iterator[str]:
    """Log lines that carry `text`."""
    packed = base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    digest = hashlib.sha256(packed.encode()).hexdigest()[:16]
    pieces = [packed[i : i + LINE_CHARACTERS] for i in range(0, len(packed), LINE_CHARACTERS)]
    for number, piece in enumerate(pieces, start=1):
        yield f"{MARK} {number}/{len(pieces)} {digest} {piece}"


def is_payload(line: str) -> bool:
    """Whether a log line carries a part of a result, and so is not for reading."""
    return MARK in line


def from_lines(lines: Iterable[str]) -> str:
    """The text that log lines carry.

    Raises:
        WireError: there is none, a line is missing, or the checksum does not fit.
    """
    parts: dict[int, str] = {}
    total, digest = 0, ""
    for line in lines:
        found = _LINE.search(line)
        if found:
            number, total, digest = int(found[1]), int(found[2]), found[3]
            parts[number] = found[4]
    packed = "".join(parts.get(number, "") for number in range(1, total + 1))
    if not total or hashlib.sha256(packed.encode()).hexdigest()[:16] != digest:
        raise WireError(
            f"The log holds {len(parts)} of {total or 'no'} lines of the result.",
            remedy="Read the log again with `flwr log RUN_ID`, or look into results-dir.",
        )
    try:
        inflater = zlib.decompressobj()
        text = inflater.decompress(base64.b64decode(packed), MAX_BYTES).decode()
    except (ValueError, zlib.error) as error:
        raise WireError("The result in the log cannot be read.") from error
    if not inflater.eof:
        raise WireError(
            f"The result in the log is larger than {MAX_BYTES:,} bytes, or cut short.",
            remedy="Run it with results-dir, or ask for fewer strata.",
        )
    return text
