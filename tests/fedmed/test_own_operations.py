"""Server owners' own operations in plain Python: what they give, and what they cannot let slip."""

from __future__ import annotations

import logging
import re
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from federated_analytics import fedmed as fm
from federated_analytics import wire
from federated_analytics.fedmed.config import Config
from federated_analytics.fedmed.expression import Apply, Column, Constant
from federated_analytics.fedmed.fragment_site import FragmentSite
from federated_analytics.fedmed.protocol import Ask, Asks
from federated_analytics.messages import Disclosure, Request
from tests.fedmed import own_functions
from tests.fedmed.servers import served

HERE = "tests.fedmed.own_functions"
CONFIG: dict[str, Any] = {
    "methods": {
        "adults": {"map": f"{HERE}.adults"},
        "by_decade": {"map": f"{HERE}.by_decade"},
        "apart": {"map": f"{HERE}.by_decade", "reduce": f"{HERE}.tables_apart"},
        "squared": f"{HERE}.squared",
        "bmi": f"{HERE}.bmi",
        "is_long": f"{HERE}.is_long",
        "capped": f"{HERE}.capped",
        "round": "fedmed.ops.binary.round",
        "sum": {"map": "fedmed.ops.private.sum", "reduce": "fedmed.ops.public.sum"},
        "len": {"map": "fedmed.ops.private.num", "reduce": "fedmed.ops.public.sum"},
    }
}


def frame(seed: int) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    rows = 300
    age = draw.integers(10, 70, rows).astype(float)
    age[::25] = np.nan
    return pd.DataFrame(
        {
            "age": age,
            "kg": draw.normal(75, 12, rows).round(1),
            "m": draw.normal(1.7, 0.1, rows).round(2),
            "name": draw.choice(["Ann", "Robert", "Eva", "Maria"], rows),
        }
    )


FRAMES = [frame(1), frame(2)]


@pytest.fixture(scope="module")
def people():  # type: ignore[no-untyped-def]
    first, second = (fm.Server(CONFIG, tokens=["t"]) for _ in FRAMES)
    first["people"], second["people"] = FRAMES
    with served(first) as a, served(second) as b:
        yield fm.FedData([fm.Remote(address, "people", token="t") for address in (a, b)], CONFIG)


def test_operations_on_rows_are_as_in_pandas(people: fm.FedData) -> None:
    rows = pd.concat(FRAMES)
    with fm.Batch():
        index = people["kg"].bmi(people["m"]).mean()
        scaled = people.operator  # the same by the general way
        halves = people["kg"].operator("bmi", people["m"], 0.5).mean()
        long = people["name"].is_long().sum()
        squares = people["age"].squared().sum()
        rounded = people["kg"].round(10).sum()
        lowered = people["kg"].capped().sum()
        held = (people["kg"] + 0).sum()
    assert callable(scaled)
    expected = (rows["kg"] / rows["m"] ** 2).mean()
    assert float(index) == pytest.approx(expected)
    assert float(halves) == pytest.approx(expected / 2)
    assert long == (rows["name"].str.len() > 3).sum()
    assert float(squares) == (rows["age"] ** 2).sum()
    assert squares.missing == rows["age"].isna().sum()
    assert float(rounded) == pytest.approx((np.floor(rows["kg"] / 10 + 0.5) * 10).sum())
    assert float(lowered) == pytest.approx(rows["kg"].clip(upper=60).sum())
    assert float(held) == pytest.approx(rows["kg"].sum())  # it wrote its own copy


def test_a_filter_of_an_own_operation_counts_its_rows(people: fm.FedData) -> None:
    rows = pd.concat(FRAMES)
    obese = people["kg"].bmi(people["m"]) > 30
    expected = rows["age"][rows["kg"] / rows["m"] ** 2 > 30].sum()
    assert float(people["age"][obese].sum()) == expected


