"""Secure sums as `site.toml` and the analyst's own check have them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from federated_analytics import attested, wire
from federated_analytics.couriers import InProcessCourier
from federated_analytics.errors import BadSignature, NotGranted
from federated_analytics.federation import Terms, request_of, run_study
from federated_analytics.guarded_site import GuardedSite
from federated_analytics.report.result import Result
from federated_analytics.signing import SigningKey, sign
from federated_analytics.site_config import SiteConfig
from federated_analytics.site_state import site_key
from tests.secure_aggregation.test_guarded_sites import ANN, NAMES, SITE, STUDY
from tests.sites import load

MORE = "[secure]\nrequired = true\n"


@pytest.fixture(scope="module")
def url(database: str) -> str:
    for i, name in enumerate(NAMES):
        values = [float((7 * j + 31 * i) % 150) for j in range(200 + 50 * i)]
        load(database, name, {"t": pd.DataFrame({"person_id": range(len(values)), "x": values})})
    return database


@pytest.fixture
def members(tmp_path: Path, url: str) -> dict[str, GuardedSite]:
    keys = {}
    for name in NAMES:
        (tmp_path / name / "state").mkdir(parents=True)
        keys[name] = site_key(tmp_path / name / "state").public.text
    for name in NAMES:
        text = SITE.format(name=name, url=url, ann=ANN.public.text) + MORE
        for other in NAMES:
            if other != name:
                text += f'[[peer]]\nname = "{other}"\nkey = "{keys[other]}"\n'
        (tmp_path / name / "site.toml").write_text(text)
    return {n: GuardedSite.open(SiteConfig.load(tmp_path / n / "site.toml")) for n in NAMES}


def _run(
    members: dict[str, GuardedSite], *, secure: bool = True, min_sites: int = 2
) -> tuple[Result, bytes, dict[str, bytes]]:
    body = wire.encode_request(request_of(STUDY, 60, secure=secure))
    envelope = sign(body, ANN, project="p", study=STUDY.digest, code="c" * 64)
    courier = InProcessCourier({name: member.answer for name, member in members.items()})
    replies: dict[str, bytes] = {}
    terms = Terms(min_sites, 60)
    result = run_study(
        STUDY, courier, terms, signed_request=envelope, replies=replies, secure=secure
    )
    return result, envelope, replies


def test_the_analyst_verifies_a_secure_sum(members: dict[str, GuardedSite], tmp_path: Path) -> None:
    result, envelope, replies = _run(members)
    assert result.settings[1]["secure_aggregation"] == "true"
    known = tmp_path / "sites.json"
    for name, member in members.items():
        attested.trust(name, member.state.key.public.text, known)
    attested.check(result, STUDY, envelope, replies, min_sites=2, known=known, secure=True)
    attested.trust("hospital-b", SigningKey.new().public.text, known)
    with pytest.raises(BadSignature):
        attested.check(result, STUDY, envelope, replies, min_sites=2, known=known, secure=True)


def test_a_site_may_answer_in_secure_sums_alone(members: dict[str, GuardedSite]) -> None:
    with pytest.raises(Exception, match="needs_secure_sum"):
        _run(members, secure=False)


def test_who_may_not_ask_for_an_analysis_may_not_ask_for_its_sum(
    members: dict[str, GuardedSite],
) -> None:
    one = members["hospital-a"]
    ann = one.config.analyst[0].model_copy(update={"analyses": ("counts",)})
    one.config = one.config.model_copy(update={"analyst": (ann,)})
    del members["hospital-c"]
    with pytest.raises(Exception, match=NotGranted.code):
        _run(members)
