"""Keys and signed messages: what was signed is read, and nothing else is."""

from __future__ import annotations

import dataclasses
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from federated_analytics import key_commands, signing
from federated_analytics.errors import (
    BadSignature,
    ConfigError,
    ExpiredKey,
    ExpiredRequest,
    FederatedAnalyticsError,
    UnknownAnalyst,
    WireError,
)
from federated_analytics.signing import AnalystKey, PublicKey, SigningKey

NOW = 1_800_000_000.0
HOUR = 3_600
KEY, SITE, STRANGER = SigningKey.new(), SigningKey.new(), SigningKey.new()
KEYS = {KEY.fingerprint: AnalystKey(KEY.public)}
SITES = {SITE.fingerprint: SITE.public}


def _signed(key: SigningKey = KEY, seconds: float = HOUR) -> bytes:
    return signing.sign(
        b"a study", key, project="asthma", study="d1", code="c1", seconds=seconds, now=NOW
    )


ENVELOPE = _signed()
REPLY = signing.sign_reply(
    b"a release", SITE, request=signing.request_hash(ENVELOPE), site="hospital-a"
)


def test_a_signed_request_is_read_as_it_was_written() -> None:
    request = signing.verify(ENVELOPE, KEYS, NOW)
    assert (request.request, request.project, request.study, request.code) == (
        b"a study",
        "asthma",
        "d1",
        "c1",
    )
    assert request.key == KEY.fingerprint
    assert request.expires == NOW + HOUR
    assert signing.is_signed_request(ENVELOPE)
    assert not signing.is_signed_request(REPLY)


def test_each_request_has_a_nonce_of_its_own() -> None:
    nonces = {signing.verify(_signed(), KEYS, NOW).nonce for _ in range(50)}
    assert len(nonces) == 50
    assert {len(n) for n in nonces} == {16}


@pytest.mark.parametrize("at", range(len(ENVELOPE)))
def test_a_request_with_a_changed_byte_is_refused(at: int) -> None:
    for flip in (1, 0x80, 0xFF):
        changed = bytearray(ENVELOPE)
        changed[at] ^= flip
        with pytest.raises((BadSignature, UnknownAnalyst, WireError)):
            signing.verify(bytes(changed), KEYS, NOW)


@pytest.mark.parametrize("at", range(len(REPLY)))
def test_a_reply_with_a_changed_byte_is_refused(at: int) -> None:
    changed = bytearray(REPLY)
    changed[at] ^= 1
    with pytest.raises((BadSignature, WireError)):
        signing.verify_reply(bytes(changed), signing.request_hash(ENVELOPE), SITES)


@pytest.mark.parametrize(
    "change",
    [
        {"request": b"another study"},
        {"project": "cancer"},
        {"nonce": bytes(16)},
        {"expires": int(NOW) + 2 * HOUR},
        {"study": "d2"},
        {"code": "c2"},
        {"request": b"a stud", "project": "yasthma"},
    ],
)
def test_a_changed_field_under_the_old_signature_is_refused(change: dict[str, object]) -> None:
    request = signing.verify(ENVELOPE, KEYS, NOW)
    forged = dataclasses.replace(request, **change)._canonical() + ENVELOPE[-64:]  # type: ignore[arg-type]
    with pytest.raises(BadSignature):
        signing.verify(forged, KEYS, NOW)


def test_a_request_in_the_name_of_another_is_refused() -> None:
    request = signing.verify(ENVELOPE, KEYS, NOW)
    message = request._canonical()
    with pytest.raises(BadSignature):
        signing.verify(message + STRANGER.sign(message), KEYS, NOW)
    with pytest.raises(UnknownAnalyst):
        signing.verify(_signed(STRANGER), KEYS, NOW)
    # A table that lists a key under another's fingerprint admits neither.
    with pytest.raises(UnknownAnalyst):
        signing.verify(ENVELOPE, {KEY.fingerprint: AnalystKey(STRANGER.public)}, NOW)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600), st.sampled_from([b"", ENVELOPE, REPLY]), st.integers(0, 700))
