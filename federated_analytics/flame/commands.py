"""`federated-analytics flame …`: analysis scripts of FLAME on this machine."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from federated_analytics.errors import ConfigError
from federated_analytics.flame.errors import RunFailed

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Out = Annotated[Path, typer.Argument(help="The folder of a run: what --out named.")]


@app.command(
    epilog="Example: federated-analytics flame run mean.py --nodes a,b,c --aggregator c --data data"
)
def run(
    script: Annotated[Path, typer.Argument(help="The analysis script, unchanged.")],
    nodes: Annotated[str, typer.Option(help="Ids of all nodes, with commas; the aggregator too.")],
    aggregator: Annotated[str, typer.Option(help="Which of the nodes aggregates.")],
    data: Annotated[
        Path | None, typer.Option(help="A folder with one folder of data for each node.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Keeps the nodes' local storage between runs.")
    ] = None,
    project: Annotated[str, typer.Option(help="Whose local storage the script sees.")] = "local",
    out: Annotated[Path, typer.Option(help="Folder for what the run leaves.")] = Path(
        "results/flame"
    ),
    limit: Annotated[float, typer.Option(min=0.1, help="Seconds that the script may take.")] = 3600,
    param: Annotated[
        list[str] | None, typer.Option(help="k=v, for the script; repeat for each.")
    ] = None,
    memory_gb: Annotated[
        float | None,
        typer.Option(min=0.1, help="Of each worker; 8, or half of a smaller machine's."),
    ] = None,
    network: Annotated[bool, typer.Option(help="Leave the script the network.")] = False,
    epsilon_budget: Annotated[
        float | None, typer.Option(min=0, help="What local_dp may spend; no bound by default.")
    ] = None,
    record: Annotated[bool, typer.Option(help="Keep every call, for `flame replay`.")] = False,
    superlink: Annotated[
        str, typer.Option(help="On a federation instead: a connection's name, or HOST:PORT.")
    ] = "",
    key: Annotated[
        Path | None, typer.Option(help="With --superlink: your key's file; the sites verify it.")
    ] = None,
    approval_seconds: Annotated[
        float, typer.Option(min=1, help="With --superlink: how long to wait for approvals.")
    ] = 3600,
    root_certificates: Annotated[
        Path | None, typer.Option(help="With --superlink HOST:PORT: the CA of its certificate.")
    ] = None,
) -> None:
    """Run a script on nodes of this machine, or on the sites of a Flower federation.

    With --superlink the nodes are sites by their names, and the aggregator's worker runs beside
    the ServerApp under the name that --aggregator gives it. Each site's operator approves the
    script with its parameters once: `federated-analytics site pending` lists it.
    """
    from federated_analytics.flame.live_status import shown
    from federated_analytics.flame.local_run import LocalRun, RunOptions
    from federated_analytics.flame.worker_process import Limits
    from federated_analytics.local.program import ended_by_signals

    if superlink:
        _on_federation(
            script=script,
            nodes=[node.strip() for node in nodes.split(",") if node.strip()],
            aggregator=aggregator,
            superlink=superlink,
            key=_key(key),
            project=project,
            out=out,
            parameters=_parameters(param or []),
            limit=limit,
            approval_seconds=approval_seconds,
            root_certificates=root_certificates,
        )
        return
    options = RunOptions(
        script=script,
        nodes=[node.strip() for node in nodes.split(",") if node.strip()],
        aggregator=aggregator,
        out=out,
        data=_folder(data, "--data"),
        store=store,
        project=project,
        parameters=_parameters(param or []),
        limit=limit,
        limits=Limits() if memory_gb is None else Limits(memory_bytes=int(memory_gb * 2**30)),
        network=network,
        epsilon_budget=epsilon_budget,
        record=record,
    )
    with ended_by_signals():
        local = LocalRun(options)
        with shown(local.records) as show:
            local.on_event = show
            result = local.run()
    _say(result.nodes, out)
    if not result.succeeded:
        if result.state == "finished":
            print("the aggregator submitted no final result")
        raise typer.Exit(1)


def _on_federation(**options: Any) -> None:
    from federated_analytics.flame.federation_run import FederationOptions, run_on_federation

    result = run_on_federation(FederationOptions(**options), lambda line: print(line, flush=True))
    _say(result.nodes, options["out"])
    if not result.succeeded:
        raise typer.Exit(1)


def _key(path: Path | None) -> Path:
    if path is None:
        raise ConfigError(
            "Sites run no script that is not signed.",
            where="--key",
            remedy="Give --key; `federated-analytics key new` makes one.",
        )
    return path


@app.command(epilog="Example: federated-analytics flame status results/flame")
def status(out: Out) -> None:
    """Print the state of a run and of each of its nodes."""
    known = _status(out)
    print(known["state"])
    _say(known["nodes"], None)


@app.command(epilog="Example: federated-analytics flame logs results/flame --node node-a --follow")
def logs(
    out: Out,
    node: Annotated[str, typer.Option(help="Only this node's lines.")] = "",
    printed: Annotated[
        bool, typer.Option(help="What the scripts print, which the hub does not see.")
    ] = False,
    follow: Annotated[bool, typer.Option(help="Go on until the run has ended.")] = False,
) -> None:
    """Print what reached the hub's log, or what the scripts printed."""
    _status(out)
    seen: dict[Path, int] = {}
    while True:
        running = _status(out)["state"] == "running"
        for path in sorted((out / "logs").glob("*.log")) if printed else [out / "hub_log.jsonl"]:
            for line in _new_lines(path, seen):
                if text := _log_line(path, line, node, printed):
                    print(text)
        if not (follow and running):
            return
        time.sleep(0.2)


