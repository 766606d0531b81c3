"""Attack 3: the same noisy question many times, under other names and in other orders."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.attacks.attacker import HEAD, told
from tests.sites import load
from tests.test_guarded_site import Asked, guarded

PERSONS = 200
TIMES = 12


@pytest.fixture(scope="module")
def url(database: str) -> str:
    rows = pd.DataFrame({"person_id": range(PERSONS), "x": [float(i % 90) for i in range(PERSONS)]})
    load(database, "flat", {"t": rows})
    return database


def question(i: int) -> str:
    """The same question: another title, another study's name, a duplicated analysis."""
    analysis = f'[[analysis]]\nkind = "summary"\ntitle = "t{i}"\nfeatures = ["x"]\n'
    head = HEAD.format(table="t").replace('name = "x"', f'name = "study {i}"')
    return head + "[feature.x]\nrange = [0, 100]\nstep = 1\n" + analysis


def answers(site: Asked) -> list[int]:
    found = []
    for i in range(TIMES):
        disclosure = site.ask(question(i), run=f"run {i}")
        assert disclosure.refusal is None, disclosure.refusal
        moments = [c.value for c in disclosure.answers[0].cells if c.key.name == "moments"]
        found.append(moments[0].n)  # type: ignore[attr-defined]
    return found


def test_averaging_gains_nothing(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = 'mode = "dp"\nepsilon = 0.5\nbudget_epsilon = 100\n'
    (tmp_path / "on").mkdir()
    (tmp_path / "off").mkdir()
    on = answers(guarded(tmp_path / "on", url, policy))
    assert len(set(on)) == 1
    from federated_analytics.privacy.ledger import Ledger

    monkeypatch.setattr(Ledger, "answer", lambda self, key: None)
    monkeypatch.setattr(Ledger, "keep_answer", lambda self, key, body: body)
    off = answers(guarded(tmp_path / "off", url, policy))
    assert len(set(off)) > TIMES / 2
    told("3 repeat and average", PERSONS, f"{on[0]} ×{TIMES}", f"{sum(off) / TIMES:.1f}")
    # Averaged noise shrinks with the root of the repetitions; one draw does not.
    assert abs(sum(off) / TIMES - PERSONS) < 40
