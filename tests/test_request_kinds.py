"""Requests of other kinds than studies go to their handlers, under the same keys and audit."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from federated_analytics import __version__, wire
from federated_analytics.errors import RequestRefused
from federated_analytics.guarded_answer import Asker
from federated_analytics.guarded_site import GuardedSite
from federated_analytics.messages import Disclosure, Request
from federated_analytics.privacy.policy import Policy
from federated_analytics.signing import sign
from federated_analytics.site_config import SiteConfig
from tests.test_guarded_site import KEYS, Asked, guarded

TEXT = '{"asks": [1]}'


@dataclass
class Handler:
    """Releases the terms, after a while."""

    quick: bool = True
    seconds: float = 0.0
    refuses: bool = False
    asked: list[tuple[Asker, Request]] = field(default_factory=list)

    def answer(self, asker: Asker, request: Request, guarded: GuardedSite) -> bytes:
        self.asked.append((asker, request))
        time.sleep(self.seconds)
        if self.refuses:
            raise RequestRefused("Not this one.")
        with guarded.site_of(asker).snapshot(5) as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar() == 1
        return wire.encode_release(Policy().introduce(site="made", version=__version__))


def site(folder: Path, url: str, handler: Handler, policy: str = "") -> Asked:
    guarded(folder, url, policy)
    config = SiteConfig.load(folder / "site.toml")
    return Asked(GuardedSite.open(config, kinds={"fedmed": handler}))


def envelope(who: str = "ann", kind: str = "fedmed", text: str = TEXT, digest: str = "") -> bytes:
    request = wire.encode_request(Request(text, 1, "run", 60.0, kind))
    digest = digest or hashlib.sha256(text.encode()).hexdigest()
    return sign(request, KEYS[who], project="p", study=digest, code="c" * 64)


def code(said: Disclosure) -> str:
    return said.refusal.code if said.refusal else f"released {said.site}"


def test_a_handler_answers_once_and_the_audit_holds_what_was_asked(
    tmp_path: Path, database: str
) -> None:
    handler = Handler()
    one = site(tmp_path, database, handler)
    asked = envelope()
    assert code(one.send(asked)) == "released made"
    assert one.site.answer(asked) == one.site.answer(asked)
    assert len(handler.asked) == 1
    assert handler.asked[0][0].name == "ann"
    (line,) = one.lines()
    assert line["asked"] == {"text": TEXT}
    assert line["kind"] == "fedmed"
    assert line["study"] == hashlib.sha256(TEXT.encode()).hexdigest()
    assert not one.site.state.audit.verify()


def test_a_slow_one_has_a_ticket_and_a_quick_one_has_not(tmp_path: Path, database: str) -> None:
    for quick, first in ((False, "working"), (True, "released made")):
        folder = tmp_path / str(quick)
        folder.mkdir()
        one = site(folder, database, Handler(quick=quick, seconds=0.4))
        service = one.site.config.service.model_copy(update={"answer_seconds": 0.05})
        one.site.config = one.site.config.model_copy(update={"service": service})
        asked = envelope()
        assert code(one.send(asked)) == first
        time.sleep(0.8)
        assert code(one.send(asked)) == "released made"


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (envelope(kind="flame"), "unknown_kind"),
        (envelope(kind="nonsense"), "unknown_kind"),
        (envelope(who="bob"), "not_granted"),
        (envelope(digest="0" * 64), "bad_signature"),
        (envelope(kind="study"), "invalid_study"),
    ],
    ids=["not here", "nonsense", "not granted", "another text", "no study"],
)
def test_what_is_refused(tmp_path: Path, database: str, sent: bytes, told: str) -> None:
    handler = Handler()
    one = site(tmp_path, database, handler)
    assert code(one.send(sent)) == told
    assert one.audited() == [f"refused {told}"]
    assert not handler.asked


def test_a_handler_that_refuses_is_recorded_once(tmp_path: Path, database: str) -> None:
    one = site(tmp_path, database, Handler(refuses=True))
    asked = envelope()
    assert [code(one.send(asked)) for _ in range(2)] == ["refused", "refused"]
    assert one.audited() == ["refused refused"]


def test_a_person_approves_its_exact_text(tmp_path: Path, database: str) -> None:
    handler = Handler()
    one = site(tmp_path, database, handler, 'approval = "manual"\n')
    assert code(one.send(envelope())) == "waiting_for_approval"
    assert not handler.asked
    (entry,) = one.site.state.approvals.pending()
    assert entry.asked.study == TEXT
    one.site.state.approvals.approve(entry.fingerprint, "operator", 30)
    assert code(one.send(envelope())) == "released made"
    assert code(one.send(envelope(text=TEXT + " "))) == "waiting_for_approval"


def test_a_grant_by_name(tmp_path: Path, database: str) -> None:
    one = site(tmp_path, database, Handler())
    file = tmp_path / "site.toml"
    file.write_text(file.read_text().replace('["counts"]', '["counts", "fedmed"]'))
    one = Asked(GuardedSite.open(SiteConfig.load(file), kinds={"fedmed": Handler()}))
    assert code(one.send(envelope(who="bob"))) == "released made"
