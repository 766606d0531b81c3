"""A site: answers a request with a release. The whole surface is `Site.answer`."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from federated_analytics import __version__, wire
from federated_analytics.errors import (
    ConfigError,
    DatabaseTimeout,
    FederatedAnalyticsError,
    PolicyError,
    SiteFailed,
    did_you_mean,
)
from federated_analytics.messages import Refusal, Request
from federated_analytics.omop.tables import Cdm
from federated_analytics.privacy.policy import Policy, refuse
from federated_analytics.privacy.release import Release

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.engine import URL

    from federated_analytics.execution import OnPopulation
    from federated_analytics.omop.pool import ConnectionPool
    from federated_analytics.omop.stop import Stop
    from federated_analytics.privacy.draft import Evidence
    from federated_analytics.site_config import SiteConfig
    from federated_analytics.study import Study

log = logging.getLogger(__name__)
T = TypeVar("T")

NODE_CONFIG = (
    "db-port",
    "db-url",
    "db-url-env",
    "db-url-file",
    "cdm-schema",
    "vocabulary-schema",
    "results-schema",
    "policy",
    "site",
    "site-service",
    "site-token-file",
    "fragments",
)
FLOWERS_OWN = ("partition-id", "num-partitions")
FIRST_PORT = 5433
LONGEST_SECONDS = 3_600.0
"""However long a request would let a site work."""


@dataclass(frozen=True)
class Examined:
    """What one site found for a study: never leaves before the policy has seen it.

    Fields:
        database: the database's fingerprint in this run
        seconds: time it took
    """

    evidence: tuple[Evidence, ...]
    database: str
    synthetic: bool
    seconds: float


@dataclass(frozen=True)
class Site:
    """One hospital's database with its policy.

    Args:
        url: SQLAlchemy URL of a PostgreSQL database.
        name: shown in results; "" leaves the naming to the server.
        pool: connections that a service holds; without it, each snapshot opens its own.
        stop: ends a study from another thread; needs a pool.
    """

    url: URL = field(repr=False)
    policy: Policy = field(default_factory=Policy)
    cdm: Cdm = field(default_factory=Cdm)
    name: str = ""
    pool: ConnectionPool | None = field(default=None, repr=False, compare=False)
    stop: Stop | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_node_config(cls, config: Mapping[str, Any]) -> Self:
        """The site that a SuperNode's `--node-config` describes; ConfigError otherwise."""
        from federated_analytics.omop.database import database_url

        for key in config:
            if key not in (*NODE_CONFIG, *FLOWERS_OWN):
                raise ConfigError(
                    f"There is no node-config key {str(key)[:60]!r}.",
                    where="node-config",
                    remedy=did_you_mean(str(key), NODE_CONFIG)
                    or f"The keys are: {', '.join(NODE_CONFIG)}.",
                )
        schemas = (_text(config, f"{s}-schema") for s in ("cdm", "vocabulary", "results"))
        policy = _text(config, "policy")
        return cls(
            url=database_url(_url(config)),
            policy=Policy.load(Path(policy)) if policy else Policy(),
            cdm=Cdm(*(schema or None for schema in schemas)),
            name=_text(config, "site"),
        )

    @classmethod
    def from_config(cls, config: SiteConfig) -> Self:
        """The site that `site.toml` describes; ConfigError otherwise."""
        from federated_analytics.omop.database import database_url

        table = config.database
        if table.url_file:
            text = URL_READERS["db-url-file"](config.path(table.url_file))
        elif table.url_env:
            text = URL_READERS["db-url-env"](table.url_env)
        else:
            text = table.url
        schemas = (table.cdm_schema, table.vocabulary_schema, table.results_schema)
        cdm = Cdm(*(schema or None for schema in schemas))
        return cls(database_url(text), config.policy, cdm, config.site.name)

    @contextlib.contextmanager
    def snapshot(self, seconds: float) -> Iterator[sa.Connection]:
        """One repeatable-read transaction in the database, rolled back at its end.

        Raises:
            DatabaseError: one of its kinds.
            Stopped: the study is not to go on.
        """
        from federated_analytics.omop.database import snapshot

        made = self.pool.snapshot(seconds, self.stop) if self.pool else snapshot(self.url, seconds)
        with made as connection:
            yield connection

    def answer(self, body: bytes) -> bytes:
        """The release, as bytes, that answers a request. Never raises; never says more."""
        return wire.encode_release(self._release(body))

    def _release(self, body: bytes) -> Release:
        digest, round_number = "", 0
        try:
            request = wire.decode_request(body)
            round_number = request.round
            if not request.study:
                return self.policy.introduce(site=self.name, version=__version__)
            seconds = min(max(request.seconds, 1.0), LONGEST_SECONDS)
            digest, release = _within(seconds, lambda: self._run(request, seconds))
            return release
        except FederatedAnalyticsError as error:
            log.warning("refused: %s (%s)", error.code, error.__cause__ or error.message)
            return self._refusal(error, digest, round_number)
        except Exception:
            log.exception("the study could not be answered")
            return self._refusal(SiteFailed(), digest, round_number)

    def _refusal(self, error: FederatedAnalyticsError, digest: str, round_number: int) -> Release:
        refusal = as_refusal(error)
        return refuse(
            refusal, site=self.name, study=digest, round=round_number, version=__version__
        )

    def _run(self, request: Request, seconds: float) -> tuple[str, Release]:
        from federated_analytics.study import Study

        study = Study.from_json(request.study)
        if self.policy.mode == "dp":
            raise PolicyError(
                "The site's policy answers with noise, and a budget for it needs the site service.",
                remedy="The site operator starts `federated-analytics site serve site.toml`.",
            )
        started = time.monotonic()
        examined = self.examine(study, request.run, seconds)
        answers = self.policy.disclose(examined.evidence)
        release = self.policy.release(
            (),
            answers=answers,
            site=self.name,
            study=study.digest,
            round=request.round,
            version=__version__,
            database=examined.database,
            synthetic=examined.synthetic,
            seconds=round(time.monotonic() - started, 3),
        )
        return study.digest, release

    def examine(
        self,
        study: Study,
        run: str,
        seconds: float,
        on_population: OnPopulation | None = None,
    ) -> Examined:
        """What a study finds in the database, before the policy: it stays here.

        Args:
            run: salts the database's fingerprint.
            on_population: as of `execution.evidence`.
        """
        # Imported here: a courier that never asks the database starts without them.
        from federated_analytics.execution import evidence
        from federated_analytics.omop.database import cdm_source, fingerprint

        started = time.monotonic()
        with self.snapshot(seconds) as connection:
            source = cdm_source(connection, self.cdm)
            synthetic = "synthetic" in str(source.get("cdm_source_name")).lower()
            if self.policy.preset == "exploration" and not synthetic:
                raise PolicyError(
                    "The policy `exploration` is for databases that say that they are synthetic.",
                    remedy="The site operator sets another preset.",
                )
            bounded = self.policy.mode == "dp"
            found = evidence(connection, self.cdm, study, on_population, bounded=bounded)
            database = fingerprint(connection, self.cdm, run)
        if self.stop is not None:
            self.stop.check()  # before anything is charged for what was found
        return Examined(tuple(found), database, synthetic, round(time.monotonic() - started, 3))


