"""Every text of a request, and of the data, may be hostile: each is an answer or a coded refusal.

Against rows in memory and in PostgreSQL; the site answers afterwards as before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from federated_analytics import fedmed as fm
from federated_analytics import wire
from federated_analytics.errors import FederatedAnalyticsError
from federated_analytics.messages import Disclosure, Request
from federated_analytics.omop.database import database_url
from tests.fedmed.servers import EXACT

STRINGS = {
    "empty": "",
    "nul": "a\x00b",
    "surrogate": "a\ud800b",
    "reversed surrogates": "\udc00\ud800",
    "long": "x" * 2**20,
    "sql": "'; DROP TABLE people; --",
    "sql comment": '"/* \\"; SELECT pg_sleep(9)',
    "placeholders": "%s %(a)s :a $1 {0} {a!r:>{1000000}}",
    "format": "{0.__class__.__mro__}",
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&",
    "path": "../../../../etc/passwd",
    "emoji": "👩🏽‍⚕️🧬",
    "right to left": "\u202egro.live//:ptth\u202c",
    "lines": "a\r\nSet-Cookie: b\n\n\x1b[31m",
    "brackets": "']['x'][\"",
    "json": '"],["column","","id',
    "an operation's": "sum",
    "a column's": "id",
}
ROWS = pd.DataFrame(
    {"id": range(40), "x": [float(i % 7) for i in range(40)], "sex": ["f", "m"] * 20}
)


@pytest.fixture(scope="module", params=["memory", "database"])
def server(request: pytest.FixtureRequest) -> Iterator[fm.Server]:
    made = fm.Server(config=EXACT, tokens=["t"])
    if request.param == "memory":
        made["people"] = ROWS
        yield made
        return
    engine = sa.create_engine(database_url(request.getfixturevalue("database")))
    ROWS.to_sql("people", engine, index=False)
    made["people"] = fm.SQLTable(engine, "people", key="id")
    yield made
    engine.dispose()


X = ["column", "", "x"]
PLACES: dict[str, Callable[[str], dict[str, Any]]] = {
    "fragment": lambda text: {"fragment": text},
    "operation": lambda text: {"op": text},
    "column": lambda text: {"rows": [["column", "", text]]},
    "nested column": lambda text: {"rows": [["column", "", "x", text]]},
    "another fragment": lambda text: {"rows": [["column", text, "x"]]},
    "row operation": lambda text: {"rows": [["apply", text, X]]},
    "row operation of two": lambda text: {"rows": [["apply", text, X, ["constant", 1]]]},
    "node": lambda text: {"rows": [[text, X]]},
    "compared with text": lambda text: {
        "rows": [["apply", "eq", ["column", "", "sex"], ["constant", text]]]
    },
    "ordered against text": lambda text: {
        "rows": [["apply", "lt", ["column", "", "sex"], ["constant", text]]]
    },
    "added to a number": lambda text: {"rows": [["apply", "add", X, ["constant", text]]]},
    "less a number": lambda text: {"rows": [["apply", "sub", ["constant", text], X]]},
    "a filter's": lambda text: {
        "rows": [["filter", X, ["apply", "ne", ["column", "", "sex"], ["constant", text]]]]
    },
    "group": lambda text: {
        "by": [["apply", "eq", ["column", "", "sex"], ["constant", text]]], "op": "len"
    },
    "group's column": lambda text: {"by": [["column", "", text]]},
    "step": lambda text: {"rows": [["apply", "round", X, ["constant", text]]]},
    "parameter": lambda text: {"params": {text: 1}},
    "parameter's value": lambda text: {"op": "hist", "params": {"edges": text}},
    "parameter's item": lambda text: {"op": "hist", "params": {"edges": [0, text]}},
    "more": lambda text: {text: 1},
}  # fmt: skip


def asked(server: fm.Server, ask: dict[str, Any]) -> Disclosure:
    plain = {"fragment": "people", "op": "sum", "rows": [X], "by": [], "params": {}, **ask}
    request = Request(json.dumps({"asks": [plain]}), 1, "", 60.0, "fedmed")
    return wire.decode_release(server.answer(wire.encode_request(request)))


def refusals(told: Disclosure) -> list[Any]:
    each = [told.refusal, *(answer.refusal for answer in told.answers)]
    return [refusal for refusal in each if refusal is not None]


@pytest.mark.parametrize("text", STRINGS)
@pytest.mark.parametrize("place", PLACES)
def test_every_text_of_a_request(server: fm.Server, place: str, text: str) -> None:
    told = asked(server, PLACES[place](STRINGS[text]))
    refused = refusals(told)
    assert refused or told.answers[0].cells
    for refusal in refused:
        assert refusal.code
        assert refusal.code not in ("site_failed", "internal_error", "database_error"), refusal
        assert len(refusal.where + refusal.message + refusal.remedy) < 1_000
    everyone = asked(server, {"op": "len"}).answers[0].cells
    assert [cell.value.support for cell in everyone] == [(40,)]


def said(use: Callable[[], Any]) -> str:
    """A value as text, or the error of ours in its place; any other passes."""
    try:
        return str(use())
    except (FederatedAnalyticsError, ValueError) as error:
        return str(error)


@pytest.mark.parametrize("text", STRINGS)
def test_text_that_is_no_constant_is_said_by_the_client(server: fm.Server, text: str) -> None:
    """Over the interface itself: a value, or an error of ours; what is shown is escaped."""
    string = STRINGS[text]
    data = fm.FedData([fm.Simulation(server, "people")])
    uses: list[Callable[[], Any]] = [
        lambda: (data["sex"] == string).sum().value,
        lambda: (data["sex"] >= string).sum().value,
        lambda: data["sex"].isin(["f", string]).sum().value,
        lambda: data.groupby(data["sex"] == string)["x"].mean().value,
        lambda: data[string].mean().value,
        lambda: data["x"].operator(string).sum().value,
        lambda: (data["x"] - string).mean().value,
        lambda: data["x"].hist([string, string + "1"]).value,
        lambda: fm.FedData([fm.Simulation(server, string)])["x"].sum().value,
    ]
    assert all(len(said(use)) < 10_000 for use in uses)
    for shown in (fm.FedData([fm.Simulation(server, string)]), fm.FedData(data._sources)):
        assert "<script>" not in shown._repr_html_()
        assert "<img" not in shown._repr_html_()
    assert data["x"].len() == 40


def held_text(values: list[str]) -> pd.Series:
    """Text as objects: pandas' own type of text holds no lone surrogates."""
    return pd.Series(values, dtype=object)


