"""What travels between server and site: a request out, a disclosure back."""

from __future__ import annotations

from dataclasses import dataclass

from federated_analytics.aggregates.table import Cell, Key


@dataclass(frozen=True)
class Request:
    """One round of a study, for one site: every pending question in one message.

    Fields:
        study: the study's canonical JSON (`Study.to_json`)
        round: 1 for the first
        run: identifies the run; salts the database's fingerprint
        seconds: how long the site may work on it
    """

    study: str
    round: int
    run: str
    seconds: float


@dataclass(frozen=True)
class Refusal:
    """Why a site, or one analysis at it, gave no numbers: never a value, SQL, host or secret."""

    code: str
    where: str
    message: str
    remedy: str


@dataclass(frozen=True)
class Withheld:
    """A cell that the policy kept back, and the rule that did it; never its value."""

    key: Key
    rule: str


@dataclass(frozen=True)
class Answer:
    """A site's cells for one analysis of the study in one of its populations."""

    analysis: int
    population: str
    cells: tuple[Cell, ...]
    withheld: tuple[Withheld, ...]
    labels: dict[str, str]
    refusal: Refusal | None = None


@dataclass(frozen=True)
class Terms:
    """The public part of a site's policy, as it was in force for a release."""

    preset: str
    min_count: int
    min_sites: int
    per_site: bool


@dataclass(frozen=True)
class Disclosure:
    """Everything that a site says in one round.

    Fields:
        site: the site's name, "" where it has none of its own
        study: SHA-256 of the request's study
        database: fingerprint of the database, salted with the run; equal for two sites that
            read the same one
        synthetic: the database says that its data are synthetic
        seconds: time the site worked
        refusal: why the whole study was not answered; then `answers` is empty
    """

    site: str
    study: str
    round: int
    version: str
    terms: Terms | None
    database: str
    synthetic: bool
    seconds: float
    answers: tuple[Answer, ...]
    refusal: Refusal | None = None
