"""`federated-analytics flame …`: analysis scripts of FLAME, on this machine or a federation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federated_analytics.flame import command_options as given
from federated_analytics.flame.run_reading import RunFiles

if TYPE_CHECKING:
    from federated_analytics.flame.federation_run import FederationOptions
    from federated_analytics.flame.run_options import RunOptions, RunResult

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(
    epilog="Example: federated-analytics flame run mean.py --nodes a,b,c --aggregator c --data data"
)
def run(
    script: given.Script,
    nodes: given.Nodes,
    aggregator: given.Aggregator,
    data: given.Data = None,
    store: given.Store = None,
    project: given.Project = "local",
    out: given.OutFolder = Path("results/flame"),
    limit: given.Limit = 3600,
    param: given.Param = None,
    memory_gb: given.MemoryGb = None,
    network: given.Network = False,
    epsilon_budget: given.EpsilonBudget = None,
    record: given.Record = False,
    superlink: given.SuperLink = "",
    key: given.Key = None,
    approval_seconds: given.ApprovalSeconds = 3600,
    root_certificates: given.RootCertificates = None,
) -> None:
    """Run a script on nodes of this machine, or on the sites of a Flower federation.

    With --superlink the nodes are sites by their names, and the aggregator's worker runs beside
    the ServerApp under the name that --aggregator gives it. Each site's operator approves the
    script with its parameters once: `federated-analytics site pending` lists it.
    """
    both = {
        "script": script,
        "nodes": given.named_nodes(nodes),
        "aggregator": aggregator,
        "project": project,
        "out": out,
        "parameters": given.parameters(param),
        "limit": limit,
        "epsilon_budget": epsilon_budget,
    }
    if superlink:
        there = given.there(both, superlink, key, approval_seconds, root_certificates)
        _end(_on_federation(there))
    else:
        _end(_on_this_machine(given.here(both, data, store, memory_gb, network, record)))


def _on_this_machine(options: RunOptions) -> RunResult:
    from federated_analytics.flame.live_status import shown
    from federated_analytics.flame.local_run import LocalRun
    from federated_analytics.local.program import ended_by_signals

    with ended_by_signals():
        local = LocalRun(options)
        with shown(local.records) as show:
            local.on_event = show
            return local.run()


def _on_federation(options: FederationOptions) -> RunResult:
    from federated_analytics.flame.federation_run import run_on_federation
    from federated_analytics.flame.live_status import shown_later
    from federated_analytics.local.program import ended_by_signals

    with ended_by_signals(), shown_later() as display:
        return run_on_federation(
            options,
            on_line=lambda line: print(line, flush=True),
            on_event=lambda event: display.show(event),
            on_start=lambda live: display.start(live.records),
        )


def _end(result: RunResult) -> None:
    """Say how a run has ended; exit code 1 where the aggregator gave no result in order."""
    _say(result.nodes)
    for id, record in result.nodes.items():
        log = result.out / "logs" / f"{id}.log"
        if record["status"] == "failed" and log.exists():
            print(f"  see {log}")
    print(f"wrote {result.out}")
    if not result.succeeded:
        if result.state == "finished":
            print("the aggregator submitted no final result")
        raise typer.Exit(1)


@app.command(epilog="Example: federated-analytics flame status results/flame")
def status(out: given.Out) -> None:
    """Print a run's state and, of each node, its state, progress and last log line."""
    files = RunFiles(out)
    known = files.status()
    print(known["state"] + (" (its process is gone: `flame stop` ends it)" if files.alone else ""))
    last = {entry["node"]: entry["text"] for entry in files.log()}
    _say(known["nodes"], files.progress(), last)


@app.command(epilog="Example: federated-analytics flame logs results/flame --node node-a --follow")
def logs(
    out: given.Out,
    node: Annotated[str, typer.Option(help="Only this node's lines.")] = "",
    printed: Annotated[
        bool, typer.Option(help="What the scripts print, which the hub does not see.")
    ] = False,
    follow: Annotated[bool, typer.Option(help="Go on until the run has ended.")] = False,
) -> None:
    """Print what reached the hub's log, or what the scripts printed."""
    files = RunFiles(out)
    if printed and files.on_federation:
        print("What a script prints at a site stays there; its operator can read it.")
    for line in files.follow(node, printed) if follow else files.so_far(node, printed):
        print(line, flush=follow)


@app.command(epilog="Example: federated-analytics flame stop results/flame")
def stop(
    out: given.Out,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for its end.")] = 90,
) -> None:
    """Stop a run: every node is ended, at its site too, and the run's state is `stopped`."""
    files = RunFiles(out)
    if not files.running:
        print(f"the run has ended before: {files.status()['state']}")
        return
    print(files.stop(wait, lambda line: print(line, flush=True)))


@app.command(epilog="Example: federated-analytics flame results results/flame")
def results(out: given.Out) -> None:
    """Print the final results of a run: texts as they are, other results as their files."""
    for submission in RunFiles(out).submissions():
        print(str(out / submission["file"]) if "file" in submission else submission["text"])


@app.command(epilog="Example: federated-analytics flame replay results/flame --node node-a")
def replay(
    out: given.Out,
    node: Annotated[str, typer.Option(help="Whose script runs again.")],
    script: Annotated[
        Path | None, typer.Option(help="Instead of the script that was recorded.")
    ] = None,
) -> None:
    """Run one node's script again, alone, answered as it was when it was recorded."""
    from federated_analytics.flame.replay_run import replay as replayed

    state, reason = replayed(out, node, script)
    print(f"{node}: {state}{f' ({reason})' if reason else ''}")
    if state != "finished":
        raise typer.Exit(1)


def _say(
    nodes: Mapping[str, Mapping[str, str]],
    progress: Mapping[str, int] | None = None,
    last: Mapping[str, str] | None = None,
) -> None:
    """A line for each node; progress and last log line where they are known."""
    for id, record in nodes.items():
        reason = f" ({record['reason']})" if record["reason"] else ""
        done = f"  {progress[id]} %" if progress and id in progress else ""
        text = (last or {}).get(id, "").strip().splitlines()
        print(f"{id}: {record['status']}{reason}{done}{f'  {text[-1]}' if text else ''}")
