"""A site's policy: its own file, strict by default, the only maker of releases."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from federated_analytics.aggregates.table import Table
from federated_analytics.errors import PolicyError
from federated_analytics.messages import Answer, Disclosure, Refusal, Terms
from federated_analytics.privacy.release import _MADE_BY_POLICY, Release
from federated_analytics.privacy.suppression import suppress, withheld_places


@dataclass(frozen=True)
class Evidence:
    """What one analysis computed in one population, before the policy: it stays at the site.

    Fields:
        labels: names that the vocabulary gives to variables
        public: texts that are known without the data (the study's features, levels made by
            breaks, …); any other text comes from a row and leaves only with a released cell
    """

    analysis: int
    population: str
    table: Table
    labels: dict[str, str]
    public: frozenset[str]
    refusal: Refusal | None = None


class Policy(BaseModel):
    """What may leave a site. Unknown keys are errors; nothing loosens by accident.

    A policy file is TOML with these keys at its top level or under `[policy]`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    preset: Literal["strict"] = "strict"
    min_count: int = Field(
        default=5, ge=1, le=10_000, description="R1: fewest persons behind a released number"
    )
    min_sites: int = Field(
        default=2, ge=1, le=1_000, description="R12: fewest sites behind a pooled number"
    )
    per_site: bool = Field(
        default=False, description="may the site's own numbers be shown beside the pooled ones"
    )

    @classmethod
    def load(cls, path: Path) -> Self:
        """The policy in a TOML file; PolicyError names the key and the reason."""
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise PolicyError(
                f"The policy file cannot be read ({error.strerror}).",
                where=str(path),
                remedy="Give the path of a TOML file, or leave `policy` out for the strict one.",
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise PolicyError(f"This is not TOML: {error}.", where=str(path)) from error
        return cls.parse(data, where=str(path))

    @classmethod
    def parse(cls, data: dict[str, object], *, where: str) -> Self:
        """The policy in a parsed TOML document."""
        table = data.get("policy", data) if set(data) == {"policy"} else data
        try:
            return cls.model_validate(table)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            known = ", ".join(cls.model_fields)
            raise PolicyError(
                f"{first['msg']}.", where=f"{where}: {key}", remedy=f"The keys are: {known}."
            ) from error

    @property
    def terms(self) -> Terms:
        """The public part, which travels with every release."""
        return Terms(self.preset, self.min_count, self.min_sites, self.per_site)

    def release(
        self,
        evidence: Iterable[Evidence],
        *,
        site: str,
        study: str,
        round: int,
        version: str,
        database: str,
        synthetic: bool,
        seconds: float,
    ) -> Release:
        """What may leave of `evidence`, and a word on what may not."""
        disclosure = Disclosure(
            site=site,
            study=study,
            round=round,
            version=version,
            terms=self.terms,
            database=database,
            synthetic=synthetic,
            seconds=seconds,
            answers=tuple(self._answer(e) for e in evidence),
        )
        return Release(disclosure, _MADE_BY_POLICY)

    def _answer(self, evidence: Evidence) -> Answer:
        cells, withheld = suppress(evidence.table, self.min_count)
        released = {cell.key.variable for cell in cells}
        labels = {name: text for name, text in evidence.labels.items() if name in released}
        told = withheld_places(cells, withheld, evidence.public)
        return Answer(evidence.analysis, evidence.population, cells, told, labels, evidence.refusal)


def refuse(refusal: Refusal, *, site: str, study: str, round: int, version: str) -> Release:
    """The release of a site that answers nothing: a stable code and a remedy (R13)."""
    disclosure = Disclosure(
        site=site,
        study=study,
        round=round,
        version=version,
        terms=None,
        database="",
        synthetic=False,
        seconds=0.0,
        answers=(),
        refusal=refusal,
    )
    return Release(disclosure, _MADE_BY_POLICY)
