"""What a site's policy costs beside the database's work, and the service beside a call."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psycopg

from benchmarks import runs
from federated_analytics import wire
from federated_analytics.databases.postgres import Cluster
from federated_analytics.guarded_site import GuardedSite
from federated_analytics.local.guarded import GuardedHospital
from federated_analytics.messages import Request
from federated_analytics.omop.database import database_url
from federated_analytics.omop.person_ids import person_ids
from federated_analytics.privacy.overlap import Answered, too_similar
from federated_analytics.privacy.person_bitmap import PersonBitmap
from federated_analytics.privacy.policy import Policy
from federated_analytics.signing import SigningKey
from federated_analytics.site import Site
from federated_analytics.site_config import SiteConfig
from federated_analytics.site_service.socket_client import ask
from federated_analytics.study import Study

THREE_WAY = "three_way"
_TABLE = f"""
DROP TABLE IF EXISTS {THREE_WAY};
CREATE TABLE {THREE_WAY} AS
SELECT p AS person_id, 'a' || (random() ^ 3 * 9.999)::integer % 10 AS a,
       'b' || (random() ^ 3 * 9.999)::integer % 10 AS b,
       'c' || (random() * 9.999)::integer % 10 AS c
FROM generate_series(1, {{persons}}) AS p;
ALTER TABLE {THREE_WAY} ADD PRIMARY KEY (person_id);
"""
_STUDIES = {
    "flat table: mean, sd, quantiles, histogram": "flat+",
    "OMOP: the same": "omop+",
    "counts by three strata of ten levels": None,
}
_CROSSED = (
    f'[study]\nname = "x"\n[population]\nkind = "table"\ntable = "{THREE_WAY}"\n'
    '[[analysis]]\nkind = "counts"\nby = ["a", "b", "c"]\n'
)
CALLS = 100


@dataclass
class Cost:
    """Medians of one size, seconds; by question: examined, rules, persons compared."""

    persons: int
    questions: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    cells: dict[str, tuple[int, int]] = field(default_factory=dict)
    called: float = 0.0
    served: float = 0.0


def measure(cluster: Cluster, persons: int, repeat: int, say: Callable[[str], None]) -> Cost:
    """Time the policy's parts over one database."""
    with psycopg.connect(cluster.owner_url(), autocommit=True) as connection:
        connection.execute(_TABLE.format(persons=persons))  # type: ignore[call-overload]
        connection.execute(f"GRANT SELECT ON {THREE_WAY} TO PUBLIC")  # type: ignore[call-overload]
    cost = Cost(persons)
    for title, name in _STUDIES.items():
        study = (
            Study.from_run_config(runs.QUESTIONS[name], runs.ROOT)
            if name
            else Study.parse(_CROSSED)
        )
        times = [_once(cluster, study, cost, title) for _ in range(repeat)]
        cost.questions[title] = tuple(median(t) for t in zip(*times, strict=True))  # type: ignore[assignment]
        say(f"  policy, {title}: {cost.questions[title]}")
    cost.called, cost.served = _round_trips(cluster)
    return cost


def _once(cluster: Cluster, study: Study, cost: Cost, title: str) -> tuple[float, float, float]:
    policy = Policy()
    site = Site(database_url(cluster.reader_url()), policy)
    compared = 0.0

    def compare(connection, population, frame, asked) -> None:  # type: ignore[no-untyped-def]
        nonlocal compared
        started = time.perf_counter()
        ids = person_ids(connection, frame)
        assert ids is not None
        bitmap = PersonBitmap.from_ids(ids)
        past = [
            Answered(PersonBitmap.from_ids(ids[100 * i :]), frozenset("x"), "", "") for i in (1, 2)
        ]
        too_similar(bitmap, frozenset("x"), past, policy.min_count)
        compared += time.perf_counter() - started

    started = time.perf_counter()
    examined = site.examine(study, "0" * 32, 600, compare)
    worked = time.perf_counter() - started - compared
    started = time.perf_counter()
    answers = policy.disclose(examined.evidence)
    ruled = time.perf_counter() - started
    cost.cells[title] = (
        sum(len(answer.cells) for answer in answers),
        sum(len(answer.withheld) for answer in answers),
    )
    return worked, ruled, compared


def _round_trips(cluster: Cluster) -> tuple[float, float]:
    """Median seconds of asking for the terms: by a call, and through the service's socket."""
    body = wire.encode_request(Request("", 0, "", 10.0))
    with tempfile.TemporaryDirectory(prefix="fa-") as folder:
        key = SigningKey.new().public.text
        hospital = GuardedHospital(Path(folder) / "a", "a", cluster.reader_url(), "", key, [])
        hospital.start()
        try:
            address = f"unix:{hospital.folder / 'site.sock'}"
            served = median(_timed(lambda: ask(address, body, 10.0)) for _ in range(CALLS))
        finally:
            assert hospital.process is not None
            hospital.process.stop()
        here = GuardedSite.open(SiteConfig.load(hospital.folder / "site.toml"))
        called = median(_timed(lambda: here.answer(body)) for _ in range(CALLS))
    return called, served


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def table(costs: Sequence[Cost]) -> str:
    """What the page says of it."""
    lines = [
        "| persons | question | cells released, withheld | examined, s | rules, s | "
        "persons compared, s | rules' share | both shares |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for cost in costs:
        for title, (worked, ruled, compared) in cost.questions.items():
            whole = worked + ruled
            released, withheld = cost.cells[title]
            lines.append(
                f"| {cost.persons:,} | {title} | {released:,}, {withheld:,} | {worked:.2f} | "
                f"{ruled:.3f} | {compared:.3f} | {ruled / whole:.0%} | "
                f"{(ruled + compared) / (whole + compared):.0%} |"
            )
    last = costs[-1]
    lines += [
        "",
        f"A round trip through the service's socket took {1_000 * last.served:.1f} ms, the same "
        f"by a call {1_000 * last.called:.2f} ms (medians of {CALLS}).",
    ]
    return "\n".join(lines)
