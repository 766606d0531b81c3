"""A site behind keys, ledger and audit: what it answers, refuses, charges and records."""

from __future__ import annotations

import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from federated_analytics import wire
from federated_analytics.guarded_site import GuardedSite
from federated_analytics.messages import Disclosure, Request
from federated_analytics.privacy.approval import Approvals
from federated_analytics.signing import (
    PublicKey,
    SigningKey,
    request_hash,
    sign,
    unverified_reply,
    verify_reply,
)
from federated_analytics.site_config import SiteConfig
from federated_analytics.study import Study
from tests.sites import load

FLAT = '[study]\nname = "x"\n[population]\nkind = "table"\ntable = "t"\n'
FEATURE = "[feature.x]\nrange = [0, 200]\nstep = 1\n"
SUMMARY = FLAT + FEATURE + '[[analysis]]\nkind = "summary"\nfeatures = ["x"]\n'
COUNTS = FLAT + '[[analysis]]\nkind = "counts"\n'
SITE = """\
[site]
name = "hospital-a"
[database]
url = "{url}"
cdm_schema = "flat"
version = "1"
[service]
answer_seconds = 30
[[project]]
name = "p"
[[project]]
name = "ended"
until = 2020-01-01
[[analyst]]
name = "ann"
key = "{ann}"
projects = ["p", "ended"]
[[analyst]]
name = "bob"
key = "{bob}"
projects = ["p"]
analyses = ["counts"]
[[analyst]]
name = "late"
key = "{late}"
projects = ["p"]
until = 2020-01-01
[policy]
"""
KEYS = {name: SigningKey.new() for name in ("ann", "bob", "late", "stranger")}


@pytest.fixture(scope="module")
def url(database: str) -> str:
    rows = pd.DataFrame({"person_id": range(1, 201), "x": [float(i % 100) for i in range(200)]})
    load(database, "flat", {"t": rows, "but_one": rows[:-1], "but_ten": rows[:-10]})
    return database


@dataclass
class Asked:
    """A guarded site, and an analyst who signs."""

    site: GuardedSite

    def ask(
        self, text: str, who: str = "ann", project: str = "p", run: str = "run", **changed: object
    ) -> Disclosure:
        return self.send(self.signed(text, who, project, run, **changed))

    def signed(
        self, text: str, who: str = "ann", project: str = "p", run: str = "run", **changed: object
    ) -> bytes:
        study = Study.parse(text)
        request = wire.encode_request(Request(study.to_json(), 1, run, 60.0))
        given = {"study": study.digest, "code": "c" * 64, **changed}
        return sign(request, KEYS[who], project=project, **given)  # type: ignore[arg-type]

    def send(self, envelope: bytes) -> Disclosure:
        reply = self.site.answer(envelope)
        key = self.site.state.key.public
        request = request_hash(envelope) if envelope[:3] == b"fed" else ""
        said = verify_reply(reply, request, {key.fingerprint: key})
        return wire.decode_release(said.release)

    def code(self, text: str, who: str = "ann", project: str = "p", **changed: object) -> str:
        refusal = self.ask(text, who, project, **changed).refusal
        return refusal.code if refusal else "released"

    def audited(self) -> list[str]:
        return [f"{e['decision']} {e.get('code', '')}".strip() for e in self.lines()]

    def lines(self) -> list[dict[str, object]]:
        return list(self.site.state.audit.lines())


def guarded(folder: Path, url: str, policy: str = "") -> Asked:
    public = {name: key.public.text for name, key in KEYS.items()}
    file = folder / "site.toml"
    file.write_text(SITE.format(url=url, **public) + policy)
    return Asked(GuardedSite.open(SiteConfig.load(file)))


def test_a_signed_study_is_answered_recorded_and_signed(tmp_path: Path, url: str) -> None:
    one = guarded(tmp_path, url)
    disclosure = one.ask(SUMMARY)
    assert disclosure.refusal is None
    assert {c.key.name for c in disclosure.answers[0].cells} >= {"moments"}
    assert one.audited() == ["released"]
    line = one.lines()[0]
    assert (line["analyst"], line["project"]) == ("ann", "p")
    body = one.site.state.audit.released(str(line["released"])).read_bytes()
    assert wire.decode_release(body) == disclosure
    assert not one.site.state.audit.verify()


@pytest.mark.parametrize(
    ("who", "project", "text", "changed", "code"),
    [
        ("stranger", "p", COUNTS, {}, "unknown_analyst"),
        ("late", "p", COUNTS, {}, "key_expired"),
        ("ann", "q", COUNTS, {}, "unknown_project"),
        ("ann", "ended", COUNTS, {}, "unknown_project"),
        ("bob", "ended", COUNTS, {}, "unknown_project"),
        ("bob", "p", SUMMARY, {}, "not_granted"),
        ("ann", "p", COUNTS, {"now": time.time() - 90_000}, "request_expired"),
        ("ann", "p", COUNTS, {"study": "0" * 64}, "bad_signature"),
    ],
)
def test_who_may_not_ask_is_refused_and_recorded(
    tmp_path: Path,
    url: str,
    who: str,
    project: str,
    text: str,
    changed: dict[str, object],
    code: str,
) -> None:
    one = guarded(tmp_path, url)
    assert one.code(text, who, project, **changed) == code
    assert one.audited() == [f"refused {code}"]


def test_a_changed_byte_is_refused(tmp_path: Path, url: str) -> None:
    one = guarded(tmp_path, url)
    good = one.signed(COUNTS)
    for position in range(40, len(good), 37):
        bad = bytearray(good)
        bad[position] ^= 1
        said = unverified_reply(one.site.answer(bytes(bad)))
        assert wire.decode_release(said.release).refusal is not None
    assert "released" not in one.audited()


