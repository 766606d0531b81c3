"""Attacks 16 and 17: forge, replay, edit a release; fifty requests on the last of a budget."""

from __future__ import annotations

import dataclasses
import shutil
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from federated_analytics import wire
from federated_analytics.attested import AlteredResult, check, trust
from federated_analytics.couriers import InProcessCourier
from federated_analytics.errors import BadSignature, LedgerError
from federated_analytics.federation import Terms, run_study
from federated_analytics.messages import Request
from federated_analytics.privacy.ledger import Ledger
from federated_analytics.signing import PublicKey, sign_reply, unverified_reply
from federated_analytics.study import Study
from tests.attacks.attacker import HEAD, told
from tests.sites import load
from tests.test_guarded_site import DP, FEATURE, KEYS, Asked, guarded

COUNTS = HEAD.format(table="t") + '[[analysis]]\nkind = "counts"\n'


@pytest.fixture(scope="module")
def url(database: str) -> str:
    rows = pd.DataFrame({"person_id": range(1, 201), "x": [float(i % 100) for i in range(200)]})
    load(database, "flat", {"t": rows})
    return database


def test_a_server_cannot_alter_a_release_unnoticed(tmp_path: Path, url: str) -> None:
    one = guarded(tmp_path, url, "min_sites = 1\n")
    study, envelope = Study.parse(COUNTS), one.signed(COUNTS)
    reply = one.site.answer(envelope)
    known = tmp_path / "sites.json"
    trust("hospital-a", one.site.state.key.public.text, known)

    def result_of(body: bytes):  # type: ignore[no-untyped-def]
        courier = InProcessCourier({"a": lambda request: body})
        return run_study(study, courier, Terms(1, 10.0), signed_request=envelope)

    honest = result_of(reply)
    check(honest, study, envelope, {"a": reply}, min_sites=1, known=known)
    said = unverified_reply(reply)
    release = wire.decode_release(said.release)
    forged_count = dataclasses.replace(release.answers[0].cells[0].value, persons=999)
    cell = dataclasses.replace(release.answers[0].cells[0], value=forged_count)
    answer = dataclasses.replace(release.answers[0], cells=(cell,))
    plain = wire.to_plain(dataclasses.replace(release, answers=(answer,)))
    import json
    import zlib

    body = zlib.compress(json.dumps([wire.VERSION, plain]).encode())
    forged = sign_reply(body, KEYS["stranger"], request=said.request, site=said.site)
    altered = result_of(forged)
    assert "999" in {row.estimate_value for row in altered.rows}  # nobody at the server objects
    with pytest.raises(BadSignature):
        check(altered, study, envelope, {"a": forged}, min_sites=1, known=known)
    with pytest.raises(AlteredResult):
        check(altered, study, envelope, {"a": reply}, min_sites=1, known=known)
    other = one.site.answer(one.signed(COUNTS))
    with pytest.raises(BadSignature):
        check(honest, study, envelope, {"a": other}, min_sites=1, known=known)
    told("16 edit a release", 200, "refused", 999)


def counted(one: Asked, envelope: bytes) -> int | str:
    """The persons that a site tells, or the code of its refusal."""
    disclosure = wire.decode_release(unverified_reply(one.site.answer(envelope)).release)
    if disclosure.refusal is not None:
        return disclosure.refusal.code
    return max(cell.value.support[0] for cell in disclosure.answers[0].cells)


def test_a_request_in_another_name_is_refused(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = guarded(tmp_path, url)
    good = one.signed(COUNTS)
    other = Study.parse(COUNTS.replace("counts", "counts") + "by = []\n").to_json()
    changed = good.replace(Study.parse(COUNTS).digest.encode(), b"0" * 64)
    unsigned = wire.encode_request(Request(other, 1, "run", 30.0))
    for forged in (changed, unsigned, one.signed(COUNTS, who="stranger")):
        assert counted(one, forged) in ("bad_signature", "unknown_analyst", "invalid_message")
    names = [KEYS[who].public.fingerprint.encode() for who in ("stranger", "ann")]
    in_her_name = one.signed(COUNTS, who="stranger").replace(*names)
    on = counted(one, in_her_name)
    monkeypatch.setattr(PublicKey, "verifies", lambda self, signature, message: True)
    off = counted(one, in_her_name)
    told("16 forge a request", 200, on, off)
    assert on == "bad_signature"
    assert off == 200


def test_a_request_changed_on_its_way_is_refused(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server asks more than the analyst signed: her study's hash and signature forbid it."""
    one = guarded(tmp_path, url)
    request = wire.encode_request(Request(Study.parse(COUNTS).to_json(), 1, "run", 60.0))
    wider = Study.parse(COUNTS.replace("counts", "summary") + 'features = ["x"]\n')
    more = wire.encode_request(Request(wider.to_json(), 1, "run", 60.0))
    lengths = [struct.pack(">I", len(body)) + body for body in (request, more)]
    changed = one.signed(COUNTS).replace(*lengths)
    changed = changed.replace(Study.parse(COUNTS).digest.encode(), wider.digest.encode())
    assert wider.digest.encode() in changed
    on = counted(one, changed)
    monkeypatch.setattr(PublicKey, "verifies", lambda self, signature, message: True)
    off = counted(one, changed)
    told("16 change a parameter", 200, on, off)
    assert on == "bad_signature"
    assert off == 200


def questions(count: int) -> list[str]:
    head = HEAD.format(table="t")
    return [
        head
        + FEATURE.replace("200", str(200 + i))
        + '[[analysis]]\nkind = "summary"\nfeatures = ["x"]\n'
        for i in range(count)
    ]


def answered(one: Asked, count: int = 50) -> int:
    envelopes = [one.signed(text) for text in questions(count)]
    with ThreadPoolExecutor(count) as pool:
        return sum(d.refusal is None for d in pool.map(one.send, envelopes))


def test_fifty_requests_spend_the_last_of_a_budget_once(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "on").mkdir()
    (tmp_path / "off").mkdir()
    on = answered(guarded(tmp_path / "on", url, DP))
    monkeypatch.setattr(Ledger, "charge", lambda self, request, wanted, allowed: wanted)
    off = answered(guarded(tmp_path / "off", url, DP))
    told("17 budget race, answers of 50", 1, on, off)
    assert on == 1
    assert off > 1


def test_an_old_ledger_that_is_put_back_is_noticed(tmp_path: Path, url: str) -> None:
    one = guarded(tmp_path, url, DP)
    state = tmp_path / "state"
    first, second = questions(2)
    saved = tmp_path / "saved"
    shutil.copytree(state, saved)
    assert one.code(first) == "released"
    assert one.code(second) == "budget_spent"
    for path in saved.glob("ledger.sqlite*"):
        shutil.copy(path, state / path.name)
    for path in state.glob("ledger.sqlite-*"):
        if not (saved / path.name).exists():
            path.unlink()
    with pytest.raises(LedgerError):
        guarded(tmp_path, url, DP)
    assert one.code(second) == "ledger_unavailable"
    told("17 an old ledger restored", "a new budget", "refused", "-")
