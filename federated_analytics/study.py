"""The study file: who is asked about, which features, in which groups, by which analyses."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import tomli_w
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    field_validator,
    model_validator,
)

from federated_analytics.analyses.base import FeatureQuery, Query, analyses
from federated_analytics.errors import StudyError, UnknownAnalysis, did_you_mean
from federated_analytics.omop.cohort import Atlas, Everyone, FlatTable, Population
from federated_analytics.omop.features import Feature, catalogue, resolve
from federated_analytics.omop.flat import flat_features
from federated_analytics.omop.strata import (
    INDEX_YEAR,
    SITE,
    Stratum,
    StratumDefinition,
    resolve_strata,
)
from federated_analytics.study_errors import explained

MAX_BYTES = 2**21
MAX_POPULATIONS = 20


class StudyInfo(BaseModel):
    """`[study]`: what the report says of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=5_000)


class Study(BaseModel):
    """A study: any number of analyses over one or more populations.

    Raises:
        StudyError: from `load`, `parse` and `from_json`, with the key path and a remedy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: StudyInfo
    population: tuple[Population, ...] = Field(
        default=(Everyone(),), min_length=1, max_length=MAX_POPULATIONS
    )
    feature: dict[str, dict[str, Any]] = Field(default_factory=dict)
    strata: dict[str, StratumDefinition] = Field(default_factory=dict)
    analysis: tuple[SerializeAsAny[Query], ...] = Field(min_length=1, max_length=100)
    source: str = Field(default="", max_length=MAX_BYTES)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The study in a TOML file; files that it names are looked for beside it."""
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StudyError(
                "The study file cannot be read.",
                where=str(path)[:200],
                remedy="Give the path of a TOML file, such as one of studies/.",
            ) from error
        return cls.parse(text, where=path.name, folder=path.parent)

    @classmethod
    def parse(cls, text: str, *, where: str = "study", folder: Path | None = None) -> Self:
        """The study in a TOML text."""
        if len(text) > MAX_BYTES:
            raise StudyError(f"A study is at most {MAX_BYTES} characters.", where=where)
        try:
            data = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise StudyError(f"This is not TOML: {str(error)[:200]}.", where=where) from error
        if folder is not None:
            _read_definitions(data, folder)
        return cls.from_data({**data, "source": text}, where=where)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The study in the JSON text of `to_json`. No file is read."""
        try:
            data = json.loads(text) if len(text) <= 2 * MAX_BYTES else None
        except (ValueError, RecursionError) as error:
            raise StudyError("This is not the JSON of a study.", where="study-json") from error
        if not isinstance(data, dict):
            raise StudyError("A study is a JSON object.", where="study-json")
        return cls.from_data(data, where="study-json")

    @classmethod
    def from_data(cls, data: Mapping[str, Any], *, where: str = "study") -> Self:
        """The study in plain dicts and lists."""
        try:
            return cls.model_validate(dict(data))
        except ValidationError as error:
            raise explained(error, where, cls) from error
        except StudyError as error:
            error.where = f"{where}: {error.where}" if error.where else where
            raise
        except RecursionError as error:
            raise StudyError("The study is nested too deeply.", where=where) from error

    @staticmethod
    def from_run_config(run_config: Mapping[str, Any], app_dir: Path) -> Study:
        """The study that the keys of `flwr run --run-config` describe."""
        from federated_analytics.run_config import study_from

        return study_from(run_config, app_dir)

    def run(self, **options: Any) -> Any:
        """Run the study and return its `Result`; options as of `federated_analytics.run`."""
        import federated_analytics

        return federated_analytics.run(self, **options)

    def to_json(self, *, with_source: bool = False) -> str:
        """Canonical JSON: equal studies give equal texts."""
        data = self.model_dump(mode="json", exclude=None if with_source else {"source"})
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    def to_toml(self) -> str:
        """The study file as it was written, or one that means the same."""
        if self.source:
            return self.source
        data = self.model_dump(mode="json", exclude={"source"}, exclude_none=True)
        defaults = {"title": "", "populations": [], "by": [], "features": [], "estimates": []}
        data["analysis"] = [
            {k: v for k, v in a.items() if k == "kind" or v != defaults.get(k, object())}
            for a in data["analysis"]
        ]
        return tomli_w.dumps({k: v for k, v in data.items() if v})

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @cached_property
    def _known_features(self) -> dict[str, Feature]:
        return resolve([*catalogue(), *self.feature], self.feature)

    @field_validator("population", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return [{"kind": "everyone", **value}] if isinstance(value, dict) else value

    @field_validator("analysis", mode="before")
    @classmethod
    def _by_kind(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise ValueError("analyses are written as [[analysis]] tables")
        return tuple(_query(item, f"analysis[{i}]") for i, item in enumerate(value))

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        names = [p.name for p in self.population]
        if len(set(names)) < len(names):
            raise StudyError(
                "Two populations have the same name.",
                where="population",
                remedy='Give each [[population]] its own name = "…".',
            )
        for p in self.population:
            if isinstance(p, Atlas):
                _check_definition(p)
        for i, query in enumerate(self.analysis):
            for population in self.populations_of(query, f"analysis[{i}]"):
                self._check(query, population, f"analysis[{i}]")
        return self

    def populations_of(self, query: Query, where: str = "analysis") -> list[Any]:
        """The populations over which a query is asked."""
        by_name = {p.name: p for p in self.population}
        for i, name in enumerate(query.populations):
            if name not in by_name:
                raise StudyError(
                    f"There is no population {name[:60]!r}.",
                    where=f"{where}.populations[{i}]",
                    remedy=did_you_mean(name, by_name) or f"There are: {', '.join(by_name)}.",
                )
        return [by_name[name] for name in query.populations] or list(self.population)

    def features_of(self, query: Query, population: Any) -> dict[str, Feature]:
        """The features that a query needs of a population, its strata's included."""
        where = f"analysis[{self.analysis.index(query)}]"
        return self._features(query, population, where)

    def strata_of(self, query: Query, population: Any) -> tuple[Stratum, ...]:
        """The strata of a query that a site forms (all but the site itself)."""
        return self._strata(query, population, "analysis")

    def _features(self, query: Query, population: Any, where: str) -> dict[str, Feature]:
        strata = self._strata(query, population, where)
        names = [*query.features, *(s.feature for s in strata if s.feature)]
        names = list(dict.fromkeys(names))
        if isinstance(population, FlatTable):
            return flat_features(names, self.feature)
        try:
            return resolve(names, self.feature)
        except StudyError as error:
            error.where = f"{where}.features: {error.where}" if error.where else where
            raise

    def _strata(self, query: Query, population: Any, where: str) -> tuple[Stratum, ...]:
        if isinstance(population, FlatTable):
            known = flat_features(list(query.by), self.feature)
            known = {n: f.model_copy(update={"type": "categorical"}) for n, f in known.items()}
        else:
            known = self._known_features
        strata = resolve_strata(query.by, self.strata, known, where=f"{where}.by")
        if INDEX_YEAR in query.by and not population.has_index_date:
            raise StudyError(
                f"The population {population.name!r} has no index date, so no index_year.",
                where=f"{where}.by",
                remedy='Use a population with an index date, such as kind = "condition".',
            )
        return tuple(s for s in strata if s.name != SITE)

    def _check(self, query: Query, population: Any, where: str) -> None:
        analysis = analyses()[query.kind]
        features = self._features(query, population, where)
        flat = isinstance(population, FlatTable)
        if flat and analysis.needs_cdm:
            raise StudyError(
                f"{query.kind} reads the OMOP tables, which a flat table has not.",
                where=f"{where}.kind",
                remedy="Ask it of a population of an OMOP database.",
            )
        if analysis.needs_index_date and not population.has_index_date:
            raise StudyError(
                f"{query.kind} counts from an index date, which {population.name!r} has not.",
                where=f"{where}.kind",
                remedy='Ask it of a population with an index date, such as kind = "condition".',
            )
        for i, name in enumerate(query.features):
            feature, place = features[name], f"{where}.features[{i}]"
            if not flat and feature.type not in analysis.feature_types:
                raise StudyError(
                    f"{name} is {feature.type}, which {query.kind} does not take.",
                    where=place,
                    remedy=_analyses_for(feature.type),
                )
            analysis.check(query, feature, place)