def test_a_request_sent_again_gets_the_same_bytes_and_a_nonce_used_again_nothing(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = guarded(tmp_path, url)
    monkeypatch.setattr(secrets, "token_bytes", lambda n: b"n" * n)
    envelope = one.signed(COUNTS)
    assert one.site.answer(envelope) == one.site.answer(envelope)
    assert one.code(SUMMARY) == "nonce_reused"
    assert one.audited() == ["released", "refused nonce_reused"]


def test_unsigned_requests_get_the_terms_alone(tmp_path: Path, url: str) -> None:
    one = guarded(tmp_path, url)
    terms = wire.decode_release(one.site.answer(wire.encode_request(Request("", 0, "", 1.0))))
    assert terms.terms == one.site.site.policy.terms
    study = Study.parse(COUNTS).to_json()
    plain = one.site.answer(wire.encode_request(Request(study, 1, "r", 1.0)))
    refusal = wire.decode_release(unverified_reply(plain).release).refusal
    assert refusal is not None
    assert refusal.code == "unknown_analyst"


def test_a_population_that_differs_by_one_is_refused(tmp_path: Path, url: str) -> None:
    one = guarded(tmp_path, url)
    assert one.code(COUNTS) == "released"
    but_one = one.ask(COUNTS.replace('"t"', '"but_one"'))
    assert [a.refusal.code for a in but_one.answers if a.refusal] == ["overlapping_population"]
    assert not but_one.answers[0].cells
    assert one.ask(COUNTS.replace('"t"', '"but_ten"')).answers[0].refusal is None


def test_without_the_rule_the_one_person_is_told(tmp_path: Path, url: str) -> None:
    one = guarded(tmp_path, url, "overlap = false\n")
    counts = [
        one.ask(COUNTS.replace('"t"', f'"{t}"')).answers[0].cells[0].value.support[0]
        for t in ("t", "but_one")
    ]
    assert counts == [200, 199]


def test_a_study_waits_for_a_person(tmp_path: Path, url: str) -> None:
    one = guarded(tmp_path, url, 'approval = "manual"\n')
    assert one.code(COUNTS) == "waiting_for_approval"
    entry = Approvals.open(tmp_path / "state").pending()[0]
    assert "count" in entry.asked.sql.lower()
    assert entry.asked.leaves
    one.site.state.approvals.approve(entry.fingerprint, "operator")
    assert one.code(COUNTS) == "released"
    assert one.code(COUNTS) == "waiting_for_approval"  # it was for one run
    assert one.code(SUMMARY) == "waiting_for_approval"
    entry = one.site.state.approvals.pending()[0]
    one.site.state.approvals.refuse(entry.fingerprint, "operator", "not now")
    assert "refused_by_operator" in {one.code(SUMMARY), one.code(COUNTS)}
    assert "approved" in one.audited()


DP = 'mode = "dp"\nepsilon = 1.0\nbudget_epsilon = 1.2\n'


def test_noise_is_charged_and_the_same_question_gets_the_same_answer(
    tmp_path: Path, url: str
) -> None:
    one = guarded(tmp_path, url, DP)
    first = one.ask(SUMMARY)
    assert first.refusal is None
    assert first.charged == pytest.approx(1.0)
    assert first.answers[0].noise
    renamed = SUMMARY.replace("feature.x", "feature.x").replace('name = "x"', 'name = "other"')
    second = one.ask(renamed, run="another")
    assert second.charged == 0
    assert second.answers[0].cells == first.answers[0].cells
    wider = FLAT + FEATURE + '[[analysis]]\nkind = "histogram"\nfeatures = ["x"]\n'
    assert one.code(wider) == "budget_spent"
    assert len(list(one.site.state.ledger.charges())) == 1


def test_the_last_of_a_budget_is_spent_once(tmp_path: Path, url: str) -> None:
    one = guarded(tmp_path, url, DP)
    texts = [
        FLAT
        + f"[feature.x]\nrange = [0, {200 + i}]\nstep = 1\n"
        + '[[analysis]]\nkind = "summary"\nfeatures = ["x"]\n'
        for i in range(50)
    ]
    envelopes = [one.signed(text) for text in texts]
    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(one.send, envelopes))
    codes = [d.refusal.code if d.refusal else "released" for d in found]
    assert codes.count("released") == 1
    assert codes.count("budget_spent") == 49
    assert len(list(one.site.state.ledger.charges())) == 1


def test_a_slow_study_is_answered_with_a_ticket(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from federated_analytics.guarded_answer import GuardedAnswer

    one = guarded(tmp_path, url)
    service = one.site.config.service.model_copy(update={"answer_seconds": 0.05})
    one.site.config = one.site.config.model_copy(update={"service": service})
    release = GuardedAnswer.release

    def slow(self: GuardedAnswer, request: Request) -> bytes:
        time.sleep(0.5)
        return release(self, request)

    monkeypatch.setattr(GuardedAnswer, "release", slow)
    envelope = one.signed(COUNTS)
    started = time.monotonic()
    first = one.send(envelope)
    assert time.monotonic() - started < 0.4
    assert first.refusal is not None
    assert first.refusal.code == "working"
    time.sleep(1)
    assert one.send(envelope).refusal is None
    assert one.audited() == ["released"]


def test_a_site_opens_again_with_its_state(tmp_path: Path, url: str) -> None:
    one = guarded(tmp_path, url)
    assert one.code(COUNTS) == "released"
    key = one.site.state.key.public
    again = guarded(tmp_path, url)
    assert again.site.state.key.public == PublicKey(key.text)
    assert again.code(COUNTS.replace('"t"', '"but_one"')) == "released"
    assert again.ask(COUNTS.replace('"t"', '"but_one"')).answers[0].refusal is not None
