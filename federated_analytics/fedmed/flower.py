"""Fragments at the sites of a Flower federation: a batch of expressions is one run of the app."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federated_analytics.errors import FederatedAnalyticsError
from federated_analytics.fedmed.batch import Fault

REQUEST_KEY, SIGNED_KEY = "request", "signed-request"
"""Keys of the run-config that carry a batch's request, in base64."""


@dataclass(frozen=True)
class FlowerSites:
    """The sites behind one SuperLink.

    Args:
        superlink: a connection's name in Flower's config.toml, or HOST:PORT.
        seconds: how long a run may take; it costs about 12 s however much it carries.
        certificates: for HOST:PORT with TLS; without, the connection is insecure.
        key, project: file of the analyst's key and the project that guarded sites admitted her to.
    """

    superlink: str
    seconds: float = 300.0
    certificates: str = ""
    key: str = ""
    project: str = ""

    def exchange(self, requests: Mapping[str, bytes]) -> Mapping[str, bytes | Fault]:
        from federated_analytics import submit
        from federated_analytics.fedmed.over_flower import request_to_sites

        request = request_to_sites(requests)
        config: dict[str, Any] = {
            REQUEST_KEY: base64.b64encode(request).decode(),
            "min-sites": len(requests),
            "deadline-seconds": int(self.seconds),
            "return-result": True,
        }
        trusted = self.certificates or None
        try:
            signed = self._signed(request) if self.key else b""
            if signed:
                config[SIGNED_KEY] = base64.b64encode(signed).decode()
            text = submit.run_app(config, self.superlink, trusted, lambda line: None)
        except FederatedAnalyticsError as error:
            return dict.fromkeys(requests, Fault(error.code, str(error)))
        replies = replies_in(text)
        return {site: _release(site, replies, signed) for site in requests}

    def _signed(self, request: bytes) -> bytes:
        from federated_analytics import submit, wire

        digest = hashlib.sha256(wire.decode_request(request).study.encode()).hexdigest()
        seconds = self.seconds + 600
        return submit.signed_request(request, digest, Path(self.key), self.project, seconds)


def _release(site: str, replies: Mapping[str, bytes], signed: bytes) -> bytes | Fault:
    """What a site released; verified against its known key where the request was signed."""
    from federated_analytics.attested import KNOWN_SITES
    from federated_analytics.exchange import released
    from federated_analytics.signing import PublicKey, request_hash, verify_reply

    if site not in replies:
        others = ", ".join(sorted(replies)) or "no site"
        return Fault(
            "no_answer",
            f"No site of this name answered the run; {others} did.",
            "Start its SuperNode; compare site=… with the `site` of its node config.",
        )
    if not signed:
        return released(replies[site])
    try:
        known = json.loads(KNOWN_SITES.read_text(encoding="utf-8"))
        key = PublicKey(known[site])
        reply = verify_reply(replies[site], request_hash(signed), {key.fingerprint: key})
    except (OSError, ValueError, KeyError):
        return Fault(
            "unknown_site",
            "You have no public key of this site, so its signature proves nothing.",
            "Ask the site operator for it: `federated-analytics key trust`.",
        )
    except FederatedAnalyticsError as error:
        return Fault(error.code, error.message, error.remedy)
    return reply.release


def replies_in(text: str) -> dict[str, bytes]:
    """The replies that `over_flower.run` wrote down, by site."""
    return {site: base64.b64decode(body) for site, body in json.loads(text).items()}
