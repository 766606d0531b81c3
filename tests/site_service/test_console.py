"""The console over HTTP: who gets in, what a form may do, and that no text becomes markup."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from federated_analytics.errors import LedgerError
from federated_analytics.privacy.approval import Approvals
from federated_analytics.privacy.asked import Decision
from federated_analytics.site_service.console.serving import console_running
from federated_analytics.site_service.console.sessions import Sessions
from federated_analytics.site_service.console.state import ConsoleState
from tests.site_service.console_client import Client, Clock, Tags
from tests.site_service.console_sample import ASKED, HOSTILE, MARKUP, sample

MARK = ASKED.fingerprint
STUDY = f"/console/studies/{MARK}"
PAGES = ["", "/decided", "/ledger", "/audit", "/audit?verify=true", "/policy", f"/studies/{MARK}"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    return Sessions(clock)


@pytest.fixture
def state(tmp_path: Path) -> ConsoleState:
    state = sample(tmp_path)
    state.approvals.ask(ASKED)
    return state


@pytest.fixture
def stranger(state: ConsoleState, sessions: Sessions) -> Iterator[Client]:
    with console_running(state, sessions) as port:
        yield Client(port)


@pytest.fixture
def client(stranger: Client, sessions: Sessions) -> Client:
    operator = Client(stranger.port)
    assert operator.sign_in(sessions.invite()).status == 303
    return operator


def test_a_stranger_is_sent_to_the_door(stranger: Client) -> None:
    for path in (*PAGES, "/"):
        reply = stranger.get(f"/console{path}")
        assert (reply.status, reply.headers["location"]) == (303, "/console/login"), path
        assert reply.text == "", path


@pytest.mark.parametrize("deed", ["approve", "refuse", "revoke"])
def test_a_stranger_decides_nothing(stranger: Client, state: ConsoleState, deed: str) -> None:
    form = {"span": "run", "reason": "No.", "form_token": "0" * 64}
    assert stranger.post(f"{STUDY}/{deed}", form).status in (303, 403)
    assert state.approvals.state(MARK) == "pending"


def test_a_token_signs_in_once_within_ten_minutes(
    stranger: Client, sessions: Sessions, clock: Clock
) -> None:
    token = sessions.invite()
    assert token in stranger.get(f"/console/login?token={token}").text
    reply = stranger.sign_in(token)
    assert reply.status == 303
    for attribute in ("HttpOnly", "SameSite=strict", "Path=/console"):
        assert attribute in reply.headers["set-cookie"]
    assert stranger.get("/console").status == 200
    again = Client(stranger.port)
    assert again.sign_in(token).status == 403, "it was used"
    assert again.sign_in("").status == 403
    late = sessions.invite()
    clock.seconds += 601
    assert again.sign_in(late).status == 403
    assert again.get("/console").status == 303


def test_a_session_ends(client: Client, clock: Clock, sessions: Sessions) -> None:
    clock.seconds += 3_599
    assert client.get("/console").status == 200
    clock.seconds += 3_601
    assert client.get("/console").status == 303, "an hour after its last use"
    client.sign_in(sessions.invite())
    for _ in range(12):
        clock.seconds += 3_590
        assert client.get("/console").status == 200
    clock.seconds += 3_590
    assert client.get("/console").status == 303, "twelve hours after it began"
    client.sign_in(sessions.invite())
    cookie = client.cookie
    assert client.send("/console/logout").status == 303
    client.cookie = cookie
    assert client.get("/console").status == 303, "signed out, also for a copy of the cookie"


def test_a_study_is_shown_and_approved(client: Client, state: ConsoleState) -> None:
    assert ASKED.study_name in client.get("/console").text
    told = client.get(STUDY).text
    for said in (ASKED.analyst, ASKED.project, ASKED.cost, ASKED.leaves, "SELECT gender_concept"):
        assert said in told
    for digest in (MARK, ASKED.digest, ASKED.code_digest):
        assert digest in told.replace("<wbr>", "")
    reply = client.send(f"{STUDY}/approve", span="days", days="30")
    assert (reply.status, reply.headers["location"]) == (303, "/console?said=approve")
    entry = state.approvals.find(MARK)
    assert (entry.state, entry.days, entry.decided_by) == ("approved", 30, "olga")
    assert "The study is approved." in client.get("/console?said=approve").text
    assert "30 days" in client.get("/console/decided").text
    assert client.send(f"{STUDY}/approve", span="run", days="").status == 303
    assert state.approvals.find(MARK).days is None


def test_a_study_is_refused_with_a_reason_and_taken_back(
    client: Client, state: ConsoleState
) -> None:
    client.send(f"{STUDY}/refuse", reason="No ethics approval.")
    assert state.approvals.find(MARK).reason == "No ethics approval."
    assert "No ethics approval." in client.get("/console/decided").text
    client.send(f"{STUDY}/revoke")
    assert state.approvals.state(MARK) == "pending"


@pytest.mark.parametrize(
    ("deed", "form"),
    [
        ("refuse", {"reason": ""}),
        ("refuse", {"reason": "x" * 201}),
        ("refuse", {}),
        ("approve", {"span": "days", "days": "0"}),
        ("approve", {"span": "days", "days": "-1"}),
        ("approve", {"span": "days", "days": "1e9"}),
        ("approve", {"span": "days", "days": "٣٠"}),
        ("approve", {"span": "for ever"}),
        ("approve", {}),
    ],
)
def test_a_form_that_is_wrong_decides_nothing_and_says_why(
    client: Client, state: ConsoleState, deed: str, form: dict[str, str]
) -> None:
    reply = client.send(f"{STUDY}/{deed}", **form)
    assert reply.status == 400
    assert 'role="alert"' in reply.text
    assert form.get("reason", "") in reply.text, "what was written is kept"
    assert state.approvals.state(MARK) == "pending"


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({}, ""),
        ({}, "0" * 64),
        ({}, "é"),
        ({"Origin": "http://evil.example"}, None),
        ({"Origin": "null"}, None),
        ({"Origin": "http://127.0.0.1:1"}, None),
        ({"Sec-Fetch-Site": "cross-site"}, None),
        ({"Sec-Fetch-Site": "same-site"}, None),
    ],
)
def test_another_page_cannot_send_the_form(
    client: Client, state: ConsoleState, headers: dict[str, str], token: str | None
) -> None:
    form = {"span": "run", "form_token": client.get(STUDY).form_token if token is None else token}
    assert client.post(f"{STUDY}/approve", form, **headers).status == 403
    assert state.approvals.state(MARK) == "pending"


def test_another_sessions_form_token_is_refused(client: Client, sessions: Sessions) -> None:
    other = Client(client.port)
    other.sign_in(sessions.invite())
    form = {"span": "run", "form_token": other.get("/console").form_token}
    assert client.post(f"{STUDY}/approve", form).status == 403


def test_our_own_page_may_send_it(client: Client) -> None:
    form = {"span": "run", "form_token": client.get(STUDY).form_token}
    origin = f"http://127.0.0.1:{client.port}"
    same = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
    assert client.post(f"{STUDY}/approve", form, **same).status == 303


HOSTS = {
    "127.0.0.1:9": 200,
    "localhost:9000": 200,
    "[::1]:9000": 200,
    "evil.example": 421,
    "127.0.0.1.evil.example": 421,
    "evil.example#127.0.0.1": 421,
    "127.0.0.1@evil.example": 421,
    "[::1": 421,
    "": 421,
}


def test_a_rebound_name_reaches_nothing(client: Client) -> None:
    for host, status in HOSTS.items():
        for path in ("/console", "/console/style.css"):
            assert client.get(path, Host=host).status == status, host


def test_every_reply_forbids_scripts_frames_and_copies(client: Client, stranger: Client) -> None:
    replies = [client.get(f"/console{path}") for path in (*PAGES, "/nothing", "/style.css")]
    replies += [stranger.get("/console"), stranger.get("/console", Host="evil.example")]
    for reply in replies:
        assert reply.headers["content-security-policy"] == (
            "default-src 'none'; style-src 'self'; form-action 'self'; "
            "base-uri 'none'; frame-ancestors 'none'"
        )
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "server" not in reply.headers


def test_pages_hold_our_markup_alone(client: Client, state: ConsoleState) -> None:
    state.approvals.ask(HOSTILE)
    refused = replace(HOSTILE, study="refused")
    state.approvals.ask(refused)
    state.approvals.refuse(refused.fingerprint, MARKUP.replace("\u202e", ""), "</textarea><script>")
    studies = [f"/studies/{asked.fingerprint}" for asked in (HOSTILE, refused)]
    for path in (*PAGES, *studies, "/login?token=%22%3E%3Cb%3E"):
        text = client.get(f"/console{path}").text
        assert "\u202e" not in text, path
        tags = Tags()
        tags.feed(text)
        assert not tags.tags & {"script", "img", "style", "iframe", "b", "object"}, path
        assert not {a for a in tags.attributes if a.startswith("on") or a == "style"}, path
        assert all(a.startswith(("/console", "#")) for a in tags.addresses), path
        for facts in tags.fields:
            assert facts.get("id") in tags.labelled or facts.get("aria-label"), (path, facts)


def test_there_is_nothing_else(client: Client) -> None:
    studies = ("0000", MARK[:12], "0" * 64, "..%2f..%2fsite.toml")
    others = ("/console/nothing", "/", "/docs", "/openapi.json")
    for path in (*(f"/console/studies/{study}" for study in studies), *others):
        assert client.get(path).status == 404, path


def test_a_number_that_is_none_is_a_page_not_a_traceback(client: Client) -> None:
    for before in ("x", "1e400", "9" * 5000):
        reply = client.get(f"/console/audit?before={before}")
        assert reply.status == 422
        assert "does not understand" in reply.text


def test_a_long_form_is_not_read_to_its_end(client: Client) -> None:
    reply = client.send(f"{STUDY}/refuse", reason="x" * 20_000)
    assert reply.status == 413


def test_older_lines_of_the_audit_are_reached(client: Client) -> None:
    first = client.get("/console/audit").text
    assert "?before=151" in first
    assert "?before=51" in client.get("/console/audit?before=151").text
    assert "?before=" not in client.get("/console/audit?before=51").text


def test_an_audit_that_is_not_whole_is_said(tmp_path: Path) -> None:
    state = sample(tmp_path, problems=("Line 3 was changed.", MARKUP))
    sessions = Sessions()
    with console_running(state, sessions) as port:
        client = Client(port)
        client.sign_in(sessions.invite())
        told = client.get("/console/audit?verify=true").text
    assert "The audit is not whole." in told
    assert "Line 3 was changed." in told


def test_what_the_audit_cannot_record_is_not_decided(tmp_path: Path) -> None:
    def full(decision: Decision) -> None:
        raise LedgerError("The audit cannot be written.")

    state = replace(sample(tmp_path), approvals=Approvals.open(tmp_path, record=full))
    state.approvals.ask(ASKED)
    sessions = Sessions()
    with console_running(state, sessions) as port:
        client = Client(port)
        client.sign_in(sessions.invite())
        reply = client.send(f"{STUDY}/approve", span="run")
    assert reply.status == 503
    assert "The audit cannot be written." in reply.text
    assert state.approvals.state(MARK) == "pending"
