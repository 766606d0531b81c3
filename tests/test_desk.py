"""Which part of a site a request goes to, and what it hears where none takes it."""

from __future__ import annotations

import pytest

from federated_analytics import desk, wire
from federated_analytics.messages import Request


def said(node_config: dict[str, str], kind: str) -> str:
    body = wire.encode_request(Request("{}", 1, "run", 5.0, kind))
    refusal = wire.decode_release(desk.answer(node_config, body)).refusal
    assert refusal is not None
    return refusal.code


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("study", "invalid_config"),  # it reached the site, which has no database
        ("other", "unknown_kind"),
        ("flame", "needs_site_service"),
    ],
)
def test_a_request_goes_where_its_kind_says(kind: str, code: str) -> None:
    assert said({"site": "hospital-a"}, kind) == code


def test_bytes_that_are_no_request_are_refused() -> None:
    refusal = wire.decode_release(desk.answer({}, b"nonsense")).refusal
    assert refusal is not None
    assert refusal.code == "invalid_message"
