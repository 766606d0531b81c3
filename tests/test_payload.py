"""A result that travels through a log arrives whole, or its loss is noticed."""

from __future__ import annotations

import base64
import hashlib
import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federated_analytics import payload
from federated_analytics.errors import WireError
from federated_analytics.payload import MARK, from_lines, is_payload, to_lines


def _incompressible(characters: int) -> str:
    return "".join(random.Random(7).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=characters))


LONG = _incompressible(40_000)


def _one_line(packed: str) -> str:
    digest = hashlib.sha256(packed.encode()).hexdigest()[:16]
    return f"{MARK} 1/1 {digest} {packed}"


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])), st.randoms())
def test_a_text_arrives_whole_in_any_order_and_with_repeats(
    text: str, chance: random.Random
) -> None:
    lines = [f"12:00:01 INFO {line}" for line in to_lines(text)]
    lines += chance.sample(lines, k=chance.randint(0, len(lines)))
    chance.shuffle(lines)
    assert from_lines(lines) == text


def test_a_long_text_travels_in_lines_of_bounded_length() -> None:
    lines = list(to_lines(LONG))
    assert len(lines) > 3
    assert max(map(len, lines)) < payload.LINE_CHARACTERS + 100
    assert all(map(is_payload, lines))
    assert from_lines(["Started", *reversed(lines), "Finished", *lines]) == LONG


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_lost_or_torn_line_is_noticed(data: st.DataObject) -> None:
    lines = list(to_lines(LONG))
    hurt = data.draw(st.integers(0, len(lines) - 1))
    left = data.draw(st.integers(0, len(lines[hurt]) - 1))
    lines[hurt] = lines[hurt][:left]
    with pytest.raises(WireError):
        from_lines(lines)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_changed_character_is_noticed(data: st.DataObject) -> None:
    lines = list(to_lines(LONG))
    hurt = data.draw(st.integers(0, len(lines) - 1))
    start = lines[hurt].rindex(" ") + 1
    at = data.draw(st.integers(start, len(lines[hurt]) - 1))
    other = "A" if lines[hurt][at] != "A" else "B"
    lines[hurt] = lines[hurt][:at] + other + lines[hurt][at + 1 :]
    with pytest.raises(WireError):
        from_lines(lines)


def test_a_line_broken_in_two_by_a_terminal_is_noticed() -> None:
    first, *others = to_lines(LONG)
    with pytest.raises(WireError, match="lines of the result"):
        from_lines([first[:3_000], first[3_000:], *others])


@pytest.mark.parametrize("lines", [[], ["Started ServerApp", ""], [f"{MARK} of my friend"]])
def test_a_log_without_a_result_says_so(lines: list[str]) -> None:
    with pytest.raises(WireError, match="no lines") as caught:
        from_lines(lines)
    assert "flwr log" in caught.value.remedy


@pytest.mark.parametrize(
    "packed",
    [
        "A",
        base64.b64encode(b"not deflated").decode(),
        base64.b64encode(zlib.compress(b"\xff\xfe")).decode(),
    ],
)
def test_what_is_framed_well_but_no_text_is_refused(packed: str) -> None:
    with pytest.raises(WireError):
        from_lines([_one_line(packed)])


def test_a_text_is_inflated_to_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "MAX_BYTES", 1_000)
    with pytest.raises(WireError):
        from_lines(to_lines("0" * 1_000_000))


def test_two_results_in_one_log_are_not_mixed() -> None:
    first, second = list(to_lines(LONG)), list(to_lines(LONG[::-1]))
    mixed = [*first, *second[:2]]
    with pytest.raises(WireError):
        from_lines(mixed)


@pytest.mark.parametrize(
    "line", ["+ [   3.1 s] round 1  1/2  hospital-a answered", "", "error x: y"]
)
def test_lines_for_reading_are_no_payload(line: str) -> None:
    assert not is_payload(line)
