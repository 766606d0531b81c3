"""`site.toml`: everything that a site operator decides, in one file."""

from __future__ import annotations

import tomllib
from datetime import date
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from federated_analytics.analyses.base import analyses
from federated_analytics.errors import ConfigError, PolicyError
from federated_analytics.privacy.policy import Policy
from federated_analytics.toml_place import place, remedy

REQUEST_KINDS = ("fedmed", "flame")
"""Kinds of requests besides studies that a site may answer, and grant by their name."""
Name = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[\w .@+-]+$")]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SiteTable(_Table):
    """`[site]`."""

    name: Name = Field(description="the site's name in results")
    state: str = Field(
        default="state",
        min_length=1,
        description="folder of ledger, audit, approvals and the site's own key, beside this file",
    )


class DatabaseTable(_Table):
    """`[database]`."""

    url: str = Field(default="", repr=False, description="SQLAlchemy URL of the database")
    url_env: str = Field(default="", description="instead: an environment variable that holds it")
    url_file: str = Field(default="", description="instead: a file that holds it")
    cdm_schema: str = Field(default="", max_length=63, description="schema of the CDM's tables")
    vocabulary_schema: str = Field(
        default="", max_length=63, description="schema of the vocabulary, if another"
    )
    results_schema: str = Field(
        default="", max_length=63, description="schema of cohort tables, if another"
    )
    work_mem: str = Field(
        default="128MB",
        pattern=r"^\d{1,6}(kB|MB|GB)$",
        description="PostgreSQL's work_mem during a study: memory of one sort or hash",
    )
    temp_file_limit: str = Field(
        default="",
        pattern=r"^(\d{1,6}(kB|MB|GB|TB))?$",
        description="PostgreSQL's temp_file_limit during a study, where the role may set it "
        "(GRANT SET ON PARAMETER, from version 15 on); the role's own where left out",
    )
    version: str = Field(
        default="",
        max_length=100,
        description="names the state of the data; read from the database where left out",
    )

    @model_validator(mode="after")
    def _one_url(self) -> Self:
        if sum(map(bool, (self.url, self.url_env, self.url_file))) != 1:
            raise ValueError("give one of url, url_env and url_file")
        return self


class ServiceTable(_Table):
    """`[service]`."""

    listen: str = Field(
        default="unix:state/site.sock",
        description="unix:PATH, or 127.0.0.1:PORT with token_file",
    )
    users: tuple[str, ...] = Field(
        default=(), description="system users who may connect to the socket; the service's own too"
    )
    group: str = Field(default="", description="system group that may write to the socket")
    token_file: str = Field(default="", description="with a port: the file that holds the token")
    concurrent: int = Field(
        default=2,
        ge=1,
        le=64,
        description="studies that run at once, and connections held to the database",
    )
    queue: int = Field(
        default=16,
        ge=0,
        le=1_000,
        description="requests that are answered beside those; more are told that the site is busy",
    )
    study_seconds: float = Field(
        default=600,
        gt=0,
        le=86_400,
        description="longest that a study may work, and each of its statements; an analyst may "
        "ask for less",
    )
    answer_seconds: float = Field(
        default=5,
        gt=0,
        le=60,
        description="after so long a study is answered with a ticket, and asked for again",
    )
    abandon_seconds: float = Field(
        default=60,
        ge=30,
        le=86_400,
        description="a study that nobody has asked for so long is cancelled: its run was stopped "
        "(a run asks every 15 seconds, or more often)",
    )
    stop_seconds: int = Field(
        default=30,
        ge=0,
        le=3_600,
        description="how long studies may go on once the service is told to stop; then they are "
        "cancelled",
    )
    fragments: str = Field(
        default="",
        description="YAML file of the fragments that FedMed's clients may ask; none where left out",
    )
    data_sources: str = Field(
        default="",
        description="folder with the datasources.json of FHIR servers and S3 stores that approved "
        "scripts may read, each bound to projects; none where left out",
    )
    storage_days: int = Field(
        default=365,
        ge=1,
        le=36_525,
        description="how long what scripts have saved here with a tag is kept; a project's ends "
        "with the project",
    )
    console_port: int = Field(
        default=0, ge=0, le=65_535, description="port of the web console on 127.0.0.1; 0 is none"
    )


