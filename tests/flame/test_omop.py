"""`flame.omop` and `flame.aggregate`: a site's releases in a script, against pandas and `run`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from federated_analytics.flame.testbed import FlameTestBed, OmopNode, TestRun
from federated_analytics.privacy.policy import Policy
from federated_analytics.site_state import SiteState
from tests.sites import ask, load, sites

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("flame")]
NODES = ("north", "south", "hub")
POPULATION = {"kind": "table", "table": "t"}
KEYS: dict[str, Any] = {
    "features": ["x"],
    "by": ["ward"],
    "population": POPULATION,
    "feature": {"x": {"range": [0, 500], "step": 1}},
}
STUDY = """
[study]
name = "the same, as a study"
[population]
kind = "table"
table = "t"
[feature.x]
range = [0, 500]
step = 1
[[analysis]]
kind = "summary"
features = ["x"]
by = ["ward"]
"""
SCRIPT = """
import json
from flame import FlameCoreSDK
flame = FlameCoreSDK(silent=True)
keys = json.loads(flame.get_parameters()["keys"])
"""


def rows_of(site: int) -> pd.DataFrame:
    count = 60 + 40 * site
    return pd.DataFrame(
        {
            "person_id": range(1, count + 1),
            "x": [float((i * 7 + site) % 100) for i in range(count)],
            "ward": ["rare" if i < 3 and not site else "ab"[i % 2] for i in range(count)],
        }
    )


@pytest.fixture(scope="module")
def url(database: str) -> str:
    for site, node in enumerate(NODES[:2]):
        rows = rows_of(site)
        load(database, node, {"t": rows, "but_one": rows[:-1]})
    return database


def run(
    url: str, place: Path, script: str, policy: str = "", keys: Any = None, **options: Any
) -> TestRun:
    bed = FlameTestBed(place, NODES)
    omop = {n: OmopNode(url, cdm_schema=n, policy=policy) for n in NODES[:2]}
    parameters = {"keys": json.dumps(keys or KEYS)}
    return bed.run(SCRIPT + script, omop=omop, parameters=parameters, **options)


def numbers(rows: Any) -> list[tuple[Any, ...]]:
    """Every estimate; not how long it took, nor who was called what."""
    columns = ("variable_name", "variable_level", "strata_name", "strata_level")
    return sorted(
        (*(r[name] or "" for name in columns), r["estimate_name"], r["estimate_value"])
        for r in rows
        if r["cdm_name"] == "pooled" and r["result_id"] == 1
    )


TOGETHER = """
result = flame.aggregate.summary(**keys)
if flame.get_role() == "aggregator":
    flame.submit_final_result(json.dumps([vars(row) for row in result.rows]))
    flame.analysis_finished()
else:
    print("own:", json.dumps([vars(row) for row in result.rows]))
"""


def test_the_same_line_at_every_node_gives_the_federated_study_s_result(
    url: str, tmp_path: Path
) -> None:
    ended = run(url, tmp_path, TOGETHER)
    assert ended.succeeded, (ended.result, ended.printed)
    found = numbers(json.loads(ended.texts[0]))
    study = ask(STUDY, sites(url, NODES[:2], Policy()), min_sites=2)
    assert found == numbers(study.to_pandas().to_dict("records"))
    pooled = pd.concat([rows_of(0), rows_of(1)])["x"]
    values = {r[4]: float(r[5]) for r in found if r[:3] == ("x", "", "overall") and r[5][0] != "<"}
    assert values["mean"] == pytest.approx(pooled.mean(), rel=1e-12)
    assert values["sd"] == pytest.approx(pooled.std(), rel=1e-12)


def test_a_script_reads_its_own_site_s_release_and_no_more(url: str, tmp_path: Path) -> None:
    ended = run(url, tmp_path, TOGETHER)
    own = json.loads(ended.printed["north"].partition("own:")[2])
    assert {row["cdm_name"] for row in own} == {"north"}
    mean = next(
        row["estimate_value"]
        for row in own
        if (row["variable_name"], row["strata_name"], row["estimate_name"])
        == ("x", "overall", "mean")
    )
    assert float(mean) == pytest.approx(rows_of(0)["x"].mean(), rel=1e-12)
    rare = [row for row in own if row["strata_level"] == "rare"]
    told = {row["estimate_name"]: row["estimate_value"] for row in rare if row["result_id"] == 1}
    assert (told["count"], told["mean"], told["sd"]) == ("<5", "-", "-")  # 3 persons


def test_each_analysis_of_the_catalogue_is_a_method(url: str, tmp_path: Path) -> None:
    from federated_analytics.analyses.base import analyses

    script = """
