"""A site's policy: its own file, strict by default, the only maker of releases."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.table import Cell, Key
from federated_analytics.errors import PolicyError
from federated_analytics.messages import Answer, Disclosure, Noise, Refusal, Terms
from federated_analytics.privacy.aligned_intervals import align_intervals
from federated_analytics.privacy.complementary_cells import hold_complements
from federated_analytics.privacy.dominance import hold_dominance
from federated_analytics.privacy.draft import Draft, Evidence
from federated_analytics.privacy.exchange import restrained
from federated_analytics.privacy.minimum_count import hold_minimum_count
from federated_analytics.privacy.places import withheld_places
from federated_analytics.privacy.presets import PRESETS, Preset
from federated_analytics.privacy.release import _MADE_BY_POLICY, Release
from federated_analytics.privacy.remainders import hold_remainders
from federated_analytics.privacy.rounding import round_counts
from federated_analytics.toml_place import place, remedy

if TYPE_CHECKING:
    from federated_analytics.privacy.count_relations import CountedSet

Count = Annotated[int, Field(ge=1, le=10_000)]


class Policy(BaseModel):
    """What may leave a site. Unknown keys are errors; nothing loosens by accident.

    A policy file is TOML with these keys at its top level or under `[policy]`. A preset gives
    every key that the file leaves out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    preset: Preset = Field(default="strict", description="which preset gives the other keys")
    mode: Literal["exact", "dp"] = Field(
        default="exact", description="exact numbers under R1 to R8, or noise with a budget (R9)"
    )
    min_count: Count = Field(default=5, description="R1: fewest persons behind a released number")
    zero_is_sensitive: bool = Field(
        default=False, description="R1: is also a count of zero withheld?"
    )
    complementary: bool = Field(
        default=True, description="R2: is what withheld counts follow from withheld too?"
    )
    dominance: float = Field(
        default=0.8, gt=0, le=1, description="R3: largest part of a sum that one person may be"
    )
    overlap: bool = Field(
        default=True,
        description="R5: are populations that differ from an answered one by 1 to min_count - 1 "
        "persons refused? Needs a state folder",
    )
    same_answer: bool = Field(
        default=True,
        description="R8: is an equivalent question given the same answer again? Needs a state "
        "folder",
    )
    rounding: int = Field(
        default=1, ge=1, le=1_000, description="R11: counts are multiples of this; 1 is exact"
    )
    min_sites: int = Field(
        default=2, ge=1, le=1_000, description="R12: fewest sites behind a pooled number"
    )
    per_site: bool = Field(
        default=False, description="may the site's own numbers be shown beside the pooled ones?"
    )
    epsilon: float = Field(
        default=1.0, gt=0, le=20, description="R9, mode dp: privacy loss of one study, at most"
    )
    delta: float = Field(
        default=1e-6, gt=0, le=1e-3, description="R9, mode dp: δ that goes with every ε"
    )
    budget_epsilon: float = Field(
        default=5.0,
        gt=0,
        le=100,
        description="R10: privacy loss of all of an analyst's studies in one period, at most",
    )
    budget_days: int = Field(default=365, ge=1, le=36_525, description="R10: length of a period")
    approval: Literal["none", "manual"] = Field(
        default="none", description="R14: does a person see each study before it runs?"
    )
    free_exchange: bool = Field(
        default=False,
        description="R14: may an approved script send messages of its own making? No rule looks "
        "at them: the script's approval is what guards them",
    )
    exchange_bytes: int = Field(
        default=10_000_000,
        ge=1,
        le=10_000_000_000,
        description="R14: bytes that one run of an approved script may send, at most",
    )

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        start = PRESETS.get(str(data.get("preset", "strict")))
        return {**start.values, **data} if start is not None else data

    @classmethod
    def load(cls, path: Path) -> Self:
        """The policy in a TOML file; PolicyError names the key and the reason."""
        try:
            text = path.read_text(encoding="utf-8")
            data = tomllib.loads(text)
        except OSError as error:
            raise PolicyError(
                f"The policy file cannot be read ({error.strerror}).",
                where=str(path),
                remedy="Give the path of a TOML file, or leave `policy` out for the strict one.",
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise PolicyError(f"This is not TOML: {error}.", where=str(path)) from error
        return cls.parse(data, where=str(path), text=text)

    @classmethod
    def parse(cls, data: dict[str, Any], *, where: str, text: str = "") -> Self:
        """The policy in a parsed TOML document, of which `text` is the text."""
        table = data.get("policy", data) if set(data) == {"policy"} else data
        try:
            return cls.model_validate(table)
        except ValidationError as error:
            first = error.errors()[0]
            raise PolicyError(
                f"{first['msg']}.",
                where=place(where, text, first["loc"]),
                remedy=remedy(dict(first), cls),
            ) from error

    @cached_property
    def terms(self) -> Terms:
        """The public part, which travels with every release."""
        return Terms(**{field.name: getattr(self, field.name) for field in fields(Terms)})

    def drafts(
        self,
        evidence: Iterable[Evidence],
        past: Mapping[str, Sequence[CountedSet]] | None = None,
    ) -> list[Draft]:
        """The rules in their order, over the whole study.

        Args:
            past: by population, what earlier studies counted in it.
        """
        if self.mode == "dp":
            raise TypeError("an answer with noise is charged first: see `noisy_answer`")
        drafts = [Draft.of(e) for e in evidence]
        zero = self.zero_is_sensitive
        drafts = [hold_minimum_count(d, self.min_count, zero_is_sensitive=zero) for d in drafts]
        drafts = [hold_dominance(d, self.dominance) for d in drafts]
        if self.complementary:
            drafts = align_intervals(drafts, self.min_count)
            drafts = hold_complements(drafts, self.min_count, past)
            drafts = hold_remainders(
                drafts, self.dominance, lambda d: hold_complements(d, self.min_count, past)
            )
        return drafts

    def disclose(
        self, evidence: Iterable[Evidence], drafts: Sequence[Draft] | None = None
    ) -> tuple[Answer, ...]:
        """What may leave of `evidence`; `drafts` where the rules have been applied already."""
        safe = self.drafts(evidence) if drafts is None else drafts
        return tuple(_answer(round_counts(d, self.rounding)) for d in safe)

    def noisy_answer(
        self, evidence: Evidence, cells: Mapping[Key, Aggregate], noise: tuple[Noise, ...]
    ) -> Answer:
        """An answer whose cells carry noise that was charged for (R9)."""
        draft = round_counts(Draft(evidence, cells, {}), self.rounding)
        return replace(_answer(draft), noise=noise)

    def introduce(self, *, site: str, version: str) -> Release:
        """The terms alone: what an analyst may know before she asks."""
        return self.release(
            (),
            site=site,
            study="",
            round=0,
            version=version,
            database="",
            synthetic=False,
            seconds=0.0,
        )

    def exchange(
        self, bundle: Mapping[str, Any], *, site: str, study: str, round: int, version: str
    ) -> Release:
        """What a script's node hands to the hub (R14).

        With `free_exchange` as it is; otherwise without all that the script itself wrote.

        Args:
            bundle: numbered letters, see `privacy.exchange`.
            study: digest of the approved script with its parameters.
        """
        leaving = dict(bundle) if self.free_exchange else restrained(bundle)
        disclosure = Disclosure(
            site=site,
            study=study,
            round=round,
            version=version,
            terms=self.terms,
            database="",
            synthetic=False,
            seconds=0.0,
            answers=(),
            exchange=json.dumps(leaving, separators=(",", ":"), allow_nan=False),
        )
        return Release(disclosure, _MADE_BY_POLICY)

    def release(
        self,
        evidence: Iterable[Evidence],
        *,
        answers: tuple[Answer, ...] | None = None,
        charged: tuple[float, float] = (0.0, 0.0),
        site: str,
        study: str,
        round: int,
        version: str,
        database: str,
        synthetic: bool,
        seconds: float,
    ) -> Release:
        """What may leave of `evidence`, and a word on what may not.

        Args:
            answers: what the rules made of it already, instead of `evidence`.
            charged: with noise, ε of this answer and ε that is left.
        """
        disclosure = Disclosure(
            site=site,
            study=study,
            round=round,
            version=version,
            terms=self.terms,
            database=database,
            synthetic=synthetic,
            seconds=seconds,
            answers=self.disclose(evidence) if answers is None else answers,
            charged=charged[0],
            remaining=charged[1],
        )
        return Release(disclosure, _MADE_BY_POLICY)


def _answer(draft: Draft) -> Answer:
    evidence = draft.evidence
    cells = tuple(Cell(key, value) for key, value in sorted(draft.cells.items()))
    released = {cell.key.variable for cell in cells}
    labels = {name: text for name, text in evidence.labels.items() if name in released}
    told = withheld_places(cells, draft.withheld, evidence.public)
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
