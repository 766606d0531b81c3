"""Who may use the console: one-time tokens, sessions, and the tokens of its forms.

All of it lives in the process: a restart signs everybody out. Of a secret only its hash is kept.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

INVITATION_SECONDS = 600.0
IDLE_SECONDS = 3_600.0
SESSION_SECONDS = 43_200.0
MOST = 100
"""Invitations and sessions at a time; the oldest make room."""


@dataclass(frozen=True)
class _Session:
    begun: float
    seen: float


@dataclass(frozen=True)
class Sessions:
    """The open invitations and sessions of one console. Safe among threads.

    Args:
        clock: seconds; only differences count.
    """

    clock: Callable[[], float] = time.monotonic
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    _invitations: dict[bytes, float] = field(default_factory=dict, repr=False)
    _sessions: dict[bytes, _Session] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def invite(self) -> str:
        """A token that signs in once, within ten minutes."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            while len(self._invitations) >= MOST:
                del self._invitations[next(iter(self._invitations))]
            self._invitations[_hash(token)] = self.clock() + INVITATION_SECONDS
        return token

    def begin(self, token: str) -> str | None:
        """A new session's secret for a token; None where it was used, is too old or is wrong."""
        with self._lock:
            until = self._invitations.pop(_hash(token.strip()), None)
            now = self.clock()
            if until is None or now > until:
                return None
            while len(self._sessions) >= MOST:
                del self._sessions[next(iter(self._sessions))]
            secret = secrets.token_urlsafe(32)
            self._sessions[_hash(secret)] = _Session(now, now)
            return secret

    def known(self, secret: str) -> bool:
        """True while a session lasts: an hour after its last use, twelve hours in all."""
        with self._lock:
            session = self._sessions.get(_hash(secret))
            now = self.clock()
            if session is None:
                return False
            if now - session.seen > IDLE_SECONDS or now - session.begun > SESSION_SECONDS:
                del self._sessions[_hash(secret)]
                return False
            self._sessions[_hash(secret)] = _Session(session.begun, now)
            return True

    def end(self, secret: str) -> None:
        with self._lock:
            self._sessions.pop(_hash(secret), None)

    def form_token(self, secret: str) -> str:
        """What each form of a session carries; another site's page cannot know it."""
        return hmac.new(self._key, secret.encode(), hashlib.sha256).hexdigest()

    def is_form_token(self, secret: str, token: str) -> bool:
        return hmac.compare_digest(self.form_token(secret).encode(), token.encode())


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="replace")).digest()