if flame.get_role() == "default":
    print("listed:", json.dumps(flame.omop.analyses()))
    for kind in ("counts", "histogram", "quantiles"):
        own = dict(keys, features=keys["features"] if kind != "counts" else [])
        print("rows:", kind, len(getattr(flame.omop, kind)(**own).rows))
    try:
        flame.omop.sumary(**keys)
    except Exception as error:
        print("error:", error.code, error)
    try:
        flame.omop.summary(**dict(keys, featurs=["x"]))
    except Exception as error:
        print("error:", error.code, error)
else:
    try:
        flame.omop.summary(**keys)
    except Exception as error:
        flame.submit_final_result(error.code + " " + error.remedy)
"""
    ended = run(url, tmp_path, script)
    assert ended.succeeded, (ended.result, ended.printed)
    said = ended.printed["north"]
    assert json.loads(said.partition("listed:")[2].splitlines()[0]) == list(analyses())
    assert said.count("rows:") == 3
    assert " 0\n" not in said
    unknown, key = (line for line in said.splitlines() if line.startswith("error:"))
    assert "unknown_analysis" in unknown
    assert all(kind in unknown for kind in analyses())
    assert "featurs" in key
    assert "features" in key
    assert ended.texts[0].startswith("no_omop_database")
    assert "flame.aggregate" in ended.texts[0]


def test_a_node_without_a_database_is_told_how_to_get_one(tmp_path: Path) -> None:
    script = """
from flame import FlameCoreSDK
flame = FlameCoreSDK(silent=True)
if flame.get_role() == "default":
    flame.omop.counts()
flame.ready_check(timeout=20)
"""
    ended = FlameTestBed(tmp_path, ("a", "c")).run(script)
    assert ended.status("a") == "failed"
    assert "site.toml" in ended.reason("a")


def test_what_a_script_makes_up_is_refused_and_marked(url: str, tmp_path: Path) -> None:
    script = """
from dataclasses import replace
if flame.get_role() == "default":
    from federated_analytics.flame.omop import SiteRelease
    real = flame.omop.summary(**keys)
    for made_up in (replace(real, id="0" * 32), SiteRelease("1", "north", "2"), {"mean": 1}):
        try:
            flame.aggregate.send(made_up)
            print("sent")
        except Exception as error:
            print("refused:", error.code)
    flame.aggregate.send(replace(real, result=None, node="elsewhere"))  # the bytes are the site's
else:
    from federated_analytics.flame.omop import SiteRelease
    found = flame.aggregate.await_releases(timeout=60)
    releases = [held[-1] for held in found.values()]
    codes = []
    for wrong in (
        [*releases, SiteRelease("0" * 32, "west", "")],
        [replace(releases[0], node="south"), replace(releases[1], node="north")],
        [replace(one, id="9") for one in releases],
        ["a text"],
        [],
    ):
        try:
            flame.aggregate.merge(wrong, "summary", **keys)
            codes.append("merged")
        except Exception as error:
            codes.append(error.code)
    flame.submit_final_result(json.dumps(codes))
    result = flame.aggregate.merge(releases, "summary", **keys)
    flame.submit_final_result(json.dumps([vars(row) for row in result.rows]))
    both = flame.aggregate.mean(releases, "x", **keys), flame.aggregate.total(releases, "x", **keys)
    flame.submit_final_result(json.dumps(both))
    flame.analysis_finished()
