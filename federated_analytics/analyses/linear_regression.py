"""Linear regression by ordinary least squares, in one round, from the normal equations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import sqlalchemy as sa
from pydantic import Field, model_validator

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.normal_equations import NormalEquations, least_squares
from federated_analytics.aggregates.person_set import PersonSet
from federated_analytics.aggregates.table import Key, Strata, Table
from federated_analytics.analyses.base import (
    Analysis,
    ColumnName,
    Context,
    Estimate,
    FeatureQuery,
    Merged,
    Row,
    grouped,
    number,
    sites_behind,
    strata_in,
    strata_of,
)
from federated_analytics.analyses.design_matrix import Column, equations, sums
from federated_analytics.errors import StudyError
from federated_analytics.omop.frame import Frame
from federated_analytics.omop.tables import Statement

if TYPE_CHECKING:
    from federated_analytics.omop.features import Feature

CONFIDENCE = 0.95
INTERCEPT = "(intercept)"
Level = Annotated[str, Field(min_length=1, max_length=100)]


class LinearRegressionQuery(FeatureQuery):
    """`outcome` on `features`, with an intercept.

    Args:
        outcome: a numeric feature.
        features: the covariates: numbers as they are, yes/no features as 1 and 0, and categories
            as 1 and 0 for each of their levels but the first.
        levels: the levels of each categorical feature, the reference first. Persons with any
            other are left out, as those with a missing value are.
    """

    kind: Literal["linear_regression"] = "linear_regression"
    outcome: ColumnName
    levels: dict[ColumnName, Annotated[tuple[Level, ...], Field(min_length=2, max_length=50)]] = (
        Field(default_factory=dict)
    )

    @model_validator(mode="before")
    @classmethod
    def _features_hold_the_outcome(cls, data: Any) -> Any:
        """The outcome last among the features, so that it is in the frame."""
        listed = data.get("features") if isinstance(data, Mapping) else None
        outcome = data.get("outcome") if isinstance(data, Mapping) else None
        if not isinstance(listed, list | tuple) or not isinstance(outcome, str):
            return data
        return {**data, "features": [*(f for f in listed if f != outcome), outcome]}

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if not self.covariates:
            raise ValueError("features has no covariate; name at least one besides the outcome")
        if len(set(self.features)) < len(self.features):
            raise ValueError("features names one twice; keep one")
        for name, levels in self.levels.items():
            if name not in self.covariates:
                raise ValueError(f"levels has {name[:60]!r}, which is not one of features")
            if len(set(levels)) < len(levels):
                raise ValueError(f"levels.{name} names one level twice; keep one")
        return self

    @property
    def covariates(self) -> tuple[str, ...]:
        return tuple(name for name in self.features if name != self.outcome)

    def levels_of(self, feature: Feature) -> tuple[str, ...]:
        """A categorical feature's levels, the reference first; empty for any other."""
        if feature.name in self.levels:
            return self.levels[feature.name]
        return ("Female", "Male") if feature.name == "sex" else ()

    def columns(self, features: Mapping[str, Feature]) -> list[Column]:
        """The columns of X after the intercept."""
        found = []
        for name in self.covariates:
            levels = self.levels_of(features[name])
            if levels:
                found += [Column(name, level, levels) for level in levels[1:]]
            elif features[name].type == "boolean":
                found.append(Column(name, "Yes", ("No", "Yes")))
            else:
                found.append(Column(name))
        return found

    def columns_and_outcome(self, frame: Frame) -> list[Column]:
        """The columns of X after the intercept, and y."""
        features = {name: column.feature for name, column in frame.columns.items()}
        return [*self.columns(features), Column(self.outcome)]


