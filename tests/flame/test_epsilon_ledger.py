"""A project's budget for local_dp: over runs and restarts, at a site and on one machine."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from federated_analytics.flame.epsilon_ledger import EpsilonLedger, RunBudget
from federated_analytics.flame.errors import BudgetSpent
from federated_analytics.flame.testbed import FlameTestBed
from tests.flame.test_broker import BOTH
from tests.flame.test_over_sites import Federation, federation, result

__all__ = ["federation"]
pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("flame")]
POLICY = "free_exchange = true\nbudget_epsilon = 1.0\n"
NOISY = """
from flame import FlameCoreSDK
flame = FlameCoreSDK(silent=True)
if flame.get_role() == "aggregator":
    try:
        flame.submit_final_result(1000, local_dp={"epsilon": 0.4, "sensitivity": 1.0})
    except Exception as error:
        flame.submit_final_result(f"{error.code}: {error.remedy}")
    flame.analysis_finished()
"""


def ledger(folder: Path, project: str = "p", limit: float | None = 1.0) -> EpsilonLedger:
    return EpsilonLedger(folder / "epsilon.sqlite", project, limit)


def test_the_sum_of_all_charges_never_exceeds_the_limit(tmp_path: Path) -> None:
    for _ in range(10):
        ledger(tmp_path).charge(0.1)  # each a new ledger object, as after a restart
    assert ledger(tmp_path).spent() == pytest.approx(1.0)
    with pytest.raises(BudgetSpent):
        ledger(tmp_path).charge(1e-6)
    assert ledger(tmp_path).spent() == pytest.approx(1.0)


def test_projects_do_not_pay_for_each_other(tmp_path: Path) -> None:
    ledger(tmp_path, "one").charge(1.0)
    ledger(tmp_path, "two").charge(1.0)
    with pytest.raises(BudgetSpent):
        ledger(tmp_path, "one").charge(0.01)


def test_one_run_is_charged_once(tmp_path: Path) -> None:
    for _ in range(3):
        ledger(tmp_path).charge(0.6, "run-1")
    assert ledger(tmp_path).spent() == 0.6
    with pytest.raises(BudgetSpent):
        ledger(tmp_path).charge(0.7, "run-1")


def test_a_charge_leaves_the_period_with_its_days(tmp_path: Path) -> None:
    held = EpsilonLedger(tmp_path / "e.sqlite", "p", 1.0, days=30)
    held.charge(1.0)
    with sqlite3.connect(tmp_path / "e.sqlite") as file:
        file.execute("UPDATE charges SET at = ?", [time.time() - 29 * 86_400])
    with pytest.raises(BudgetSpent):
        held.charge(0.5)
    with sqlite3.connect(tmp_path / "e.sqlite") as file:
        file.execute("UPDATE charges SET at = ?", [time.time() - 31 * 86_400])
    held.charge(0.5)
    assert held.spent() == 0.5


def test_many_at_once_spend_no_more_than_one_after_the_other(tmp_path: Path) -> None:
    refused: list[int] = []

    def spend() -> None:
        for _ in range(5):
            try:
                ledger(tmp_path).charge(0.1)
            except BudgetSpent:
                refused.append(1)

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 10
    assert ledger(tmp_path).spent() == pytest.approx(1.0)


def test_a_charge_survives_a_kill(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from typing import Any
from federated_analytics.flame.epsilon_ledger import EpsilonLedger
EpsilonLedger(Path({str(tmp_path / "epsilon.sqlite")!r}), "p", 1.0).charge(0.75)
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], check=False)
    assert ledger(tmp_path).spent() == 0.75


def test_a_run_spends_what_it_was_given() -> None:
    budget = RunBudget(1.0)
    for _ in range(10):
        budget.charge(0.1)
    with pytest.raises(BudgetSpent, match="--epsilon-budget"):
        budget.charge(0.01)
    with pytest.raises(BudgetSpent):
        RunBudget(0.0).charge(0.01)


def test_a_project_s_runs_on_one_machine_share_its_budget(tmp_path: Path) -> None:
    bed = FlameTestBed(tmp_path, ["node-c"])
    script = BOTH + "flame.submit_final_result(1.0, local_dp={'epsilon': 0.4, 'sensitivity': 1.0})"
    given: dict[str, Any] = {"epsilon_budget": 1.0}
    runs = [bed.run(script, project="p", **given) for _ in range(3)]
    assert [run.succeeded for run in runs] == [True, True, False]
    assert "BudgetSpent" in runs[2].reason("node-c")
    assert bed.run(script, project="another", **given).succeeded


@pytest.fixture
def bounded(tmp_path: Path) -> Federation:
    found = Federation(tmp_path, policy=POLICY)
    found.site("hospital-a")
    found.site("hospital-b")
    return found


def test_sites_charge_a_run_before_it_begins(bounded: Federation) -> None:
    order = bounded.order(NOISY, epsilon=0.4)
    for _ in range(2):
        assert abs(float(result(bounded.run(order))) - 1000) < 100
    third = bounded.run(order)
    for name in ("hospital-a", "hospital-b"):
        node = third.nodes[name]
        assert node["status"] == "absent"
        assert "budget_spent" in node["reason"]
        folder = bounded.folder / name / "flame"
        assert EpsilonLedger(folder / "epsilon.sqlite", "p").spent() == pytest.approx(0.8)
    for handler in bounded.handlers:
        handler.stop()


def test_a_run_without_an_epsilon_adds_no_noise(federation: Federation) -> None:
    refused = result(federation.run(federation.order(NOISY)))
    assert refused.startswith("budget_spent: ")
    assert "--epsilon-budget" in refused
    entry = federation.sites["hospital-a"].state.approvals.all()[0]
    assert "local_dp is refused" in entry.asked.cost


def test_an_operator_reads_what_a_run_costs(bounded: Federation) -> None:
    bounded.run(bounded.order(NOISY, epsilon=0.4), approve=False, seconds=2.0)
    [entry] = bounded.sites["hospital-a"].state.approvals.pending()
    assert entry.asked.cost.startswith("ε = 0.4 for each run")
    assert "0 of 1 in 365 days" in entry.asked.cost
    for handler in bounded.handlers:
        handler.stop()


def test_a_bed_that_is_given_no_budget_charges_all_the_same(tmp_path: Path) -> None:
    bed = FlameTestBed(tmp_path, ["node-c"])
    script = BOTH + "flame.submit_final_result(1.0, local_dp={'epsilon': 50, 'sensitivity': 1.0})"
    assert bed.run(script, project="p").succeeded
    assert ledger_of(tmp_path).spent() == pytest.approx(50)
    assert not bed.run(script, project="p", epsilon_budget=60.0).succeeded


def ledger_of(tmp_path: Path) -> EpsilonLedger:
    return EpsilonLedger(tmp_path / "store" / ".ledger" / "epsilon.sqlite", "p")
