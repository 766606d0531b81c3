"""Fragments behind a policy: asks in, a release out. The whole surface is `FragmentSite.answer`."""

from __future__ import annotations

import hashlib
import logging
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from federated_analytics import __version__, wire
from federated_analytics.errors import ConfigError, FederatedAnalyticsError, SiteFailed, WireError
from federated_analytics.fedmed.answering import Answering, as_refusal
from federated_analytics.fedmed.compared import Compared
from federated_analytics.fedmed.expression import Column, walk
from federated_analytics.fedmed.fragments import Fragment
from federated_analytics.fedmed.persons import Persons
from federated_analytics.fedmed.protocol import Asks
from federated_analytics.fedmed.reduce import prepare
from federated_analytics.fedmed.sql.table import Snapshot, SQLTable, TableFragment
from federated_analytics.fedmed.versions_folder import made_once
from federated_analytics.messages import Request
from federated_analytics.privacy.audit import Audit
from federated_analytics.privacy.ledger import Ledger
from federated_analytics.privacy.policy import refuse
from federated_analytics.privacy.release import Release

if TYPE_CHECKING:
    from federated_analytics.fedmed.config import Config
    from federated_analytics.fedmed.guards import Guard
    from federated_analytics.fedmed.versions import Versions

log = logging.getLogger(__name__)
SECRET_BYTES = 32


