"""The page of the benchmarks: ratios, aims and phases from measurements that are made up."""

from __future__ import annotations

import pytest

from benchmarks import page, table
from benchmarks.machine import Machine
from benchmarks.measure import Measured, Question
from benchmarks.memory import Peaks
from benchmarks.runs import Run

PHASES = {
    "run accepted": 2.0,
    "ServerApp runs": 5.0,
    "request sent": 5.0,
    "last site answered": 9.0,
    "result merged": 10.0,
}


def run(seconds: float, site: float | None = None, sent: int = 400) -> Run:
    sites = [] if site is None else [site, site / 2]
    peaks = Peaks(ClientApp=120.0, ServerApp=150.0)
    return Run(seconds, peaks, [sent, sent - 1], {"bmi": 25.0}, sites, phases=PHASES)


def measured(persons: int = 1_000_000, sent: int = 400) -> Measured:
    question = Question([0.2, 0.1, 0.9], [0.3, 0.2, 0.4], [0.5, 0.5, 0.5])
    question.runs = [run(12, 1.0, sent), run(11, 0.8, sent), run(13, 0.9, sent)]
    return Measured(persons, 1.0, [run(60), run(50), run(70)], {"flat": question})


def cells(text: str, beginning: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {beginning}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_command_is_compared_with_the_baseline_of_the_same_run() -> None:
    text = table.commands([measured()])
    ours = text.splitlines()[-1]
    assert "| 12.0 | 5.0 × | 1 | 400 |" in ours
    assert cells(text, "2 × 1,000,000")[2] == "60.0"


def test_site_work_is_the_slowest_sites_over_the_floor() -> None:
    row = cells(table.site_work([measured()]), "1,000,000")
    assert row[2:] == ["0.20", "0.30", "1.50 ×", "0.50", "0.90", "1.80 ×"]


@pytest.mark.parametrize(
    ("aim", "reached", "met"),
    [
        ("site work ≤ 1.5 × floor, flat table: mean, sd", "1.50 ×", "met"),
        ("whole command ≥ 4 ×", "5.0 ×", "met"),
        ("ClientApp < 250 MiB", "120 MiB", "met"),
        ("one round", "1", "met"),
        ("< 4,000 bytes", "5,000", "**not met**"),
    ],
)
def test_an_aim_says_what_was_reached(aim: str, reached: str, met: str) -> None:
    assert cells(table.aims([measured(sent=5_000)]), aim)[1:] == [reached, met]


def test_aims_are_judged_at_the_largest_size() -> None:
    text = table.aims([measured(), measured(100)])
    assert "at 1,000,000 persons" in text
    assert "(120 at 1,000,000, 120 at 100)" in text


def test_phases_add_up_to_the_command() -> None:
    row = cells(table.phases([measured()]), "2 × 1,000,000")
    assert row[2:] == ["2.0", "3.0", "0.9", "3.1", "1.0", "2.0"]
    assert sum(map(float, row[2:])) == pytest.approx(12.0)


def test_a_process_that_was_not_seen_has_no_memory() -> None:
    head, *_ = table.memory([measured()]).splitlines()
    row = cells(table.memory([measured()]), "2 × 1,000,000 | flat")
    by_kind = dict(zip((c.strip() for c in head.strip("|").split("|")), row, strict=True))
    assert by_kind["ClientApp"] == "120"
    assert by_kind["SuperLink"] == "–"


def test_the_page_holds_every_table_and_how_to_make_it() -> None:
    machine = Machine(2, 24.0, "Linux", "3.11", "18.6", "flwr 1.41", "2026-01-02", 0.5)
    text = page.page(
        [measured()],
        machine,
        command="make bench",
        repeat=3,
        seconds=600,
        load=1.5,
        policy="| what the policy costs |",
    )
    assert "| what the policy costs |" in text
    for made in (table.aims, table.commands, table.site_work, table.phases, table.memory):
        assert made([measured()]) in text
    assert "`make bench` in 10 minutes" in text
    assert "2 cores, 24 GiB" in text
    assert "load at the start 0.5 and 1.5 at the end" in text


def test_a_part_of_the_page_is_replaced_and_the_others_stay() -> None:
    both = page.with_part(page.with_part("", "sites", "# one"), "fedmed", "## two")
    assert page.with_part("", "sites", "# one") in both
    again = page.with_part(both, "sites", "# three")
    assert "# one" not in again
    assert again.index("# three") < again.index("## two")
    assert page.with_part(again, "sites", "# one") == both