class ProjectTable(_Table):
    """`[[project]]`."""

    name: Name = Field(description="a project's name, as analysts give it")
    until: date | None = Field(default=None, description="the last day it may ask")


class AnalystTable(_Table):
    """`[[analyst]]`."""

    name: Name = Field(description="who it is")
    key: str = Field(pattern=r"^ed25519:[A-Za-z0-9+/=_-]{40,60}$", description="her public key")
    projects: tuple[Name, ...] = Field(min_length=1, description="projects she belongs to")
    analyses: tuple[str, ...] = Field(
        default=(),
        description="kinds of analyses that she may ask, with `fedmed` and `flame` among them; "
        "every kind where left out",
    )
    until: date | None = Field(default=None, description="the last day her key is taken")

    @field_validator("analyses")
    @classmethod
    def _known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        known = (*analyses(), *REQUEST_KINDS)
        for kind in kinds:
            if kind not in known:
                raise ValueError(
                    f"there is no analysis {kind[:60]!r}; there are: {', '.join(known)}"
                )
        return kinds


class SecureTable(_Table):
    """`[secure]`."""

    required: bool = Field(
        default=False,
        description="is a study answered in secure sums with the peers alone, never by itself?",
    )


class PeerTable(_Table):
    """`[[peer]]`."""

    name: Name = Field(
        description="another site that secure sums are made with, or that scripts encrypt for"
    )
    key: str = Field(
        pattern=r"^ed25519:[A-Za-z0-9+/=_-]{40,60}$",
        description="its public key, as its `federated-analytics site key` prints it",
    )


class SiteConfig(_Table):
    """A site's configuration. Unknown keys are errors with their place.

    Raises:
        ConfigError: from `load`, with the key and a remedy.
        PolicyError: from `load`, where `[policy]` is at fault.
    """

    site: SiteTable
    database: DatabaseTable
    policy: Policy = Field(default_factory=Policy)
    service: ServiceTable = Field(default_factory=ServiceTable)
    project: tuple[ProjectTable, ...] = Field(default=(), description="`[[project]]`")
    analyst: tuple[AnalystTable, ...] = Field(default=(), description="`[[analyst]]`")
    secure: SecureTable = Field(default_factory=SecureTable)
    peer: tuple[PeerTable, ...] = Field(default=(), description="`[[peer]]`")
    folder: Path = Field(default=Path("."), exclude=True)

    @model_validator(mode="after")
    def _projects_exist(self) -> Self:
        known = [p.name for p in self.project]
        for analyst in self.analyst:
            for name in analyst.projects:
                if name not in known:
                    raise ValueError(f"analyst {analyst.name!r} names no [[project]] {name!r}")
        return self

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The configuration in a file; relative paths in it start at its folder."""
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
            data = tomllib.loads(text)
        except OSError as error:
            raise ConfigError(
                f"The site's configuration cannot be read ({error.strerror}).", where=str(path)
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"This is not TOML: {error}.", where=str(path)) from error
        policy = data.get("policy", {})
        if not isinstance(policy, dict):
            raise PolicyError("The policy is a table: [policy].", where=f"{path}: policy")
        data["policy"] = Policy.parse(policy, where=str(path), text=text)
        try:
            return cls.model_validate({**data, "folder": path.resolve().parent}, strict=False)
        except ValidationError as error:
            first = error.errors()[0]
            message = first["msg"].removeprefix("Value error, ")
            raise ConfigError(
                f"{message[:1].upper()}{message[1:]}.",
                where=place(str(path), text, first["loc"]),
                remedy=remedy(dict(first), TABLES),
            ) from error

    @property
    def state(self) -> Path:
        """Folder of the ledger, the audit, the approvals and the site's key."""
        return self.folder / self.site.state

    @property
    def address(self) -> str:
        """Where the service listens; a socket's path from the file's folder."""
        kind, _, rest = self.service.listen.partition("unix:")
        return f"unix:{self.path(rest)}" if not kind and rest else self.service.listen

    def path(self, text: str) -> Path:
        """A path of the file, from its folder."""
        return self.folder / text


TABLES: dict[str, type[BaseModel]] = {
    "site": SiteTable,
    "database": DatabaseTable,
    "policy": Policy,
    "service": ServiceTable,
    "project": ProjectTable,
    "analyst": AnalystTable,
    "secure": SecureTable,
    "peer": PeerTable,
}
"""The tables of the file, in the order of its documentation."""