_CALLED = {"numeric": "numbers", "boolean": "yes/no features", "categorical": "categories"}


def _analyses_for(feature_type: str) -> str:
    """Which analyses take features of a type, as a remedy."""
    kinds = [
        f'"{kind}"'
        for kind, analysis in analyses().items()
        if issubclass(analysis.query_type, FeatureQuery) and feature_type in analysis.feature_types
    ]
    listed = " or ".join(filter(None, (", ".join(kinds[:-1]), kinds[-1])))
    return f"Use kind = {listed} for {_CALLED[feature_type]}."


def _query(item: Any, where: str) -> Query:
    if isinstance(item, Query):
        return item
    kind = item.get("kind") if isinstance(item, dict) else None
    if not isinstance(kind, str) or kind not in analyses():
        known = ", ".join(analyses())
        raise UnknownAnalysis(
            f"There is no analysis {str(kind)[:60]!r}.",
            where=f"{where}.kind",
            remedy=did_you_mean(str(kind)[:60], analyses()) or f"There are: {known}.",
        )
    try:
        return analyses()[kind].query_type.model_validate(item)
    except ValidationError as error:
        raise explained(error, where, analyses()[kind].query_type) from error


def _check_definition(population: Atlas) -> None:
    """CohortError where a definition cannot be used, before anything is sent."""
    from federated_analytics.omop.atlas_definition import read_definition

    place = f"population {population.name}"
    if not population.definition:
        raise StudyError(
            "An atlas population needs a cohort definition.",
            where=f"{place}: file",
            remedy='Write file = "phenotype.json", a path relative to the study file.',
        )
    try:
        read_definition(population.definition)
    except StudyError as error:
        error.where = f"{place}: {error.where}" if error.where else place
        raise


def _read_definitions(data: dict[str, Any], folder: Path) -> None:
    """Put the text of each ATLAS file into its population."""
    populations = data.get("population", [])
    for population in populations if isinstance(populations, list) else [populations]:
        if not isinstance(population, dict) or population.get("kind") != "atlas":
            continue
        name = population.get("file")
        if not isinstance(name, str) or not name:
            continue
        try:
            population["definition"] = (folder / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise StudyError(
                f"The cohort definition {name[:100]!r} cannot be read.",
                where="population.file",
                remedy="Give a path relative to the study file.",
            ) from error
