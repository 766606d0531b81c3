"""Progress as lines of a log, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_analytics.federation import Event
from federated_analytics.progress import event_of, line, shown

KINDS = ("start", "sent", "answered", "failed", "done")
TEXTS = st.text(st.characters(min_codepoint=33, exclude_categories=["C", "Z"]), min_size=1)
COUNTS = st.integers(0, 10_000)


@given(
    st.sampled_from(KINDS), COUNTS, TEXTS, COUNTS, COUNTS, st.floats(0, 90_000), TEXTS | st.just("")
)
def test_an_event_that_travelled_as_a_line_reads_the_same(
    kind: str, number: int, site: str, answered: int, total: int, seconds: float, message: str
) -> None:
    event = Event(kind, number, site, answered, total, seconds, message)
    back = event_of(f"  {line(event)}\n")
    assert back is not None
    assert line(back) == line(event)
    assert (back.kind, back.round, back.answered, back.total) == (kind, number, answered, total)


@pytest.mark.parametrize("text", ["", "INFO :      hello", "+ no", "error no_sites: x", "> [1 s]"])
def test_other_lines_are_no_events(text: str) -> None:
    assert event_of(text) is None


def test_without_a_terminal_progress_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with shown() as show:
        show(Event("answered", 1, "hospital-a", 1, 3, 4.25, ""))
        show.say("done")
    printed = capsys.readouterr()
    assert printed.err.splitlines() == ["+ [   4.2 s] round 1  1/3  hospital-a answered", "done"]
    assert printed.out == ""
