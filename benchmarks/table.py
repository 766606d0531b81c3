"""The measurements as Markdown: tables, and each aim with what was reached."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from benchmarks.measure import Measured
from benchmarks.memory import KINDS
from benchmarks.runs import Run

NAMES = {
    "flat": "flat table: mean, sd",
    "flat+": "flat table: mean, sd, 5 quantiles, histogram",
    "omop": "OMOP: latest value; mean, sd",
    "omop+": "OMOP: latest value; mean, sd, 5 quantiles, histogram",
}
SITE_AIM, COMMAND_AIM, MEMORY_AIM_MIB, BYTES_AIM = 1.5, 4.0, 250, 4_000


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: the first two columns to the left, numbers to the right."""
    rule = ["---" if i < 2 else "---:" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def commands(all_measured: Sequence[Measured]) -> str:
    """Whole commands, ours and the baseline's."""
    rows = []
    for measured in all_measured:
        baseline = _seconds(measured.baseline)
        sent = f"{_bytes(measured.baseline):,}"
        size = f"2 × {measured.persons:,}"
        rows.append([size, "**baseline**: flat table: mean, sd", f"{baseline:.1f}", "1", "1", sent])
        for name, question in measured.questions.items():
            seconds = _seconds(question.runs)
            rounds = str(max(run.rounds for run in question.runs))
            ratio = f"{baseline / seconds:.1f} ×"
            sent = f"{_bytes(question.runs):,}"
            rows.append([size, NAMES[name], f"{seconds:.1f}", ratio, rounds, sent])
    head = ["persons", "question", "command, s", "baseline ÷ it", "rounds", "bytes a site sends"]
    return markdown_table(head, rows)


def site_work(all_measured: Sequence[Measured]) -> str:
    """The sites' own seconds over the floor, alone and with all sites at once."""
    rows = []
    for measured in all_measured:
        for name, question in measured.questions.items():
            rows.append(
                [
                    f"{measured.persons:,}",
                    NAMES[name],
                    *_over(question.floor_alone, question.site_alone),
                    *_over(question.floor_at_once, question.site_at_once),
                ]
            )
    head = ["persons a site", "question", "floor, one site, s", "ours, one site, s", "ours ÷ floor"]
    head += ["floor, both at once, s", "ours, both at once, s", "ours ÷ floor"]
    return markdown_table(head, rows)


def memory(all_measured: Sequence[Measured]) -> str:
    """Largest process of each kind, in MiB."""
    kinds = list(KINDS.values())
    rows = []
    for measured in all_measured:
        size = f"2 × {measured.persons:,}"
        rows.append([size, "**baseline**", *_peaks(measured.baseline, kinds)])
        for name, question in measured.questions.items():
            rows.append([size, NAMES[name], *_peaks(question.runs, kinds)])
    return markdown_table(["persons", "question", *kinds], rows)


def phases(all_measured: Sequence[Measured]) -> str:
    """Where a command's seconds go: medians of the time between what its log shows."""
    rows = []
    for measured in all_measured:
        for name, question in measured.questions.items():
            marks = [_marks(run) for run in question.runs if len(run.phases) == 5]
            if marks:
                between = [median(values) for values in zip(*marks, strict=True)]
                site = median(question.site_at_once)
                between[2] -= site
                cells = [f"{seconds:.1f}" for seconds in (*between[:2], site, *between[2:])]
                rows.append([f"2 × {measured.persons:,}", NAMES[name], *cells])
    head = ["persons", "question", "`flwr run` starts, bundle sent", "ServerApp starts"]
    head += ["sites work", "message and answer travel", "merge", "log's end"]
    return markdown_table(head, rows)


def aims(all_measured: Sequence[Measured]) -> str:
    """Each aim at the largest size, what was reached, and whether it is met."""
    measured = max(all_measured, key=lambda one: one.persons)
    runs = [run for question in measured.questions.values() for run in question.runs]
    work = {
        name: median(question.site_alone) / median(question.floor_alone)
        for name, question in measured.questions.items()
    }
    faster = _seconds(measured.baseline) / _seconds(measured.questions["flat"].runs)
    peak = max((run.peaks.get("ClientApp", 0.0) for run in runs), default=0.0)
    sent, rounds = max(max(run.bytes_sent) for run in runs), max(run.rounds for run in runs)
    rows = [
        [
            f"site work ≤ {SITE_AIM} × floor, {NAMES[name]}",
            f"{ratio:.2f} ×",
            _met(ratio <= SITE_AIM),
        ]
        for name, ratio in work.items()
    ]
    rows += [
        [
            f"whole command ≥ {COMMAND_AIM:g} × faster than the baseline",
            f"{faster:.1f} ×",
            _met(faster >= COMMAND_AIM),
        ],
        [
            f"ClientApp < {MEMORY_AIM_MIB} MiB, flat in rows",
            f"{peak:.0f} MiB{_by_size(all_measured)}",
            _met(0 < peak < MEMORY_AIM_MIB),
        ],
        ["one round", str(rounds), _met(rounds == 1)],
        [
            f"< {BYTES_AIM:,} bytes a site sends for five features",
            f"{sent:,}",
            _met(sent < BYTES_AIM),
        ],
    ]
    return markdown_table([f"aim, at {measured.persons:,} persons a site", "reached", ""], rows)


def _by_size(all_measured: Sequence[Measured]) -> str:
    """The ClientApp's peak at each size, where there are several."""
    if len(all_measured) < 2:
        return ""
    peaks = [
        f"{max(r.peaks.get('ClientApp', 0.0) for q in m.questions.values() for r in q.runs):.0f}"
        f" at {m.persons:,}"
        for m in all_measured
    ]
    return f" ({', '.join(peaks)})"


def _seconds(runs: Sequence[Run]) -> float:
    return median(run.seconds for run in runs)


def _bytes(runs: Sequence[Run]) -> int:
    return max(max(run.bytes_sent) for run in runs)


def _over(floor: Sequence[float], ours: Sequence[float]) -> list[str]:
    least, taken = median(floor), median(ours)
    return [f"{least:.2f}", f"{taken:.2f}", f"{taken / least:.2f} ×"]


def _peaks(runs: Sequence[Run], kinds: Sequence[str]) -> list[str]:
    highest = {kind: max(run.peaks.get(kind, 0.0) for run in runs) for kind in kinds}
    return [f"{highest[kind]:.0f}" if highest[kind] else "–" for kind in kinds]


def _marks(run: Run) -> list[float]:
    """Seconds of: acceptance, ServerApp's start, the round, merging, the rest."""
    accepted, started, _, answered, merged = run.phases.values()
    return [
        accepted,
        started - accepted,
        answered - started,
        merged - answered,
        run.seconds - merged,
    ]


def _met(reached: bool) -> str:
    return "met" if reached else "**not met**"
