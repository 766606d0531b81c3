"""Several nodes in one test: real worker processes on this machine, for pytest.

def test_mean(tmp_path):
    bed = FlameTestBed(tmp_path, nodes=["node-a", "node-b", "node-c"], aggregator="node-c")
    run = bed.run("analysis.py", data={"node-a": {"x.csv": "1"}, "node-b": {"x.csv": "3"}})
    assert run.succeeded and run.texts == ["2.0"]
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federated_analytics.flame.local_run import SITE_FILE, LocalRun, RunOptions, RunResult
from federated_analytics.flame.router import Event
from federated_analytics.flame.run_folder import HUB_LOG, SUBMISSIONS


@dataclass(frozen=True)
class TestRun:
    """What a run left behind, read for a test.

    Fields:
        submissions: lines of submissions.jsonl
        hub_log: lines of hub_log.jsonl
        printed: what each node's script printed
    """

    __test__ = False  # pytest would take it for a class of tests

    result: RunResult
    submissions: list[dict[str, Any]]
    hub_log: list[dict[str, str]]
    printed: Mapping[str, str]

    @property
    def succeeded(self) -> bool:
        return self.result.succeeded

    @property
    def texts(self) -> list[str]:
        """The final results that are text."""
        return [line["text"] for line in self.submissions if line["output_type"] == "str"]

    @property
    def out(self) -> Path:
        return self.result.out

    def status(self, node: str) -> str:
        return self.result.nodes[node]["status"]

    def reason(self, node: str) -> str:
        return self.result.nodes[node]["reason"]

    def logged(self, node: str) -> list[tuple[str, str]]:
        """Level and text of each line of a node in the hub's log."""
        return [(line["level"], line["text"]) for line in self.hub_log if line["node"] == node]


@dataclass(frozen=True)
class OmopNode:
    """An OMOP database of a node, and the policy under which its site answers.

    Fields:
        url: of a PostgreSQL database
        policy: lines of a site.toml's `[policy]`
    """

    url: str
    cdm_schema: str = ""
    vocabulary_schema: str = ""
    policy: str = ""

    def site_toml(self, node: str, state: Path) -> str:
        """The site's configuration; its ledger and audit are kept in `state`."""
        import tomli_w

        database = {"url": self.url, "version": "1"}
        database |= {"cdm_schema": self.cdm_schema, "vocabulary_schema": self.vocabulary_schema}
        site = {"name": node, "state": str(state.resolve())}
        return f"{tomli_w.dumps({'site': site, 'database': database})}\n[policy]\n{self.policy}\n"


class FlameTestBed:
    """Runs scripts on several nodes of this machine.

    Args:
        folder: of the test; runs share its store, so tags persist from run to run.
        nodes: ids, the aggregator among them; the last one aggregates by default.
    """

    def __init__(
        self, folder: Path, nodes: Sequence[str] = ("node-a", "node-b"), aggregator: str = ""
    ) -> None:
        self.folder = folder
        self.nodes = list(nodes)
        self.aggregator = aggregator or self.nodes[-1]
        self._runs = 0

    def run(
        self,
        script: str | Path,
        *,
        scripts: Mapping[str, str | Path] | None = None,
        data: Mapping[str, Mapping[str, str | bytes]] | None = None,
        omop: Mapping[str, OmopNode] | None = None,
        parameters: Mapping[str, Any] | None = None,
        limit: float = 60.0,
        on_event: Callable[[Event], None] = lambda event: None,
        **options: Any,
    ) -> TestRun:
        """Run a script to its end.

        Args:
            script: a file (*.py), or the text of one (dedented).
            scripts: other scripts for some nodes.
            data: files for each node, by name.
            omop: databases of nodes; ledger and audit persist from run to run, in `sites`.
            options: further fields of `RunOptions`.
        """
        self._runs += 1
        own = self.folder / f"run-{self._runs}"
        own.mkdir(parents=True)
        files = {node: dict(held) for node, held in (data or {}).items()}
        for node, database in (omop or {}).items():
            text = database.site_toml(node, self.folder / "sites" / node)
            files.setdefault(node, {})[SITE_FILE] = text
        chosen = RunOptions(
            script=_file(own / "script.py", script),
            scripts={
                node: _file(own / f"{node}.py", text) for node, text in (scripts or {}).items()
            },
            nodes=self.nodes,
            aggregator=self.aggregator,
            out=own / "out",
            data=_folders(own / "data", files) if files or data is not None else None,
            store=options.pop("store", self.folder / "store"),
            parameters=parameters or {},
            limit=limit,
            **options,
        )
        return read(LocalRun(chosen, on_event).run())


def read(result: RunResult) -> TestRun:
    """A finished run's folder, for assertions."""
    logs = {path.stem: path.read_text(errors="replace") for path in result.out.glob("logs/*.log")}
    return TestRun(
        result,
        _lines(result.out / SUBMISSIONS),
        _lines(result.out / HUB_LOG),
        logs,
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _file(path: Path, script: str | Path) -> Path:
    if isinstance(script, Path) or script.endswith(".py"):
        return Path(script)
    path.write_text(textwrap.dedent(script))
    return path


def _folders(folder: Path, data: Mapping[str, Mapping[str, str | bytes]]) -> Path:
    for node, files in data.items():
        (folder / node).mkdir(parents=True)
        for name, content in files.items():
            content = content.encode() if isinstance(content, str) else content
            (folder / node / name).write_bytes(content)
    return folder
