"""The analyst's own check: what sites signed is what the result says."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from federated_analytics.couriers import InProcessCourier
from federated_analytics.errors import BadSignature, WireError
from federated_analytics.exchange import Replayed
from federated_analytics.federation import Terms, run_study
from federated_analytics.signing import (
    PublicKey,
    is_signed_reply,
    request_hash,
    unverified_reply,
    verify_reply,
)

if TYPE_CHECKING:
    from federated_analytics.report.result import Result
    from federated_analytics.study import Study

KNOWN_SITES = Path.home() / ".config" / "federated-analytics" / "sites.json"
"""Public keys of sites by name, as their operators gave them."""


class AlteredResult(BadSignature):
    """The result is not what follows from the sites' signed releases."""

    code = "altered_result"
    default_remedy = "Ask the server operator; the sites' audits tell what they released."


def packed(result: str, replies: Mapping[str, bytes]) -> str:
    """A result's JSON with the replies that it was made of, for the way back."""
    held = {address: base64.b64encode(body).decode() for address, body in replies.items()}
    return json.dumps({"result": result, "replies": held})


def unpacked(text: str) -> tuple[str, dict[str, bytes]]:
    """What `packed` made; WireError otherwise."""
    try:
        data = json.loads(text)
        replies = {a: base64.b64decode(body) for a, body in data["replies"].items()}
        return str(data["result"]), replies
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WireError("The result came back in another form.") from error


def check(
    result: Result,
    study: Study,
    envelope: bytes,
    replies: Mapping[str, bytes],
    *,
    min_sites: int,
    known: Path = KNOWN_SITES,
    secure: bool = False,
) -> None:
    """Verify every reply, make the result from them again, and compare the two.

    Args:
        envelope: the signed request, as it was sent.
        known: file of the sites' pinned keys.

    Raises:
        BadSignature: a reply was altered, answers another request, or is signed by another key
            than the site had before.
        AlteredResult: the numbers are not those of the replies.
    """
    pinned = pinned_keys(known)
    terms = Terms(min_sites, 60.0)
    if secure:
        again = _summed_again(study, envelope, replies, terms, pinned)
    else:
        releases: dict[str, bytes] = {}
        for address, body in replies.items():
            releases[address] = _verified(body, request_hash(envelope), pinned)
        said = {address: partial(_said, release) for address, release in releases.items()}
        again = run_study(study, InProcessCourier(said), terms)
    if _numbers(again) != _numbers(result):
        raise AlteredResult("The result's numbers are not those that the sites signed.")


def _summed_again(
    study: Study,
    envelope: bytes,
    replies: Mapping[str, bytes],
    terms: Terms,
    pinned: Mapping[str, str],
) -> Result:
    """The result of a secure sum from its replies, each verified against what it answers."""
    courier = Replayed(replies, lambda reply, asked: _verified(reply, request_hash(asked), pinned))
    try:
        return run_study(study, courier, terms, signed_request=envelope, secure=True)
    finally:
        if courier.errors:
            raise courier.errors[0]


def _said(release: bytes, request: bytes) -> bytes:
    return release


def _verified(body: bytes, request: str, pinned: Mapping[str, str]) -> bytes:
    if not is_signed_reply(body):
        raise BadSignature("A site's reply is not signed.")
    claimed = unverified_reply(body)
    name = claimed.site
    if name not in pinned:
        raise BadSignature(
            "The site's key is not known here.",
            where=name,
            remedy="Add it: `federated-analytics key trust SITE ed25519:…`, with the line that "
            "the site's `federated-analytics site key` prints.",
        )
    key = PublicKey(pinned[name])
    return verify_reply(body, request, {key.fingerprint: key}).release


def pinned_keys(known: Path = KNOWN_SITES) -> dict[str, str]:
    """The sites' public keys that are trusted here, by name."""
    if not known.exists():
        return {}
    return {str(k): str(v) for k, v in json.loads(known.read_text(encoding="utf-8")).items()}


def _pin(known: Path, keys: Mapping[str, str]) -> None:
    known.parent.mkdir(parents=True, exist_ok=True)
    temporary = known.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(dict(sorted(keys.items())), indent=1), encoding="utf-8")
    temporary.replace(known)


def trust(site: str, key: str, known: Path = KNOWN_SITES) -> None:
    """Pin a site's public key; ConfigError where it is none."""
    _pin(known, {**pinned_keys(known), site: PublicKey(key).text})


def _numbers(result: Result) -> Sequence[tuple[object, ...]]:
    """Every row but those of how long it took."""
    return [
        (
            row.result_id,
            row.cdm_name,
            row.strata_level,
            row.variable_name,
            row.variable_level,
            row.estimate_name,
            row.estimate_value,
        )
        for row in result.rows
        if result.result_type(row.result_id) != "participation"
    ]
