"""Secure sums of guarded sites: signed requests, the ledger's memory, the audit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
import pytest

from federated_analytics import wire
from federated_analytics.couriers import InProcessCourier
from federated_analytics.errors import TooFewSites
from federated_analytics.exchange import Replayed
from federated_analytics.federation import Terms, released, request_of, run_study
from federated_analytics.guarded_site import GuardedSite
from federated_analytics.messages import Request
from federated_analytics.report.result import Result
from federated_analytics.secure_requests import SecurePart
from federated_analytics.signing import (
    SigningKey,
    request_hash,
    sign,
    unverified_reply,
    verify_reply,
)
from federated_analytics.site_config import SiteConfig
from federated_analytics.study import Study
from tests.answers import participation
from tests.secure_aggregation.hospitals import Answer, numbers, run
from tests.sites import load

STUDY = Study.parse(
    '[study]\nname = "x"\n[population]\nkind = "table"\ntable = "t"\n'
    "[feature.x]\nrange = [0, 200]\nstep = 1\n"
    '[[analysis]]\nkind = "summary"\nfeatures = ["x"]\n'
)
SITE = """\
[site]
name = "{name}"
[database]
url = "{url}"
cdm_schema = "{name}"
version = "1"
[service]
answer_seconds = 10
[[project]]
name = "p"
[[analyst]]
name = "ann"
key = "{ann}"
projects = ["p"]
[policy]
overlap = false
"""
ANN = SigningKey.new()
NAMES = ["hospital-a", "hospital-b", "hospital-c"]


def _joined(opened: dict[str, GuardedSite]) -> dict[str, GuardedSite]:
    """Each site takes part in secure sums with the others."""
    for name, site in opened.items():
        peers = {n: o.state.key.public for n, o in opened.items() if n != name}
        part = SecurePart.open(name, site.site.policy, site.state, peers, 10)
        site.kinds = {"secure": part}
    return opened


def _opened(folder: Path) -> dict[str, GuardedSite]:
    return {n: GuardedSite.open(SiteConfig.load(folder / n / "site.toml")) for n in NAMES}


def _decisions(site: GuardedSite) -> list[tuple[object, object]]:
    return [(e["decision"], e.get("kind")) for e in site.state.audit.lines()]


@pytest.fixture(scope="module")
def url(database: str) -> str:
    for i, name in enumerate(NAMES):
        values = [float((7 * j + 31 * i) % 150) for j in range(200 + 50 * i)]
        rows = pd.DataFrame({"person_id": range(1, len(values) + 1), "x": values})
        load(database, name, {"t": rows})
    return database


@pytest.fixture
def members(tmp_path: Path, url: str) -> dict[str, GuardedSite]:
    for name in NAMES:
        folder = tmp_path / name
        folder.mkdir()
        text = SITE.format(name=name, url=url, ann=ANN.public.text)
        (folder / "site.toml").write_text(text)
    return _joined(_opened(tmp_path))


def _signed(secure: bool = True) -> bytes:
    body = wire.encode_request(request_of(STUDY, 60, secure=secure))
    return sign(body, ANN, project="p", study=STUDY.digest, code="c" * 64)


def _run(
    members: dict[str, GuardedSite], envelope: bytes, replies: dict[str, bytes] | None = None
) -> Result:
    courier = InProcessCourier({name: member.answer for name, member in members.items()})
    secure, terms = replies is not None, Terms(2, 60)
    kept = replies if replies is not None else {}
    return run_study(STUDY, courier, terms, signed_request=envelope, replies=kept, secure=secure)


def test_guarded_sites_add_up_to_what_they_say_in_clear(members: dict[str, GuardedSite]) -> None:
    replies: dict[str, bytes] = {}
    secure = _run(members, _signed(), replies)
    plain = _run(members, _signed(secure=False))
    assert numbers(secure).keys() == numbers(plain).keys()
    for key, text in numbers(plain).items():
        other = numbers(secure)[key]
        assert text == other or float(text) == pytest.approx(float(other), rel=1e-9), key
    assert [p["status"] for p in participation(secure).values()] == ["answered"] * 3
    assert len(replies) == 12


def test_the_audit_holds_the_masked_numbers_once(members: dict[str, GuardedSite]) -> None:
    replies: dict[str, bytes] = {}
    _run(members, _signed(), replies)
    masked = unverified_reply(replies["hospital-a 3"]).release
    lines = [str(line) for line in members["hospital-a"].state.audit.lines()]
    assert sum(hashlib.sha256(masked).hexdigest() in line for line in lines) == 1
    assert _decisions(members["hospital-a"]).count(("released", None)) == 1  # the study itself


def test_the_analyst_makes_the_result_again_from_the_replies(
    members: dict[str, GuardedSite],
) -> None:
    envelope = _signed()
    replies: dict[str, bytes] = {}
    result = _run(members, envelope, replies)
    terms = Terms(2, 90.5)  # other terms, the same messages
    keys = {m.state.key.fingerprint: m.state.key.public for m in members.values()}

    def check(reply: bytes, request: bytes) -> None:
        verify_reply(reply, request_hash(request), keys)

    courier = Replayed(replies, check)
    again = run_study(STUDY, courier, terms, signed_request=envelope, secure=True)
    assert numbers(again) == numbers(result)
    assert not courier.errors
    altered = bytearray(replies["hospital-b 3"])
    altered[-200] ^= 1
    courier = Replayed({**replies, "hospital-b 3": bytes(altered)}, check)
    with pytest.raises(TooFewSites):
        run_study(STUDY, courier, terms, signed_request=envelope, secure=True)
    assert [error.code for error in courier.errors] == ["bad_signature"]
    fewer = {place: body for place, body in replies.items() if not place.endswith("c 3")}
    with pytest.raises(TooFewSites, match="2 sites are left after the sums were masked"):
        run_study(STUDY, Replayed(fewer), terms, signed_request=envelope, secure=True)


def test_the_memory_of_sites_outlives_the_service(
    members: dict[str, GuardedSite], tmp_path: Path
) -> None:
    """The same question over two of the three: refused by sites that were started anew."""
    _run(members, _signed(), {})
    fresh = _joined(_opened(tmp_path))
    del fresh["hospital-c"]
    with pytest.raises(TooFewSites, match="other_sites"):
        _run(fresh, _signed(), {})


def test_an_unsigned_first_round_is_not_taken(members: dict[str, GuardedSite]) -> None:
    answers: dict[str, Answer] = {name: m.answer for name, m in members.items()}
    with pytest.raises(TooFewSites, match="no_such_run"):
        run(STUDY, answers, secure=True)
    stray = wire.encode_request(Request("[]", 4, "0" * 64, 60, "secure"))
    refusal = wire.decode_release(released(members["hospital-a"].answer(stray))).refusal
    assert refusal is not None
    assert refusal.code == "no_such_run"
