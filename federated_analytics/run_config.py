"""What the keys of `flwr run --run-config` mean; every value is checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from federated_analytics.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from federated_analytics.study import Study

DEFAULT_FEATURES = "age,bmi,systolic_bp,diastolic_bp,hba1c"
DEFAULT_AGGREGATION = "mean,std,count"
QUESTION_KEYS = ("selected-features", "feature-aggregation", "by", "population", "table-name")
SUMMARY = {
    "count": "count",
    "mean": "mean",
    "std": "sd",
    "sd": "sd",
    "var": "variance",
    "variance": "variance",
    "sum": "sum",
    "missing": "count_missing",
}
OTHERS = {
    "median": "quantiles",
    "quantiles": "quantiles",
    "histogram": "histogram",
    "frequencies": "frequencies",
    "summary": "summary",
}


def study_from(run_config: Mapping[str, Any], app_dir: Path) -> Study:
    """A study file, a study in JSON, or one made of `selected-features` and its companions."""
    from federated_analytics.study import Study

    file, text = _text(run_config, "study"), _text(run_config, "study-json")
    asked = [key for key in QUESTION_KEYS if _text(run_config, key)]
    if file and text:
        raise ConfigError(
            "`study` and `study-json` are both given.", where="run-config", remedy="Give one."
        )
    if (file or text) and asked:
        raise ConfigError(
            f"`{asked[0]}` goes without a study.",
            where="run-config",
            remedy="Write it into the study file, or leave `study` out.",
        )
    if text:
        return Study.from_json(text)
    if file:
        return Study.load(_inside(app_dir, file))
    return Study.from_data(_question(run_config), where="run-config")


def _inside(app_dir: Path, name: str) -> Path:
    path = (app_dir / name.replace("\x00", "")).resolve()
    if "\x00" in name or not path.is_relative_to(app_dir.resolve()):
        raise ConfigError(
            f"The study {name[:100]!r} is not in the app.",
            where="run-config: study",
            remedy="Give a path relative to the app, such as studies/diabetes.toml.",
        )
    return path


def _question(run_config: Mapping[str, Any]) -> dict[str, Any]:
    from federated_analytics.omop.features import resolve
    from federated_analytics.omop.flat import flat_features

    names = _names(run_config, "selected-features") or DEFAULT_FEATURES.split(",")
    table = _text(run_config, "table-name")
    by = _names(run_config, "by")
    features = flat_features(names, {}) if table else resolve(names, {})
    numeric = [n for n in names if features[n].type == "numeric"]
    others = [n for n in names if features[n].type != "numeric"]
    analyses: list[dict[str, Any]] = []
    for kind, estimates in _kinds(run_config).items():
        if numeric and kind != "frequencies":
            query = {"kind": kind, "features": numeric, "by": by}
            analyses.append(query | ({"estimates": estimates} if estimates else {}))
    if others:
        analyses.append({"kind": "frequencies", "features": others, "by": by})
    if not analyses:
        raise ConfigError(
            "frequencies needs a yes/no or categorical feature.",
            where="run-config: feature-aggregation",
            remedy="Use mean, std, median or histogram for numbers.",
        )
    return {
        "study": {"name": shorten(f"Selected features: {', '.join(names)}", 200)},
        "population": [_population(run_config, table)],
        "analysis": analyses,
    }


def _kinds(run_config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Analysis kinds with the estimates asked of `summary` (none: all)."""
    kinds: dict[str, list[str]] = {}
    asked = _names(run_config, "feature-aggregation") or DEFAULT_AGGREGATION.split(",")
    for name in asked:
        if name in SUMMARY:
            kinds.setdefault("summary", []).append(SUMMARY[name])
        elif name in OTHERS:
            kinds.setdefault(OTHERS[name], [])
        else:
            known = [*SUMMARY, *OTHERS]
            raise ConfigError(
                f"There is no aggregation {name[:60]!r}.",
                where="run-config: feature-aggregation",
                remedy=did_you_mean(name, known) or f"There are: {', '.join(known)}.",
            )
    if "summary" in asked:
        kinds["summary"] = []
    return kinds


def _population(run_config: Mapping[str, Any], table: str) -> dict[str, Any]:
    """`everyone`, `condition:201826`, `drug:1503297+1539403`, `cohort:1`; or the flat table."""
    text = _text(run_config, "population")
    if table:
        if text:
            raise ConfigError(
                "`population` and `table-name` are both given.",
                where="run-config",
                remedy="A flat table is taken as it is: leave `population` out.",
            )
        return {"kind": "table", "table": table}
    kind, _, rest = text.partition(":")
    if kind in ("", "everyone") and not rest:
        return {"kind": "everyone"}
    ids = rest.split("+")
    kinds = ("condition", "drug", "procedure", "measurement", "observation", "cohort")
    one = kind != "cohort" or len(ids) == 1
    if kind not in kinds or not one or not all(i.strip().isdecimal() for i in ids):
        raise ConfigError(
            f"There is no population {text[:60]!r}.",
            where="run-config: population",
            remedy="Write everyone, KIND:CONCEPT[+CONCEPT] (condition:201826) or cohort:ID, "
            "or use a study file.",
        )
    if kind == "cohort":
        return {"kind": kind, "cohort_definition_id": int(ids[0])}
    return {"kind": kind, "concepts": [int(i) for i in ids]}


def _text(run_config: Mapping[str, Any], key: str) -> str:
    value = run_config.get(key, "")
    if not isinstance(value, str):
        raise ConfigError(
            f"`{key}` is text, not {type(value).__name__}.",
            where=f"run-config: {key}",
            remedy=f"Write it in quotes: {key}='…'.",
        )
    return value.strip()


def _names(run_config: Mapping[str, Any], key: str) -> list[str]:
    return [name.strip() for name in _text(run_config, key).split(",") if name.strip()]


def whole(run_config: Mapping[str, Any], key: str, default: int, low: int, high: int) -> int:
    """A whole number of the run-config within its bounds."""
    value = run_config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(
            f"`{key}` is a whole number from {low} to {high}.",
            where=f"run-config: {key}",
            remedy=f"Write {key}={default}.",
        )
    return value