"""
    ended = run(url, tmp_path, script)
    assert ended.succeeded, (ended.result, ended.printed)
    assert ended.printed["north"].count("refused: not_a_release") == 3
    assert "sent" not in ended.printed["north"]
    assert json.loads(ended.texts[0]) == ["not_a_release"] * 4 + ["no_releases"]
    study = ask(STUDY, sites(url, NODES[:2], Policy()), min_sites=2)
    assert numbers(json.loads(ended.texts[1])) == numbers(study.to_pandas().to_dict("records"))
    x = pd.concat([rows_of(0), rows_of(1)])["x"]
    assert json.loads(ended.texts[2]) == pytest.approx([x.mean(), x.sum()], rel=1e-12)
    audit = SiteState.open(tmp_path / "sites" / "north").audit
    marked = [line for line in audit.lines() if line.get("code") == "not_a_release"]
    assert len(marked) == 2  # the third was no handle, and did not come as far as the site


def test_the_releases_of_another_study_are_not_merged(url: str, tmp_path: Path) -> None:
    script = """
if flame.get_role() == "default":
    flame.aggregate.send(flame.omop.summary(**keys))
else:
    found = flame.aggregate.await_releases(timeout=60)
    releases = [held[-1] for held in found.values()]
    try:
        flame.aggregate.merge(releases, "summary", **dict(keys, by=[]))
    except Exception as error:
        flame.submit_final_result(error.code)
    flame.analysis_finished()
"""
    ended = run(url, tmp_path, script)
    assert ended.texts == ["too_few_sites"]


def test_a_refusal_of_the_policy_reaches_the_script_and_the_result(
    url: str, tmp_path: Path
) -> None:
    """R5: a population that differs from an answered one by one person."""
    assert run(url, tmp_path / "1", TOGETHER).succeeded
    script = """
if flame.get_role() == "default":
    flame.omop.summary(**keys)
    keys["population"]["table"] = "but_one"
    try:
        flame.aggregate.summary(**keys)
    except Exception as error:
        print("refused:", type(error).__name__, error.code, "|", error.remedy)
else:
    keys["population"]["table"] = "but_one"
    result = flame.aggregate.summary(**keys)
    flame.submit_final_result(json.dumps([vars(row) for row in result.rows]))
    flame.analysis_finished()
"""
    ended = run(url, tmp_path / "2", script)
    for node in NODES[:2]:
        assert "refused: RefusedBySite overlapping_population |" in ended.printed[node]
        assert "Ask for the same population" in ended.printed[node]
    rows = json.loads(ended.texts[0])
    assert not [row for row in rows if row["result_id"] == 1]
    assert any("overlapping_population" in row["estimate_value"] for row in rows)


def test_with_noise_the_budget_is_charged_once_for_one_question(url: str, tmp_path: Path) -> None:
    policy = 'mode = "dp"\nepsilon = 1.0\nbudget_epsilon = 1.2\n'
    script = """
if flame.get_role() == "default":
    print("first", flame.omop.counts(population=keys["population"]).rows)
    print("again", flame.omop.counts(population=keys["population"]).rows)
    try:
        flame.omop.summary(**dict(keys, by=[]))
    except Exception as error:
        print("refused:", error.code)
else:
    flame.ready_check(timeout=20)
"""
    ended = run(url, tmp_path, script, policy)
    first, again, refused = ended.printed["north"].strip().splitlines()[-3:]
    assert first.removeprefix("first") == again.removeprefix("again")
    assert refused == "refused: budget_spent"


def test_a_node_that_ends_early_is_named_in_the_result_s_refusal(url: str, tmp_path: Path) -> None:
    script = """
