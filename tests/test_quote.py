"""What a study would cost is told before it is spent, and is what it then costs."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from federated_analytics.errors import PolicyError
from federated_analytics.messages import Terms
from federated_analytics.preview import preview
from federated_analytics.privacy.policy import Policy
from federated_analytics.quote import budget_left, quote, to_text
from federated_analytics.site_commands.quote import quote as command
from federated_analytics.study import Study
from tests.sites import load
from tests.test_guarded_site import COUNTS, DP, FEATURE, FLAT, SUMMARY, guarded

BOTH = (
    FLAT
    + FEATURE
    + '[feature.y]\nrange = [0, 10]\nstep = 1\ntype = "numeric"\n'
    + '[[analysis]]\nkind = "summary"\nfeatures = ["x", "y"]\n'
    + '[[analysis]]\nkind = "histogram"\nfeatures = ["x"]\n'
    + '[[analysis]]\nkind = "counts"\n'
)


def terms(**given: float) -> Terms:
    return Policy.parse({"preset": "dp", **given}, where="").terms


@pytest.fixture(scope="module")
def url(database: str) -> str:
    rows = pd.DataFrame({"person_id": range(1, 201), "x": [float(i % 100) for i in range(200)]})
    rows["y"] = rows["x"] / 10
    load(database, "flat", {"t": rows})
    return database


@pytest.mark.parametrize("text", [SUMMARY, BOTH], ids=["summary", "several"])
def test_the_noise_is_as_quoted_and_so_is_the_charge(tmp_path: Path, url: str, text: str) -> None:
    one = guarded(tmp_path, url, DP.replace("1.2", "3"))
    study = Study.parse(text)
    before = quote(study, one.site.site.policy.terms)
    released = one.ask(text)
    assert released.refusal is None
    assert released.charged == pytest.approx(before.epsilon)
    told = {(a.analysis, n) for a in released.answers for n in a.noise}
    assert told
    assert {(q.position, n) for q in before.analyses for n in q.noise} == told
    left = budget_left(one.site.site.policy.terms, one.site.state.ledger, "ann")
    assert left == pytest.approx(released.remaining)
    again = quote(study, one.site.site.policy.terms, left)
    assert again.left_after is not None
    assert again.left_after < left


def test_what_is_quoted_as_left_is_left(tmp_path: Path, url: str) -> None:
    one = guarded(tmp_path, url, DP.replace("1.2", "3"))
    terms = one.site.site.policy.terms
    for text in (SUMMARY, COUNTS, BOTH):
        left = budget_left(terms, one.site.state.ledger, "ann")
        quoted = quote(Study.parse(text), terms, left)
        assert quoted.affordable
        assert one.ask(text).remaining == pytest.approx(quoted.left_after, rel=1e-6)


def test_a_spent_budget_is_quoted_as_such(tmp_path: Path, url: str) -> None:
    one = guarded(tmp_path, url, DP)
    terms = one.site.site.policy.terms
    assert one.code(SUMMARY) == "released"
    left = budget_left(terms, one.site.state.ledger, "ann")
    quoted = quote(Study.parse(COUNTS), terms, left)
    assert not quoted.affordable
    assert "budget_spent" in to_text(quoted)
    assert one.code(COUNTS) == "budget_spent"


def test_a_count_alone_has_the_noise_of_the_books() -> None:
    """Bun & Steinke (2016): a count with noise of deviation s has rho = 1 / (2 s²)."""
    said = quote(Study.parse(COUNTS), terms(epsilon=1.0, delta=1e-6)).analyses[0].noise
    (number,) = [n for n in said if n.variable == "persons"]
    rho = 1 / (2 * number.scale**2)
    # Their bound, ε = ρ + 2 √(ρ ln 1/δ), is wider than what was used, never narrower.
    assert 1.0 <= rho + 2 * math.sqrt(rho * math.log(1e6)) < 1.35
    # Whole persons: the bound is the next one that holds.
    assert 0 <= number.accuracy95 - 1.96 * number.scale <= 1.5


def test_a_larger_epsilon_costs_more_and_tells_more() -> None:
    small, large = (quote(Study.parse(BOTH), terms(epsilon=e)) for e in (0.5, 2.0))
    assert small.epsilon < large.epsilon
    pairs = zip(small.analyses, large.analyses, strict=True)
    for less, more in pairs:
        assert all(a.scale > b.scale for a, b in zip(less.noise, more.noise, strict=True))


def test_what_would_be_refused_costs_nothing() -> None:
    text = FLAT + '[feature.c]\ntype = "categorical"\n'
    text += '[[analysis]]\nkind = "frequencies"\nfeatures = ["c"]\n'
    quoted = quote(Study.parse(text), terms())
    assert quoted.epsilon == 0
    assert quoted.analyses[0].refused
    assert "Refused" in to_text(quoted)


def test_exact_numbers_have_no_quote() -> None:
    with pytest.raises(PolicyError, match="nothing is charged"):
        quote(Study.parse(COUNTS), Policy().terms)


@pytest.mark.parametrize("study", sorted(Path("studies").glob("*.toml")), ids=lambda p: p.stem)
def test_every_study_has_a_quote(root: Path, study: Path) -> None:
    quoted = quote(Study.load(root / study), terms())
    assert all(bool(one.noise) != bool(one.refused) for one in quoted.analyses)


def test_the_command(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    study, policy, site = (tmp_path / name for name in ("s.toml", "p.toml", "site.toml"))
    study.write_text(COUNTS)
    policy.write_text('preset = "dp"\nepsilon = 0.5\n')
    site.write_text(
        '[site]\nname = "a"\n[database]\nurl = "postgresql://h/d"\n[policy]\npreset = "dp"\n'
    )
    said = CliRunner().invoke(app, [str(study), "--policy", str(policy), "--left", "2"])
    assert "ε = 0.5 at δ" in said.output
    assert "Left of the budget: ε = 2" in said.output
    said = CliRunner().invoke(app, [str(study), "--policy", str(site)])
    assert "ε = 1 at δ" in said.output
    policy.write_text('preset = "strict"\n')
    said = CliRunner().invoke(app, [str(study), "--policy", str(policy)])
    assert "Nothing is charged" in said.output
    assert CliRunner().invoke(app, [str(study)]).exception is not None


def test_who_approves_and_who_previews_sees_it(tmp_path: Path, url: str) -> None:
    one = guarded(tmp_path, url, DP + 'approval = "manual"\n')
    assert one.code(SUMMARY) == "waiting_for_approval"
    cost = one.site.state.approvals.pending()[0].asked.cost
    assert "ε = 1 at δ" in cost
    assert "Left of the budget: ε = 1.2" in cost
    assert "moments: sum" in cost
    text = preview(Study.parse(SUMMARY), url, one.site.site.policy, one.site.site.cdm)
    assert "-- What it would cost" in text
    assert "moments: sum" in text
