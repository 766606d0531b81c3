"""The service's log: one JSON object a line, with no value of any person in those it writes."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

FIELDS = "site_service_fields"
MESSAGE_CHARACTERS = 300
_log = logging.getLogger("federated_analytics.site_service")


class JsonLines(logging.Formatter):
    """A record as one line of JSON; of an exception its type alone, for its text may hold values.

    Lines of other modules are the site's own: they stay in its log, cut to 300 characters.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage()[:MESSAGE_CHARACTERS],
        }
        if record.name != _log.name:
            line["logger"] = record.name
        line |= getattr(record, FIELDS, {})
        if record.exc_info and record.exc_info[0]:
            line["exception"] = record.exc_info[0].__name__
        return json.dumps(line, ensure_ascii=True, default=str)


def log_event(event: str, **fields: str | int | float) -> None:
    """One line: what happened, and its numbers. Fields never hold what a message says."""
    _log.info(event, extra={FIELDS: fields})


def write_json_lines() -> None:
    """Send this process's log to standard error as JSON lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("federated_analytics").setLevel(logging.INFO)
