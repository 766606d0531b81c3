"""A policy file loosens nothing by accident, and every rule does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.moments import Moments
from federated_analytics.aggregates.records import Records
from federated_analytics.aggregates.table import Key
from federated_analytics.errors import ConfigError, FederatedAnalyticsError, PolicyError
from federated_analytics.messages import Terms
from federated_analytics.privacy.dominance import hold_dominance
from federated_analytics.privacy.draft import Draft, Evidence
from federated_analytics.privacy.minimum_count import hold_minimum_count
from federated_analytics.privacy.policy import Policy
from federated_analytics.privacy.presets import PRESETS
from federated_analytics.privacy.rounding import round_counts
from federated_analytics.site_config import SiteConfig

HEAD = '[site]\nname = "a"\n[database]\nurl = "postgresql://h/d"\n'
KEY = "ed25519:" + "A" * 43 + "="


def draft(**cells: Aggregate) -> Draft:
    table = {Key((), name): value for name, value in cells.items()}
    return Draft.of(Evidence(0, "everyone", table, {}, frozenset()))


def kept(one: Draft) -> set[str]:
    return {key.variable for key in one.cells}


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("[policy]\nmin_cuont = 3\n", 6, "min_count"),
        ("[policy]\nmin_count = -1\n", 6, "greater than or equal to 1"),
        ('[policy]\nmin_count = "5"\n', 6, "integer"),
        ("[policy]\nmin_count = 5.0\n", 6, "integer"),
        ("[policy]\ndominance = 80\n", 6, "less than or equal to 1"),
        ("[policy]\ndominance = 1.01\n", 6, "less than or equal to 1"),
        ("[policy]\nper_site = 1\n", 6, "boolean"),
        ('[policy]\npreset = "lax"\n', 6, "strict"),
        ('[policy]\napproval = "manuel"\n', 6, "manual"),
        ("[policy]\nepsilon = nan\n", 6, "less than or equal to 20"),
        ("[policy]\nepsilon = inf\n", 6, "less than or equal to 20"),
        ("[polcy]\nmin_count = 3\n", 5, "policy"),
        ("[service]\nquue = 3\n", 6, "queue"),
        ("[service]\nconcurrent = 0\n", 6, "greater than or equal to 1"),
        (f'[[analyst]]\nname = "x"\nkey = "{KEY}"\nprojects = ["p"]\n', 0, "'p'"),
        ('[[project]]\nname = "p"\nuntil = 2026-13-01\n', 0, "TOML"),
        ('[[analyst]]\nname = "x"\nkey = "ssh-rsa AAAA"\nprojects = ["p"]\n', 7, "pattern"),
    ],
)
def test_a_file_that_is_wrong_stops_with_its_line(
    tmp_path: Path, text: str, line: int, word: str
) -> None:
    file = tmp_path / "site.toml"
    file.write_text(HEAD + text)
    with pytest.raises((PolicyError, ConfigError)) as refused:
        SiteConfig.load(file)
    if line:
        assert f"site.toml:{line}:" in refused.value.where
    assert word in str(refused.value)


def test_a_file_that_is_right(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text(
        HEAD + '[policy]\npreset = "pcornet"\nper_site = true\n'
        '[[project]]\nname = "p"\nuntil = 2030-01-01\n'
        f'[[analyst]]\nname = "x"\nkey = "{KEY}"\nprojects = ["p"]\nanalyses = ["summary"]\n'
    )
    config = SiteConfig.load(file)
    assert (config.policy.min_count, config.policy.per_site) == (11, True)
    assert config.state == tmp_path / "state"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_gives_what_the_file_leaves_out(preset: str) -> None:
    start = Policy.parse({"preset": preset}, where="test")
    assert start.preset == preset
    assert PRESETS[preset].reason
    assert PRESETS[preset].source
    own = Policy.parse({"preset": preset, "min_count": 7}, where="test")
    assert own == start.model_copy(update={"min_count": 7})


def test_the_strict_preset_is_the_default() -> None:
    assert Policy.parse({"preset": "strict"}, where="test") == Policy()


def test_terms_tell_every_public_key() -> None:
    terms = Policy(min_count=9, per_site=True).terms
    assert terms.min_count == 9
    assert set(Terms.__dataclass_fields__) <= set(Policy.model_fields)


def test_the_page_of_the_policy_is_what_the_models_say(root: Path) -> None:
    from federated_analytics.policy_page import policy_page

    assert (root / "docs" / "policy.md").read_text() == policy_page()


def test_minimum_count_with_and_without_sensitive_zeros() -> None:
    cells = draft(none=Count(0), few=Count(4), enough=Count(5))
    assert kept(hold_minimum_count(cells, 5)) == {"none", "enough"}
    assert kept(hold_minimum_count(cells, 5, zero_is_sensitive=True)) == {"enough"}


def test_what_is_said_of_a_withheld_count() -> None:
    few = hold_minimum_count(draft(x=Count(3), y=Moments(900, 0.003, 3.0, fewest=2)), 5).withheld
    assert few[Key((), "x")].below == 5  # "<5" may be said
    assert few[Key((), "y")].below == 0  # 900 persons are not fewer than 5
    zero = hold_minimum_count(draft(x=Count(3)), 5, zero_is_sensitive=True).withheld
    assert zero[Key((), "x")].below == 0


def moments(values: list[float]) -> Moments:
    mean = sum(values) / len(values)
    return Moments(
        len(values),
        mean,
        sum((v - mean) ** 2 for v in values),
        extreme=max(map(abs, values)),
        one_sign=min(values) >= 0 or max(values) <= 0,
    )


@given(
    st.lists(st.floats(-1e6, 1e6, allow_nan=False, allow_subnormal=False), min_size=1, max_size=30)
)
def test_the_largest_share_is_never_understated(values: list[float]) -> None:
    absolute = sum(map(abs, values))
    share = max(map(abs, values)) / absolute if absolute else 0.0
    assert moments(values).largest_share() >= min(share, 1.0) * (1 - 1e-9)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_of_one_sign_the_largest_share_is_exact(values: list[float]) -> None:
    share = max(values) / sum(values) if sum(values) else 0.0
    assert moments(values).largest_share() == pytest.approx(min(share, 1.0), rel=1e-9)


def test_a_dominated_sum_is_withheld() -> None:
    bill = moments([1_000_000.0, *[10.0] * 20])
    spread = moments([10.0 + i for i in range(21)])
    visits = Records(records=100, persons=20, most=81)
    held = hold_dominance(draft(bill=bill, spread=spread, visits=visits), 0.8)
    assert kept(held) == {"spread"}
    assert {why.rule for why in held.withheld.values()} == {"R3"}
    assert kept(hold_dominance(draft(bill=bill), 1.0)) == {"bill"}


@given(st.integers(0, 10**9), st.integers(1, 100))
def test_rounding_is_to_the_nearest_multiple(persons: int, base: int) -> None:
    found = round_counts(draft(x=Count(persons)), base).cells[Key((), "x")]
    assert isinstance(found, Count)
    assert found.persons % base == 0
    assert abs(found.persons - persons) <= base / 2


def test_rounded_moments_keep_mean_and_standard_deviation() -> None:
    exact = moments([float(v) for v in range(23)])
    found = round_counts(draft(x=exact), 5).cells[Key((), "x")]
    assert isinstance(found, Moments)
    assert (found.n, found.mean) == (25, exact.mean)
    assert found.sd == pytest.approx(exact.sd)


def test_exploration_is_for_synthetic_databases_alone(database: str) -> None:
    from federated_analytics import wire
    from federated_analytics.messages import Request
    from federated_analytics.omop.database import database_url
    from federated_analytics.omop.tables import Cdm
    from federated_analytics.site import Site
    from tests import pooled
    from tests.sites import load

    load(database, "real", pooled.random_tables(1, 20))
    site = Site(
        database_url(database), Policy.parse({"preset": "exploration"}, where="x"), Cdm("real")
    )
    study = '{"study":{"name":"x"},"analysis":[{"kind":"counts"}]}'
    refusal = wire.decode_release(
        site.answer(wire.encode_request(Request(study, 1, "r", 20.0)))
    ).refusal
    assert refusal is not None
    assert refusal.code == "invalid_policy"


def test_a_site_introduces_itself_without_a_database() -> None:
    from federated_analytics.couriers import InProcessCourier
    from federated_analytics.omop.database import database_url
    from federated_analytics.site import Site
    from federated_analytics.site_terms import from_json, site_terms, to_json, to_text

    nowhere = Site(database_url("postgresql://u:p@127.0.0.1:1/x"), Policy(min_count=12), name="a")
    found = site_terms(InProcessCourier({"1": nowhere.answer, "2": lambda body: b"garbage"}))
    assert [one.site for one in found] == ["2", "a"]
    assert found[1].terms == Policy(min_count=12).terms
    assert found[0].code == "invalid_message"
    assert from_json(to_json(found)) == found
    assert "12" in to_text(found)


def test_noise_needs_a_budget_and_so_the_service() -> None:
    from federated_analytics import wire
    from federated_analytics.messages import Request
    from federated_analytics.omop.database import database_url
    from federated_analytics.site import Site

    site = Site(database_url("postgresql://u:p@127.0.0.1:1/x"), Policy(mode="dp"))
    study = '{"study":{"name":"x"},"analysis":[{"kind":"counts"}]}'
    body = site.answer(wire.encode_request(Request(study, 1, "r", 20.0)))
    refusal = wire.decode_release(body).refusal
    assert refusal is not None
    assert refusal.code == "invalid_policy"
    assert issubclass(PolicyError, FederatedAnalyticsError)
