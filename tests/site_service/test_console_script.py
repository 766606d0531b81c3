"""A script before the person who approves it: every character of it, and none as markup."""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("pygments")

from hypothesis import given, settings
from hypothesis import strategies as st

from federated_analytics.errors import WireError
from federated_analytics.flame.order import ScriptOrder
from federated_analytics.privacy.asked import Asked, shown
from federated_analytics.site_service.console.script import script_view
from federated_analytics.site_service.console.serving import console_running
from federated_analytics.site_service.console.sessions import Sessions
from tests.site_service.console_client import Client, Tags
from tests.site_service.console_sample import ASKED, MARKUP, sample

SOURCE = '''\
"""The mean age of two hospitals."""
from flame import FlameCoreSDK

flame = FlameCoreSDK()
if flame.get_role() == "aggregator":
    ages = flame.await_messages(flame.get_participant_ids(), "age", timeout=60)
    flame.submit_final_result(sum(m[-1].body["sum"] for m in ages.values() if m) / 2)
    flame.analysis_finished()
else:
    flame.send_message([flame.get_aggregator_id()], "age", {"sum": 40 + 0.5})  # one number
'''
NODES = {"hospital-a": "default", "hub": "aggregator"}
HOSTILE = (
    f"x = '{MARKUP}'\n"
    "</span></pre><script>alert(1)</script>\n"
    "# <!-- --> ]]> &amp; &#x3c;script&#x3e;\n"
    "# harmless \r__import__('os').system('id')\n"
    "access = '\u202e\u2066# admin\u2069' \u0430 = 1\n"
    "\x1b[2J\x00'''"
)


def asked_for(source: str, **parameters: object) -> Asked:
    order = ScriptOrder("mean.py", source, NODES, parameters, 600.0, epsilon=0.5)
    return replace(
        ASKED,
        study_name=order.name,
        study=order.to_json(),
        digest=order.digest,
        question=f"A script runs here, together with hub.\nParameters: {{}}\n\n{source}",
        sql="",
        leaves="Messages of its own: yes, up to 10,000,000 bytes a run.\nEvery byte is audited.",
        cost="ε = 0.5 for each run, charged as it begins",
    )


def text_of(lines: tuple[str, ...]) -> list[str]:
    """The lines as a browser shows them."""
    return [html.unescape(re.sub(r"</?span[^>]*>", "", line)) for line in lines]


def test_the_source_its_parameters_and_its_hash() -> None:
    view = script_view(asked_for(SOURCE, threshold=5, name="A & B"))
    assert view is not None
    assert text_of(view.lines) == SOURCE.rstrip("\n").split("\n")
    assert view.file_hash == hashlib.sha256(SOURCE.encode()).hexdigest()
    assert view.parameters == (("name", '"A & B"'), ("threshold", "5"))
    assert view.limit == 600
    assert view.unusual == ()
    assert any('class="k"' in line for line in view.lines)  # `if`, `else`


def test_a_study_is_no_script() -> None:
    assert script_view(ASKED) is None
    assert script_view(replace(ASKED, study="no JSON")) is None
    assert script_view(replace(ASKED, study=json.dumps({"script": "x"}))) is None


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200))
def test_any_text_comes_out_as_text_alone(source: str) -> None:
    view = script_view(replace(ASKED, study=json.dumps(json.loads(order_text(source)))))
    assert view is not None
    for line in view.lines:
        rest = re.sub(r'<span class="[\w ]*">|</span>', "", line)
        assert "<" not in rest
        assert ">" not in rest
        assert line.count("<span") == line.count("</span>")
    as_read = shown(source.replace("\r\n", "\n").replace("\r", "\n"))
    assert "\n".join(text_of(view.lines)).rstrip("\n") == as_read.rstrip("\n")


def order_text(source: str) -> str:
    fields = {"name": "s.py", "script": source, "nodes": NODES, "parameters": {}, "limit": 1.0}
    return json.dumps(fields)


def test_what_hides_is_seen() -> None:
    view = script_view(asked_for(HOSTILE))
    assert view is not None
    lines = text_of(view.lines)
    # A lone carriage return ends a comment for Python, and here.
    assert "__import__('os').system('id')" in lines
    assert any("\\u202e\\u2066# admin\\u2069" in line for line in lines)
    assert view.unusual  # the Cyrillic letter that looks like a Latin one
    assert "\\x1b[2J\\x00" in lines[-1]


@pytest.mark.parametrize("coding", ["utf-7", "unicode_escape", "rot13", "latin-1", "nonsense"])
def test_a_script_cannot_be_another_text_for_python(coding: str) -> None:
    with pytest.raises(WireError, match="UTF-8"):
        ScriptOrder("s.py", f"# -*- coding: {coding} -*-\n# +AAo-evil()\n", NODES)
    ScriptOrder("s.py", "# -*- coding: utf-8 -*-\nx = 'é'\n", NODES)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[tuple[Client, str, str]]:
    state, sessions = sample(tmp_path), Sessions()
    good, bad = asked_for(SOURCE, threshold=5), asked_for(HOSTILE, **{MARKUP: MARKUP})
    for asked in (good, bad):
        state.approvals.ask(asked)
    with console_running(state, sessions) as port:
        operator = Client(port)
        assert operator.sign_in(sessions.invite()).status == 303
        yield operator, good.fingerprint, bad.fingerprint


def test_the_page_says_what_may_leave_and_holds_no_strange_tag(
    client: tuple[Client, str, str],
) -> None:
    operator, good, bad = client
    page = operator.get(f"/console/studies/{good}").text
    assert "Messages of its own: yes, up to 10,000,000 bytes a run." in page
    assert "threshold = 5" in page
    assert "aggregates, beside the server" in page
    assert "The SQL that would run" not in page
    plain, hostile = Tags(), Tags()
    plain.feed(page)
    hostile.feed(operator.get(f"/console/studies/{bad}").text)
    assert hostile.tags <= plain.tags | {"br"}
    assert hostile.attributes <= plain.attributes
    assert "script" not in hostile.tags
    assert "img" not in hostile.tags
