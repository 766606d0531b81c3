"""What a study's validation found, as an error with the key's path and what to write instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from federated_analytics.errors import StudyError, did_you_mean
from federated_analytics.omop.cohort import Atlas, Everyone, FlatTable, InCohort, WithEvent
from federated_analytics.omop.strata import StratumDefinition

_POPULATIONS: dict[str, type[BaseModel]] = {
    "everyone": Everyone,
    "cohort": InCohort,
    "atlas": Atlas,
    "table": FlatTable,
    **dict.fromkeys(("condition", "drug", "procedure", "measurement", "observation"), WithEvent),
}
_NOT_WRITTEN = ("source", "definition")
"""Fields that are filled in when a study is read."""


def explained(error: ValidationError, where: str, model: type[BaseModel]) -> StudyError:
    """The first complaint of `model`'s validation as one of our errors.

    Args:
        where: the file, or the key path of what was validated ("analysis[2]").
    """
    first = error.errors(include_url=False)[0]
    loc = _written(first["loc"])
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    place = f"{where}{path}" if where.startswith("analysis") else f"{where}: {path.lstrip('.')}"
    place = place[:200].removesuffix(": ")
    if first["type"] == "extra_forbidden":
        key = str(loc[-1])[:60]
        known = [k for k in _model_at(first["loc"], model).model_fields if k not in _NOT_WRITTEN]
        remedy = did_you_mean(key, known) or f"The keys here are: {', '.join(known)}."
        return StudyError(f"There is no key {key!r}.", where=place, remedy=remedy)
    if first["type"] == "union_tag_invalid":
        return _no_population(first["ctx"], place)
    return StudyError(f"{first['msg'].removeprefix('Value error, ')[:300]}.", where=place)


def _no_population(context: dict[str, Any], place: str) -> StudyError:
    kind = str(context["tag"])[:60]
    remedy = did_you_mean(kind, _POPULATIONS) or f"There are: {', '.join(_POPULATIONS)}."
    return StudyError(f"There is no population kind {kind!r}.", where=place, remedy=remedy)


def _written(loc: Sequence[int | str]) -> list[int | str]:
    """A place as the file has it: without the population's kind, which pydantic puts there."""
    tagged = len(loc) > 2 and loc[0] == "population" and loc[2] in _POPULATIONS
    return [*loc[:2], *loc[3:]] if tagged else list(loc)


def _model_at(loc: Sequence[int | str], model: type[BaseModel]) -> type[BaseModel]:
    """The model whose key stands last in `loc`."""
    if len(loc) > 1 and loc[0] == "strata":
        return StratumDefinition
    if len(loc) > 2 and loc[0] == "population":
        return _POPULATIONS[str(loc[2])]
    inner = model.model_fields[str(loc[0])].annotation if len(loc) > 1 else None
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else model
