"""One size of data: databases filled, a federation started, everything measured in turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median

from benchmarks import data, floor, runs
from benchmarks.runs import Run
from federated_analytics.databases.postgres import Cluster
from federated_analytics.local.processes import LocalFederation, local_federation
from federated_analytics.messages import Request
from federated_analytics.omop.database import database_url
from federated_analytics.site import Site
from federated_analytics.study import Study
from federated_analytics.wire import decode_release, encode_request

Say = Callable[[str], None]
TOLERANCE = 1e-9


class AnswersDiffer(Exception):
    """Two ways of asking the same question gave other means: nothing they took is comparable."""


@dataclass
class Question:
    """What one question took, once for each repetition; all in seconds.

    Fields:
        floor_alone, site_alone: one site's database with nothing else running
        floor_at_once: the slowest of all sites' databases, asked at the same time
        runs: whole commands; in them too, all sites work at the same time on this machine
    """

    floor_alone: list[float] = field(default_factory=list)
    site_alone: list[float] = field(default_factory=list)
    floor_at_once: list[float] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    @property
    def site_at_once(self) -> list[float]:
        return [max(run.site_seconds) for run in self.runs]


@dataclass
class Measured:
    """Everything measured with so many persons at each site."""

    persons: int
    fill_seconds: float
    baseline: list[Run] = field(default_factory=list)
    questions: dict[str, Question] = field(default_factory=dict)


def measure(clusters: Sequence[Cluster], persons: int, repeat: int, say: Say) -> Measured:
    """Fill the databases and measure each question `repeat` times, taking turns."""
    say(f"{len(clusters)} sites of {persons:,} persons: making the data")
    measured = Measured(persons, _filled(clusters, persons))
    urls = [cluster.reader_url() for cluster in clusters]
    expected = {name: floor.pooled_means(urls, name) for name in runs.QUESTIONS}
    configs: list[dict[str, str | int]] = [
        {"db-port": cluster.port, "site": f"site-{i}"} for i, cluster in enumerate(clusters, 1)
    ]
    with local_federation(configs) as federation:
        for turn in range(repeat):
            one = runs.baseline(federation)
            same("baseline", one.means, expected["flat"])
            measured.baseline.append(one)
            say(f"  {turn + 1}/{repeat} baseline: {one.seconds:.1f} s")
            for name in runs.QUESTIONS:
                question = measured.questions.setdefault(name, Question())
                _once(question, name, urls, federation)
                same(name, question.runs[-1].means, expected[name])
                say(f"  {turn + 1}/{repeat} {name}: {_line(question)}")
    return measured


def _once(question: Question, name: str, urls: Sequence[str], federation: LocalFederation) -> None:
    statements = floor.STATEMENTS[name]
    question.floor_alone.append(floor.seconds(urls[0], statements))
    question.site_alone.append(site_seconds(urls[0], name))
    question.floor_at_once.append(floor.at_once(urls, statements))
    question.runs.append(runs.ours(federation, name))


def _line(question: Question) -> str:
    run = question.runs[-1]
    return (
        f"command {run.seconds:.1f} s; one site {question.site_alone[-1]:.2f} s over a floor of "
        f"{question.floor_alone[-1]:.2f} s; all sites {max(run.site_seconds):.2f} s over "
        f"{question.floor_at_once[-1]:.2f} s"
    )


def site_seconds(url: str, name: str) -> float:
    """Seconds that one site works on a question, as it reports them, in this process."""
    study = Study.from_run_config(runs.QUESTIONS[name], runs.ROOT)
    request = Request(study=study.to_json(), round=1, run="0" * 32, seconds=300)
    answer = decode_release(Site(database_url(url)).answer(encode_request(request)))
    if answer.refusal is not None:
        raise runs.RunFailed(f"{answer.refusal.code}: {answer.refusal.message}")
    return answer.seconds


def _filled(clusters: Sequence[Cluster], persons: int) -> float:
    """Median seconds that making one site's data took."""
    with ThreadPoolExecutor(len(clusters)) as pool:
        return median(
            pool.map(
                lambda i: data.fill(clusters[i].owner_url(), persons, seed=i + 1),
                range(len(clusters)),
            )
        )


def same(what: str, found: Mapping[str, float], expected: Mapping[str, float]) -> None:
    """Nothing where the means agree to nine digits, AnswersDiffer otherwise."""
    for name, mean in expected.items():
        if not math.isclose(found.get(name, math.nan), mean, rel_tol=TOLERANCE):
            raise AnswersDiffer(f"{what}: mean of {name} is {found.get(name)}, not {mean}")