def test_bytes_that_are_no_envelope_end_in_our_own_error(
    noise: bytes, start: bytes, cut: int
) -> None:
    body = start[:cut] + noise
    if body in (ENVELOPE, REPLY):
        return
    with pytest.raises(FederatedAnalyticsError):
        signing.verify(body, KEYS, NOW)
    with pytest.raises(FederatedAnalyticsError):
        signing.verify_reply(body, signing.request_hash(ENVELOPE), SITES)


def test_time() -> None:
    signing.verify(ENVELOPE, KEYS, NOW + HOUR + 299)
    signing.verify(ENVELOPE, KEYS, NOW - 300)
    with pytest.raises(ExpiredRequest):
        signing.verify(ENVELOPE, KEYS, NOW + HOUR + 301)
    day = _signed(seconds=1e9)
    signing.verify(day, KEYS, NOW)
    with pytest.raises(ExpiredRequest):
        signing.verify(day, KEYS, NOW - 301)
    until = {KEY.fingerprint: AnalystKey(KEY.public, not_after=NOW)}
    signing.verify(ENVELOPE, until, NOW)
    with pytest.raises(ExpiredKey):
        signing.verify(ENVELOPE, until, NOW + 1)


def test_a_reply_holds_for_its_request_alone() -> None:
    reply = signing.verify_reply(REPLY, signing.request_hash(ENVELOPE), SITES)
    assert (reply.release, reply.site) == (b"a release", "hospital-a")
    assert signing.unverified_reply(REPLY) == reply
    with pytest.raises(BadSignature, match="another request"):
        signing.verify_reply(REPLY, signing.request_hash(_signed()), SITES)
    with pytest.raises(BadSignature, match="known site"):
        signing.verify_reply(REPLY, signing.request_hash(ENVELOPE), {})


def test_a_signature_of_one_kind_of_message_is_none_of_another() -> None:
    with pytest.raises(WireError):
        signing.verify_reply(ENVELOPE, "", {KEY.fingerprint: KEY.public})
    with pytest.raises(WireError):
        signing.verify(REPLY, KEYS, NOW)


def test_a_key_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "key.pem"
    key = SigningKey.new()
    key.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SigningKey.load(path).public == key.public
    with pytest.raises(ConfigError, match="never overwritten"):
        SigningKey.new().save(path)
    assert SigningKey.load(path).public == key.public
    for mode in (0o640, 0o604, 0o620):
        path.chmod(mode)
        with pytest.raises(ConfigError, match="Others than its owner"):
            SigningKey.load(path)


@pytest.mark.parametrize("text", [b"", b"\x00" * 99, b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_file_that_is_no_key(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="no Ed25519 private key"):
        SigningKey.load(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        SigningKey.load(tmp_path / "absent.pem")


def test_a_private_key_is_not_shown() -> None:
    assert "Ed25519PrivateKey" not in repr(KEY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ed25519:",
        "ed25519:AAAA",
        KEY.public.text + "\n",
        KEY.public.text.removeprefix("ed25519:"),
        KEY.public.text[:-2] + "é=",
        KEY.public.text.upper(),
    ],
    ids=["nothing", "no bytes", "short", "a line end", "no prefix", "another letter", "upper case"],
)
def test_a_public_key_is_written_one_way(text: str) -> None:
    with pytest.raises(ConfigError, match="not a public key"):
        PublicKey(text)


def test_the_commands(tmp_path: Path) -> None:
    runner = CliRunner(env={"HOME": str(tmp_path)})
    path = tmp_path / "key.pem"
    made = runner.invoke(key_commands.app, ["new", str(path)])
    assert made.exit_code == 0
    key = SigningKey.load(path)
    assert key.public.text in made.output
    assert "PRIVATE" not in made.output
    shown = runner.invoke(key_commands.app, ["show", str(path)]).output
    assert shown == f"{key.public.text}\n"
    of_file = runner.invoke(key_commands.app, ["fingerprint", str(path)]).output
    of_text = runner.invoke(key_commands.app, ["fingerprint", key.public.text]).output
    assert of_file == of_text
    assert of_file.replace(" ", "").strip() == key.fingerprint
    again = runner.invoke(key_commands.app, ["new", str(path)])
    assert isinstance(again.exception, ConfigError)
    assert os.listdir(tmp_path) == ["key.pem"]