if flame.get_role() == "aggregator":
    try:
        flame.aggregate.summary(**keys)
    except Exception as error:
        flame.submit_final_result(error.code + " " + str(error))
    flame.analysis_finished()
elif flame.get_id() == "north":
    flame.aggregate.summary(**keys)
"""
    ended = run(url, tmp_path, script)
    assert ended.texts[0].startswith("too_few_sites")
    assert "south" in ended.texts[0]


def test_the_site_s_own_file_and_ledger_are_no_data_source(url: str, tmp_path: Path) -> None:
    script = """
if flame.get_role() == "default":
    print("sources:", flame.get_data_sources(), flame.get_s3_data())
else:
    flame.ready_check(timeout=20)
"""
    ended = run(url, tmp_path, script)
    assert "sources: [] []" in ended.printed["north"]


STAR = """
import json
from flame import StarAggregator, StarAnalyzer, StarModel
keys = json.loads(KEYS)

class Analyzer(StarAnalyzer):
    def analysis_method(self, data, aggregator_results):
        return data.summary(**keys) if WHOLE else data.summary(**keys).to_frame()

class Middle(StarAggregator):
    def aggregation_method(self, analysis_results):
        result = self.flame.aggregate.merge(analysis_results, "summary", **keys)
        return json.dumps([vars(row) for row in result.rows])

    def has_converged(self, result, last_result):
        return True

StarModel(analyzer=Analyzer, aggregator=Middle, data_type="omop")
"""


def test_the_star_pattern_carries_releases(url: str, tmp_path: Path) -> None:
    bed = FlameTestBed(tmp_path, NODES)
    omop = {n: OmopNode(url, cdm_schema=n) for n in NODES[:2]}
    script = STAR.replace("KEYS", repr(json.dumps(KEYS))).replace("WHOLE", "True")
    ended = bed.run(script, omop=omop)
    assert ended.succeeded, (ended.result, ended.printed)
    study = ask(STUDY, sites(url, NODES[:2], Policy()), min_sites=2)
    assert numbers(json.loads(ended.texts[0])) == numbers(study.to_pandas().to_dict("records"))


def test_the_star_pattern_takes_nothing_but_releases(url: str, tmp_path: Path) -> None:
    bed = FlameTestBed(tmp_path, NODES)
    omop = {n: OmopNode(url, cdm_schema=n) for n in NODES[:2]}
    script = STAR.replace("KEYS", repr(json.dumps(KEYS))).replace("WHOLE", "False")
    ended = bed.run(script, omop=omop)
    assert not ended.succeeded
    assert "returned a DataFrame" in ended.reason("north")
    assert "ended before it sent its part" in ended.reason("hub")


def test_the_document_s_script_and_site_run(database: str, tmp_path: Path) -> None:
    from federated_analytics.databases.generator import generate

    page = (Path(__file__).parents[2] / "docs" / "flame.md").read_text()
    section = page.partition("## OMOP and releases")[2]
    [script] = re.findall(r"```py\n(.*?)```", section, flags=re.DOTALL)
    [site] = re.findall(r"```toml\n(.*?)```", section, flags=re.DOTALL)
    data = {}
    for number, node in enumerate(("n1", "n2")):
        schemas = dict.fromkeys(("cdm_schema", "vocabulary_schema", "results_schema"), node)
        generate(database, persons=500, site=number, **schemas)  # type: ignore[arg-type]
        places = f'cdm_schema = "{node}"\nvocabulary_schema = "{node}"\n'
        text = site.replace("[policy]", f"{places}[policy]")
        data[node] = {"site.toml": text, "database-url": database}
    ended = FlameTestBed(tmp_path, ("n1", "n2", "hub")).run(script, data=data)
    assert ended.succeeded, (ended.result, ended.printed)
    means = json.loads(ended.texts[0])
    assert 40 < float(means["age"]) < 90