@pytest.mark.parametrize("over", ["memory", "database"])
@pytest.mark.parametrize("config", [EXACT, None], ids=["off", "on"])
def test_hostile_data(over: str, config: Any, database: str) -> None:
    """Levels, groups, names of columns and of fragments, each held by ten rows."""
    storable = {
        name: text
        for name, text in STRINGS.items()
        if over == "memory" or (("\x00" not in text and text.isascii()) or name == "emoji")
    }
    levels = [text for text in storable.values() for _ in range(10)]
    rows = pd.DataFrame(
        {
            "id": range(len(levels)),
            "level": held_text(levels),
            "x": 2.0,
            "<b>{0}%s": 1.0,
            "ключ\u202e": "a",
        }
    )
    server = fm.Server(config=config, tokens=["t"], name=STRINGS["html"])
    held: Any = rows
    if over == "database":
        engine = sa.create_engine(database_url(database))
        rows.to_sql(f"hostile_{config is None}", engine, index=False)
        held = fm.SQLTable(engine, f"hostile_{config is None}", key="id")
    server[STRINGS["html"]] = held
    data = fm.FedData([fm.Simulation(server, STRINGS["html"])])
    counts, means = data["level"].counts(), data.groupby("level")["x"].mean()
    assert dict(counts) == dict.fromkeys(storable.values(), 10)
    assert dict(means) == dict.fromkeys(storable.values(), 2.0)
    assert data["level"].set() == set(storable.values())
    assert data["level"].date().count_missing() == len(levels)
    assert data["<b>{0}%s"].sum() == len(levels)
    assert data["ключ\u202e"].counts() == {"a": len(levels)}
    for text in storable.values():
        if len(text) <= 1_000:
            assert (data["level"] == text).sum() == 10
    for shown in (data, counts, means, data["level"]):
        page = shown._repr_html_()
        assert "<script>" not in page
        assert "<b>" not in page
    for told in (repr(data), repr(counts), repr(means), str(data["level"].set())):
        assert told
    with pytest.raises(FederatedAnalyticsError) as caught:
        float(data["level"].mean())
    assert "wrong_kind" in str(caught.value) or "text" in str(caught.value)
