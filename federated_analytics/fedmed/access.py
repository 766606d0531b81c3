"""Who is let in: a token as `Authorization: Bearer`, or in a browser as the password."""

from __future__ import annotations

import base64
import hmac
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from federated_analytics.errors import ConfigError
from federated_analytics.fedmed.remote import TOKEN_VARIABLE
from federated_analytics.fedmed.versions_folder import made_once

FILE = "fedmed.token"


@dataclass(frozen=True)
class Access:
    """The tokens of a server.

    Fields:
        made: a token that nobody has been given yet; "" where the owner gave hers
        file: where that one is kept over restarts and for all processes
    """

    tokens: tuple[str, ...] = field(repr=False)
    made: str = field(default="", repr=False)
    file: Path | None = None

    @classmethod
    def of(cls, tokens: Sequence[str] | None, state: Path | None) -> Self:
        """The owner's tokens, or the environment's; otherwise a new one, kept in `state`."""
        if isinstance(tokens, str):
            raise ConfigError("tokens is a list.", where="tokens", remedy='Write tokens=["…"].')
        if tokens:
            return cls(tuple(tokens))
        if known := os.environ.get(TOKEN_VARIABLE, ""):
            return cls((known,))
        made = secrets.token_urlsafe(24)
        if state is None:
            return cls((made,), made)
        kept = made_once(state / FILE, made.encode()).decode().strip()
        if not kept:
            raise ConfigError(
                "The file of the token is empty.",
                where=str(state / FILE),
                remedy="Remove it: the next start makes a new one.",
            )
        return cls((kept,), kept, state / FILE)

    def knows(self, header: str, *, in_browser: bool) -> bool:
        """Whether a request's Authorization header holds one of the tokens.

        Args:
            in_browser: it may be a password. Browsers send that by themselves to wherever a page
                leads, so it is not accepted where something is asked.
        """
        scheme, _, given = header.partition(" ")
        if scheme.lower() == "basic" and in_browser:
            given = _password(given)
        elif scheme.lower() != "bearer":
            return False
        found = False
        for token in self.tokens:
            found |= hmac.compare_digest(given.encode(), token.encode())
        return found


def _password(given: str) -> str:
    try:
        return base64.b64decode(given, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""