def test_reductions_and_tables_are_as_in_pandas(people: fm.FedData) -> None:
    rows = pd.concat(FRAMES)["age"]
    assert people["age"].adults().value == (rows >= 18).sum()
    assert people["age"].adults(least=50).value == (rows >= 50).sum()
    table = people["age"].by_decade()
    counts = (rows.dropna() // 10 * 10).value_counts()
    assert dict(table.value) == {f"{int(d)} to {int(d) + 9}": n for d, n in counts.items()}
    assert "10 to 19" in str(table)


def test_a_clients_own_reduce_gets_each_servers_table(people: fm.FedData) -> None:
    apart = people["age"].apart().value
    assert len(apart) == 2
    assert apart[0][0] == "10 to 19"


def test_a_level_of_few_persons_stays_with_its_text() -> None:
    server = fm.Server(CONFIG, tokens=["t"])
    ages = [25.0] * 50 + [38.0] * 47 + [101.0] * 3
    server["people"] = {"age": ages}
    with served(server) as address:
        data = fm.FedData([fm.Remote(address, "people", token="t")], CONFIG)
        with fm.Batch():
            table, every = data["age"].by_decade(), data["age"].len()
        assert "100" not in str(table)
        assert any("not shown" in note for note in table.notes)
        told = sum(n for n in dict(table.value).values() if n)
        assert int(every) == 100
        assert told in (47, 50)  # one more is kept back, or the three would follow


def test_all_rows_are_not_told_after_a_table_from_which_a_level_would_follow() -> None:
    server = fm.Server(CONFIG, tokens=["t"])
    server["people"] = {"age": [25.0] * 50 + [38.0] * 47 + [101.0] * 3}
    with served(server) as address:
        data = fm.FedData([fm.Remote(address, "people", token="t")], CONFIG)
        assert sum(dict(data["age"].by_decade().value).values()) == 97
        with pytest.raises(fm.AskFailed, match="withheld"):
            int(data["age"].len())


# What goes wrong

BAD: dict[str, tuple[Any, str]] = {
    "raises": ({"map": f"{HERE}.raises"}, "own_operation_failed"),
    "raises_ours": ({"map": f"{HERE}.raises_ours"}, "wrong_release"),
    "leaves": ({"map": f"{HERE}.leaves"}, "own_operation_failed"),
    "prints": ({"map": f"{HERE}.prints"}, "own_operation_failed"),
    "another_type": ({"map": f"{HERE}.another_type"}, "wrong_release"),
    "another_aggregate": ({"map": f"{HERE}.another_aggregate"}, "wrong_release"),
    "no_whole_number": ({"map": f"{HERE}.no_whole_number"}, "wrong_release"),
    "negative": ({"map": f"{HERE}.negative"}, "wrong_release"),
    "not_finite": ({"map": f"{HERE}.not_finite"}, "wrong_release"),
    "numbered": ({"map": f"{HERE}.numbered"}, "wrong_release"),
    "fewer_rows": (f"{HERE}.fewer_rows", "wrong_release"),
    "another_order": (f"{HERE}.another_order", "wrong_release"),
    "one_number": (f"{HERE}.one_number", "wrong_release"),
    "texts": (f"{HERE}.texts", "wrong_release"),
    "rows_raise": (f"{HERE}.rows_raise", "own_operation_failed"),
    "rows_print": (f"{HERE}.rows_print", "own_operation_failed"),
}
FIRST = 1234.0625


def answered(site: FragmentSite, ask: Ask) -> Disclosure:
    body = wire.encode_request(Request(Asks((ask,)).to_json(), 1, "", 9.0, "fedmed"))
    return wire.decode_release(site.answer(body))


@pytest.mark.parametrize("privacy", [None, []])
@pytest.mark.parametrize("name", BAD)
def test_what_goes_wrong_has_a_code_and_tells_nothing(
    name: str,
    privacy: Any,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    method, code = BAD[name]
    methods = {name: method, "sum": {"map": "fedmed.ops.private.sum"}}
    content = {"methods": methods, **({} if privacy is None else {"privacy": privacy})}
    site = FragmentSite(Config.load(content))
    site["people"] = {"x": [FIRST, *np.arange(50.0)]}
    x = Column(("x",))
    rows = Apply(name, (x,)) if isinstance(method, str) else x
    with caplog.at_level(logging.ERROR):
        told = answered(site, Ask("people", "sum" if isinstance(method, str) else name, (rows,)))
    [answer] = told.answers
    assert answer.refusal is not None
    assert answer.refusal.code == code
    for text in (own_functions.SECRET, str(FIRST), "first is"):
        assert text not in str(told)
        assert text not in capsys.readouterr().out
    assert name in caplog.text
    if code == "own_operation_failed":
        assert own_functions.SECRET in caplog.text
    assert answered(site, Ask("people", "sum", (x,))).answers[0].refusal is None  # it goes on


def test_a_reduction_is_not_used_on_rows_nor_by_group() -> None:
    site = FragmentSite(Config.load(CONFIG))
    site["people"] = FRAMES[0]
    age = Column(("age",))
    [on_rows] = answered(site, Ask("people", "sum", (Apply("adults", (age,)),))).answers
    [by_group] = answered(site, Ask("people", "adults", (age,), (Column(("name",)),))).answers
    [reduced] = answered(site, Ask("people", "squared", (age,))).answers
    for answer in (on_rows, by_group, reduced):
        assert answer.refusal is not None
    [bare] = answered(site, Ask("people", "adults", ())).answers
    assert bare.refusal is not None


def test_what_other_threads_print_goes_where_it_went(capsys: pytest.CaptureFixture[str]) -> None:
    from federated_analytics.fedmed.own_operations import by_row

    started, over = threading.Event(), threading.Event()

    def waits(rows: Any) -> Any:
        started.set()
        assert over.wait(30)
        return rows

    def prints() -> None:
        assert started.wait(30)
        print("from elsewhere")
        over.set()

    before = sys.stdout
    thread = threading.Thread(target=prints)
    thread.start()
    from federated_analytics.fedmed.rows import Rows

    rows = Rows(np.arange(3.0), np.ones(3, dtype=bool), "number")
    assert by_row(waits, [rows], "waits").tolist() == [0, 1, 2]
    thread.join()
    assert sys.stdout is before
    assert "from elsewhere" in capsys.readouterr().out


def test_an_own_operation_with_a_constant_sees_a_number() -> None:
    site = FragmentSite(Config.load({**CONFIG, "privacy": []}))
    site["people"] = FRAMES[0]
    rows = Apply("bmi", (Column(("kg",)), Constant(2.0)))
    [answer] = answered(site, Ask("people", "sum", (rows,))).answers
    expected = (FRAMES[0]["kg"] / 4).sum()
    assert answer.cells[0].value.total == pytest.approx(expected)  # type: ignore[attr-defined]


def test_an_own_operation_that_singles_out_is_refused_as_any_other() -> None:
    site = FragmentSite(Config.load(CONFIG))
    rows = FRAMES[0].assign(name=["Christopher", *["Ann"] * 299])
    site["people"] = rows
    mask = Apply("is_long", (Column(("name",)),))
    [answer] = answered(site, Ask("people", "sum", (mask,))).answers
    assert answer.refusal is not None
    assert answer.refusal.code == "singles_out"


def test_the_documents_example(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/fedmed.md, section on own operations: its blocks are files, and its numbers true."""
    text = (root / "docs" / "fedmed.md").read_text()
    section = text[text.index("## Operations of your own") :].split("\n## ")[0:2]
    blocks = re.findall(r"```(\w+)\n(.*?)```", "\n## ".join(section), re.DOTALL)
    module, config, client = (body for _, body in blocks[:3])
    (tmp_path / "hospital.py").write_text(module)
    (tmp_path / "config.yaml").write_text(config)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    server = fm.Server("config.yaml", tokens=["t"])
    server["people"] = FRAMES[0]
    with served(server) as address:
        people = fm.FedData([fm.Remote(address, "people", token="t")], config="config.yaml")
        found: dict[str, Any] = {"people": people}
        exec(client, found)
        rows = FRAMES[0]
        assert float(found["index"]) == pytest.approx((rows["kg"] / rows["m"] ** 2).mean())
        assert dict(found["table"].value) == rows["name"].value_counts().to_dict()
