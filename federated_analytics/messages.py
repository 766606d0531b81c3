"""What travels between server and site: a request out, a disclosure back."""

from __future__ import annotations

from dataclasses import dataclass

from federated_analytics.aggregates.table import Cell, Key


@dataclass(frozen=True)
class Request:
    """One round of a study, for one site: every pending question in one message.

    Fields:
        study: the study's canonical JSON (`Study.to_json`); "" asks for the site's terms alone
        round: 1 for the first; a secure sum has four
        run: identifies the run; salts the database's fingerprint
        seconds: how long the site may work on it
        kind: what `study` holds: a "study", the asks of "fedmed", a step of "flame", or of a
            "secure" sum the study (round 1) or what the other sites say (rounds 2 to 4)
    """

    study: str
    round: int
    run: str
    seconds: float
    kind: str = "study"


@dataclass(frozen=True)
class Refusal:
    """Why a site, or one analysis at it, gave no numbers: never a value, SQL, host or secret."""

    code: str
    where: str
    message: str
    remedy: str


@dataclass(frozen=True)
class Withheld:
    """A cell that the policy kept back, and the rule that did it; never its value.

    Fields:
        below: its count is 1 to below - 1; 0 where no more is said of it
    """

    key: Key
    rule: str
    below: int = 0


@dataclass(frozen=True)
class Noise:
    """How much noise one statistic of a family of cells carries (R9).

    Fields:
        strata: names of the family's strata
        level: "" where the cells of all levels share it
        name: which aggregate
        statistic: which of its numbers
        scale: standard deviation, in the statistic's unit
        accuracy95: in 95 of 100 cells it is smaller than this
    """

    strata: tuple[str, ...]
    variable: str
    level: str
    name: str
    statistic: str
    scale: float
    accuracy95: float


@dataclass(frozen=True)
class Answer:
    """A site's cells for one analysis of the study in one of its populations."""

    analysis: int
    population: str
    cells: tuple[Cell, ...]
    withheld: tuple[Withheld, ...]
    labels: dict[str, str]
    refusal: Refusal | None = None
    noise: tuple[Noise, ...] = ()


@dataclass(frozen=True)
class Terms:
    """The public part of a site's policy, as it was in force for a release.

    Fields: as of `privacy.policy.Policy`, which says what each means.
    """

    preset: str
    min_count: int
    min_sites: int
    per_site: bool
    zero_is_sensitive: bool = False
    mode: str = "exact"
    complementary: bool = True
    dominance: float = 1.0
    overlap: bool = False
    rounding: int = 1
    epsilon: float = 0.0
    delta: float = 0.0
    budget_epsilon: float = 0.0
    budget_days: int = 0
    approval: str = "none"
    free_exchange: bool = False
    exchange_bytes: int = 0


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
        charged, remaining: with noise, the ε that this answer cost and what the analyst's budget
            still holds, both at the terms' δ
        exchange: of a script, the letters that it sends, as JSON; "" of everything else
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
    charged: float = 0.0
    remaining: float = 0.0
    exchange: str = ""