class FragmentSite:
    """The fragments of one owner, and what may be told of them.

    Args:
        config: methods and policy; the strict default where left out.
        state: a folder that keeps versions and what was asked for; a temporary one where left
            out, so that a restart forgets it.
        name: shown in answers.
        audited: every answer is written into the state folder before it leaves. Behind a site's
            service, that writes them.

    Raises:
        ConfigError: new rows are to be held back, and no folder keeps them over a restart.
    """

    def __init__(
        self,
        config: Config | None = None,
        state: Path | None = None,
        *,
        name: str = "",
        audited: bool = False,
    ) -> None:
        from federated_analytics.fedmed.config import Config
        from federated_analytics.fedmed.versions import Versions

        self.config = Config() if config is None else config
        self.name = name
        if self.config.new_samples is not None and state is None:
            raise ConfigError(
                "A restart would show the rows that NewSamples holds back.",
                where="privacy: NewSamples",
                remedy='Name a folder that keeps them: fm.Server(config, state="state").',
            )
        self._temporary = None if state else tempfile.TemporaryDirectory(prefix="fedmed-")
        folder = state or Path(self._temporary.name if self._temporary else "")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._secret = _secret(folder)
        self._versions: Versions = Versions(state, self.config.new_samples)
        self._ledger = (
            None if self.config.is_off else Ledger.open(folder, durable=state is not None)
        )
        self._audit = Audit.open(folder, self._ledger) if audited and self._ledger else None
        self._lock = threading.Lock()
        self._persons: dict[str, Persons] = {}
        self._tables: dict[str, TableFragment] = {}
        self._guards: dict[str, tuple[object, Guard]] = {}
        self._compared: dict[str, Compared] = {}

    def __setitem__(self, fragment: str, data: Any) -> None:
        if isinstance(data, SQLTable):
            self._put_table(fragment, data)
            return
        self._tables.pop(fragment, None)
        self._versions.put(fragment, data)
        self._load_rules()
        published = self._versions.published(fragment)[0]
        prepare(published)
        self.persons(fragment, published).prepare()

    def _put_table(self, fragment: str, table: SQLTable) -> None:
        if self.config.new_samples is not None:
            raise ConfigError(
                "New rows of a database's table cannot be held back.",
                where="privacy: NewSamples",
                remedy="Offer a copy of the table as a Parquet file, or another server without it.",
            )
        keyed = self.config.policy.min_count > 1 and self.config.policy.overlap
        self._tables[fragment] = table.open(keyed=keyed)
        self._versions.remove(fragment)
        self._load_rules()

    def _load_rules(self) -> None:
        """Import now what the first request would wait for."""
        if not self.config.is_off:
            import highspy  # noqa: F401
            import pyroaring  # noqa: F401

            import federated_analytics.privacy.complementary  # noqa: F401

    def __delitem__(self, fragment: str) -> None:
        self._tables.pop(fragment, None)
        self._versions.remove(fragment)
        self._compared.pop(fragment, None)  # the ledger remembers

    def __getitem__(self, fragment: str) -> Fragment | TableFragment:
        if fragment in self._tables:
            return self._tables[fragment]
        return self._versions.published(fragment)[0]

    def append(self, fragment: str, rows: Any) -> None:
        """Rows behind a fragment's own; published when the owner's policy lets them be."""
        if fragment in self._tables:
            raise ConfigError(
                "Rows are added to a database's table in the database.", where=fragment[:100]
            )
        self._versions.append(fragment, rows)

    def rows(self, fragment: str) -> int:
        """Rows of what is shown, for the owner."""
        if fragment in self._tables:
            with self._tables[fragment].snapshot() as snapshot:
                return snapshot.rows()
        return self._versions.published(fragment)[0].rows

    def version(self, fragment: str) -> int | str:
        """Of what is shown."""
        if fragment in self._tables:
            with self._tables[fragment].snapshot() as snapshot:
                return snapshot.version
        return self._versions.published(fragment)[1]

    def waiting(self, fragment: str) -> Fragment | None:
        """The data that will be shown once enough of it is new."""
        return None if fragment in self._tables else self._versions.waiting(fragment)

    def answer(self, body: bytes) -> bytes:
        """A release, as bytes. Never raises; never says more."""
        encoded = self._encoded(self.release(body))
        if self._audit is None:
            return encoded
        refusal = wire.decode_release(encoded).refusal
        try:
            self._audit.append(
                {
                    "decision": "refused" if refusal else "released",
                    "code": refusal.code if refusal else "",
                    "kind": "fedmed",
                    "study": hashlib.sha256(body).hexdigest(),
                },
                released=encoded,
            )
        except FederatedAnalyticsError as error:
            log.error("the audit cannot be written: %s", error.code)
            return wire.encode_release(self._refused(error))
        return encoded

    def _encoded(self, release: Release) -> bytes:
        try:
            return wire.encode_release(release)
        except Exception:
            log.exception("the release cannot be written for the wire")
            return wire.encode_release(self._refused(SiteFailed()))

    def release(self, body: bytes) -> Release:
        """The release that answers a request of the kind `fedmed`."""
        try:
            request = wire.decode_request(body)
            if request.kind != "fedmed":
                raise WireError("The request is not of the kind fedmed.")
            return self._released(request)
        except FederatedAnalyticsError as error:
            log.warning("refused: %s", error.code)
            return self._refused(error)
        except Exception:
            log.exception("the asks could not be answered")
            return self._refused(SiteFailed())

    def refused(self, error: FederatedAnalyticsError) -> bytes:
        """A refusal of everything that is asked, as bytes."""
        return wire.encode_release(self._refused(error))

    def _refused(self, error: FederatedAnalyticsError) -> Release:
        return refuse(as_refusal(error), site=self.name, study="", round=0, version=__version__)

    def _released(self, request: Request) -> Release:
        started = time.monotonic()
        asks = Asks.from_json(request.study)
        with self._snapshot(asks) as snapshot:
            answers = Answering(self, snapshot).answers(asks)
        return self.config.policy.release(
            (),
            answers=answers,
            site=self.name,
            study=hashlib.sha256(request.study.encode()).hexdigest(),
            round=request.round,
            version=__version__,
            database="",
            synthetic=False,
            seconds=int(1_000 * (time.monotonic() - started)) / 1_000,
        )

    @contextmanager
    def _snapshot(self, asks: Asks) -> Iterator[dict[str, tuple[Fragment | Snapshot, int | str]]]:
        """One version of each fragment that is named, for the whole request."""
        named = {ask.fragment for ask in asks.asks} | {
            node.fragment
            for ask in asks.asks
            for expression in (*ask.rows, *ask.by)
            for node in walk(expression)
            if isinstance(node, Column) and node.fragment
        }
        found: dict[str, tuple[Fragment | Snapshot, int | str]] = {
            name: self._versions.published(name) for name in named & set(self._versions.names)
        }
        with ExitStack() as stack:
            for name in sorted(named & set(self._tables)):
                table = stack.enter_context(self._tables[name].snapshot())
                found[name] = table, table.version
            yield found

    @property
    def ledger(self) -> Ledger | None:
        return self._ledger

    @property
    def secret(self) -> bytes:
        """Seeds the owner's noise, so that the same question has the same."""
        return self._secret

    def persons(self, name: str, fragment: Fragment) -> Persons:
        """Whose rows a fragment's are; kept until it has another version."""
        held = self._persons.get(name)
        if held is None or held.fragment is not fragment:
            held = self._persons[name] = Persons(fragment, self.config.persons)
        return held

    def guard(self, fragment: str, versions: object, made: Callable[[], Guard]) -> Guard:
        """The guard of a fragment while these versions are asked of, made where there is none."""
        held = self._guards.get(fragment)
        if held is None or held[0] != versions:
            held = self._guards[fragment] = versions, made()
        return held[1]

    def compared(self, fragment: str) -> Compared:
        """What was asked of a fragment's persons, in all of its versions (R5)."""
        if fragment not in self._compared:
            self._compared[fragment] = Compared(self._ledger, self.config.policy, fragment)
        return self._compared[fragment]

    @contextmanager
    def one_at_a_time(self) -> Iterator[None]:
        """Of two requests at once, the second sees what the first was told."""
        with self._lock:
            if self._ledger is None:
                yield
            else:
                with self._ledger.exclusive():
                    yield

    @property
    def names(self) -> list[str]:
        return sorted({*self._versions.names, *self._tables})


def _secret(folder: Path) -> bytes:
    """The site's own secret, made where there is none."""
    found = made_once(folder / "fedmed.secret", secrets.token_bytes(SECRET_BYTES))
    if len(found) != SECRET_BYTES:
        raise ConfigError(
            "The site's secret is not whole.",
            where=str(folder / "fedmed.secret"),
            remedy="Bring it back from a copy; a new one lets every noise be drawn again.",
        )
    return found