def answer(node_config: Mapping[str, Any], request: bytes) -> bytes:
    """Everything that a ClientApp does: never raises."""
    try:
        if node_config.get("site-service"):
            return _from_service(node_config, request)
        site = Site.from_node_config(node_config)
    except FederatedAnalyticsError as error:
        log.warning("the node config cannot be used: %s", error)
        name = str(node_config.get("site", ""))[:100]
        release = refuse(as_refusal(error), site=name, study="", round=0, version=__version__)
        return wire.encode_release(release)
    return site.answer(request)


def _from_service(config: Mapping[str, Any], request: bytes) -> bytes:
    """The answer of the site's own process: this one passes bytes and knows nothing."""
    from federated_analytics.site_service.socket_client import ask

    others = [key for key in config if key not in ("site-service", "site-token-file", "site")]
    if unwanted := [key for key in others if key not in FLOWERS_OWN]:
        raise ConfigError(
            f"{unwanted[0]!r} is given beside site-service.",
            where="node-config",
            remedy="The site's own site.toml says it: leave it out.",
        )
    token = _text(config, "site-token-file")
    return ask(_text(config, "site-service"), request, LONGEST_SECONDS, token)


def as_refusal(error: FederatedAnalyticsError) -> Refusal:
    """An error as it may leave a site: our own words only, cut to a bounded length."""
    return Refusal(error.code, error.where[:200], error.message[:300], error.remedy[:300])


def _within(seconds: float, work: Callable[[], T]) -> T:
    """`work()`, or DatabaseTimeout after `seconds`: a frozen database never holds the site."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # handed on to the caller, below
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not outcome:
        raise DatabaseTimeout("The database did not finish in time.")
    return outcome[0]


def _url(config: Mapping[str, Any]) -> str:
    given = [k for k in ("db-port", "db-url", "db-url-env", "db-url-file") if config.get(k)]
    if len(given) > 1:
        raise ConfigError(
            f"{' and '.join(given)} are given together.", where="node-config", remedy="Give one."
        )
    if not given:
        if "partition-id" in config:  # the simulation runtime: node 0 reads 5433, node 1 5434 …
            return quickstart_url(FIRST_PORT + int(config["partition-id"]))
        raise ConfigError(
            "No database is named.",
            where="node-config",
            remedy='Start the SuperNode with --node-config="db-port=5433" or db-url=….',
        )
    return URL_READERS[given[0]](config[given[0]])


def quickstart_url(port: int) -> str:
    """The database that `db_start.sh` starts on a port of this machine."""
    password = os.environ.get("FEDERATED_ANALYTICS_DB_READER_PASSWORD", "omop_reader")
    return f"postgresql://omop_reader:{password}@127.0.0.1:{port}/omop"


def _port(value: Any) -> str:
    if isinstance(value, bool) or not str(value).isdecimal() or not 0 < int(value) < 65_536:
        raise ConfigError(
            "db-port is a port number.", where="node-config: db-port", remedy="Write db-port=5433."
        )
    return quickstart_url(int(value))


def _environment(name: Any) -> str:
    if not os.environ.get(str(name)):
        raise ConfigError(
            f"The environment variable {str(name)[:60]!r} is not set.",
            where="node-config: db-url-env",
            remedy="Set it in the SuperNode's environment.",
        )
    return os.environ[str(name)]


def _file(name: Any) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return Path(str(name)).read_text(encoding="utf-8").strip()
    raise ConfigError(
        "The file of db-url-file cannot be read.",
        where="node-config: db-url-file",
        remedy="Give the path of a file that holds the URL and that the SuperNode may read.",
    )


URL_READERS: Mapping[str, Callable[[Any], str]] = {
    "db-port": _port,
    "db-url": str,
    "db-url-env": _environment,
    "db-url-file": _file,
}


def _text(config: Mapping[str, Any], key: str) -> str:
    value = config.get(key, "")
    if not isinstance(value, str):
        raise ConfigError(
            f"{key} is text.", where=f"node-config: {key}", remedy=f'Write {key}="…".'
        )
    return value