class LinearRegression(Analysis):
    """Coefficients of persons without a missing value, with Student's 95 % intervals.

    Exact: the normal equations of the sites add up to those of all persons, up to floating point.
    A column that is constant, or follows from those before it, has no coefficient ("NA").
    """

    kind = "linear_regression"
    query_type = LinearRegressionQuery
    leaves = (
        "for each stratum: persons without a missing value and with one; the mean of each "
        "column, and the sums of squares and products of each two about these"
    )

    def check(self, query: LinearRegressionQuery, feature: Feature, where: str) -> None:
        if feature.name == query.outcome and feature.type != "numeric":
            raise StudyError(
                f"{feature.name} is {feature.type}, and the outcome is a number.",
                where=where,
                remedy="Choose a numeric feature as outcome.",
            )
        of_cdm = feature.domain != "person"
        if of_cdm and feature.type == "boolean" and feature.name in query.levels:
            raise StudyError(
                f"{feature.name} is yes or no and takes no levels.",
                where=where,
                remedy=f"Leave {feature.name} out of levels.",
            )
        if feature.type == "categorical" and not query.levels_of(feature):
            raise _no_levels(feature.name, where)

    def select(self, query: LinearRegressionQuery, frame: Frame) -> list[Statement]:
        for name in query.features:  # a flat table's types are known at the site only
            self.check(query, frame.columns[name].feature, f"features: {name}")
        persons = grouped(frame, query.by, [sa.func.count().label("persons")])
        return [persons, sums(frame, query.by, query.columns_and_outcome(frame))]

    def collect(
        self, query: LinearRegressionQuery, frame: Frame, results: Sequence[Sequence[Row]]
    ) -> Table:
        table: dict[Key, Aggregate] = {}
        columns = query.columns_and_outcome(frame)
        found = {strata_of(row, query.by): equations(frame, columns, row) for row in results[1]}
        for row in results[0]:
            strata = strata_of(row, query.by)
            state = found.get(strata, NormalEquations.zero())
            table[Key(strata, query.outcome, "", "equations")] = state
            table[Key(strata, query.outcome, "", "missing")] = Count(row["persons"] - state.n)
        return table

    def counted_sets(
        self, query: LinearRegressionQuery, frame: Frame, key: Key, aggregate: Aggregate
    ) -> Iterable[tuple[int, PersonSet]]:
        """Persons with every value (dimension "FEATURES:complete"), and the 0/1 columns'."""
        complete = f"{'+'.join(sorted(query.features))}:complete"
        if not isinstance(aggregate, NormalEquations):
            yield aggregate.support[0], frozenset({(complete, "No")})
            return
        yield aggregate.n, frozenset({(complete, "Yes")})
        columns = query.columns_and_outcome(frame)
        binary = [i for i, column in enumerate(columns) if column.level and aggregate.n]
        for at, i in enumerate(binary):
            one = (columns[i].feature, columns[i].level or "")
            yield aggregate.count(i, i), frozenset({(complete, "Yes"), one})
            for j in binary[at + 1 :]:
                two = (columns[j].feature, columns[j].level or "")
                if one[0] != two[0]:
                    yield aggregate.count(i, j), frozenset({(complete, "Yes"), one, two})

    def finalize(
        self, query: LinearRegressionQuery, cells: Mapping[Key, Merged], context: Context
    ) -> Iterable[Estimate]:
        columns = query.columns(context.features)
        for strata in strata_in(cells, query.by):
            merged = cells.get(Key(strata, query.outcome, "", "equations"))
            if merged is not None:
                missing = cells.get(Key(strata, query.outcome, "", "missing"))
                yield from _fit_estimates(query, strata, merged, missing)
                yield from _coefficients(columns, strata, merged)
                yield from sites_behind(merged, context, strata, query.outcome)


def _no_levels(name: str, where: str) -> StudyError:
    return StudyError(
        f"{name} is categorical, and its levels are not listed.",
        where=where,
        remedy=f'Write levels = {{ {name} = ["the reference", "another", …] }}.',
    )


def _fit_estimates(
    query: LinearRegressionQuery, strata: Strata, merged: Merged, missing: Merged | None
) -> Iterable[Estimate]:
    state = merged.value
    n = str(state.n) if isinstance(state, NormalEquations) else merged.shown_as
    yield Estimate(strata, query.outcome, "count", "integer", n)
    gone = missing.value if missing else None
    text = str(gone.persons) if isinstance(gone, Count) else missing.shown_as if missing else "-"
    yield Estimate(strata, query.outcome, "count_missing", "integer", text)
    texts = ["-"] * 3
    if isinstance(state, NormalEquations):
        fit = least_squares(state) if state.n else None
        r = fit.r_squared if fit else math.nan
        left = fit.degrees if fit and fit.degrees > 0 else math.nan
        adjusted = 1 - (1 - r) * (state.n - 1) / left
        texts = [number(x) for x in (r, adjusted, fit.residual_sd if fit else math.nan)]
    for name, value in zip(("r_squared", "adjusted_r_squared", "residual_sd"), texts, strict=True):
        yield Estimate(strata, query.outcome, name, "numeric", value)


def _coefficients(columns: Sequence[Column], strata: Strata, merged: Merged) -> Iterable[Estimate]:
    state = merged.value
    fit = least_squares(state) if isinstance(state, NormalEquations) and state.n else None
    for i, column in enumerate([Column(INTERCEPT), *columns]):
        texts = ["-" if merged.value is None else "NA"] * len(_COEFFICIENT)
        if fit is not None:
            numbers = _inference(fit.coefficients[i], fit.errors[i], fit.degrees)
            texts = [number(value) for value in numbers]
        reference = (("reference", column.levels[0]),) if column.levels else ()
        place: dict[str, Any] = {"level": column.level, "additional": reference}
        for name, text in zip(_COEFFICIENT, texts, strict=True):
            yield Estimate(strata, column.feature, name, "numeric", text, **place)


_COEFFICIENT = ("coefficient", "se", "conf_low", "conf_high", "p_value")


def _inference(coefficient: float, error: float, degrees: int) -> tuple[float, ...]:
    """Coefficient, standard error, Student's interval and the p value of "it is 0"."""
    from scipy.special import stdtr, stdtrit

    if degrees < 1 or math.isnan(error):
        return (coefficient, *(math.nan,) * 4)
    half = float(stdtrit(degrees, (1 + CONFIDENCE) / 2)) * error
    t = abs(coefficient) / error if error else math.inf
    p = 2 * float(stdtr(degrees, -t))
    return coefficient, error, coefficient - half, coefficient + half, p