@app.command(epilog="Example: federated-analytics flame stop results/flame")
def stop(
    out: Out,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for its end.")] = 30,
) -> None:
    """Stop a run: every node is ended, and its state is `stopped`."""
    if _status(out)["state"] != "running":
        print(f"the run has ended before: {_status(out)['state']}")
        return
    (out / "stop").write_text("")
    end = time.monotonic() + wait
    while _status(out)["state"] == "running":
        if time.monotonic() > end:
            raise RunFailed(
                "The run does not stop.",
                where=str(out),
                remedy="See whether its process still runs, and end that.",
            )
        time.sleep(0.05)
    print(_status(out)["state"])


@app.command(epilog="Example: federated-analytics flame results results/flame")
def results(out: Out) -> None:
    """Print the final results of a run: texts as they are, other results as their files."""
    _status(out)
    for line in (out / "submissions.jsonl").read_text().splitlines():
        submission = json.loads(line)
        print(str(out / submission["file"]) if "file" in submission else submission["text"])


@app.command(epilog="Example: federated-analytics flame replay results/flame --node node-a")
def replay(
    out: Out,
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


def _parameters(pairs: list[str]) -> dict[str, Any]:
    """k=v pairs; a value that reads as JSON is that, any other is text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ConfigError(
                f"{pair!r} is no parameter.", where="--param", remedy="Write --param k=v."
            )
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            found[key] = value
    return found


def _folder(path: Path | None, where: str) -> Path | None:
    if path is not None and not path.is_dir():
        raise ConfigError(
            "There is no such folder.",
            where=f"{where} {path}",
            remedy="Make it, with a folder in it for each node.",
        )
    return path


def _status(out: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((out / "status.json").read_text()))
    except (OSError, ValueError):
        raise ConfigError(
            "This is not the folder of a run.", where=str(out), remedy="Name what --out named."
        ) from None


def _new_lines(path: Path, seen: dict[Path, int]) -> list[str]:
    with path.open("rb") as file:
        file.seek(seen.get(path, 0))
        text = file.read()
    whole = text[: text.rfind(b"\n") + 1]
    seen[path] = seen.get(path, 0) + len(whole)
    return whole.decode(errors="replace").splitlines()


def _log_line(path: Path, line: str, node: str, printed: bool) -> str:
    if printed:
        return f"{path.stem}: {line}" if node in ("", path.stem) else ""
    entry = json.loads(line)
    shown = f"{entry['node']} {entry['level']}: {entry['text']}"
    return shown if node in ("", entry["node"]) else ""


def _say(nodes: Any, out: Path | None) -> None:
    for id, record in nodes.items():
        reason = f" ({record['reason']})" if record["reason"] else ""
        print(f"{id}: {record['status']}{reason}")
        if out is not None and record["status"] == "failed":
            print(f"  see {out / 'logs' / f'{id}.log'}")
    if out is not None:
        print(f"wrote {out}")
