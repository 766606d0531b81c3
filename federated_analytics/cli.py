"""The command line. Thin: each command calls one function and prints what it returns."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from federated_analytics import __version__
from federated_analytics.errors import ConfigError, FederatedAnalyticsError, StudyError

app = typer.Typer(
    name="federated-analytics",
    help="Ask epidemiological questions of many hospitals' OMOP databases at once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Sites = Annotated[
    list[str] | None,
    typer.Option("--site", help="URL of a PostgreSQL database; repeat for each site."),
]
Study = Annotated[Path, typer.Argument(help="A study file, such as studies/demo.toml.")]


def main() -> None:
    """Entry point: errors that a user can mend end with their remedy, not a traceback."""
    try:
        app()
    except FederatedAnalyticsError as error:
        print(f"error {error.code}: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, StudyError | ConfigError) else 1)


@contextmanager
def _quiet_log() -> Iterator[None]:
    """A site's own log lines go to its log, not between the lines of a result."""
    import logging

    logging.getLogger("federated_analytics").addHandler(logging.NullHandler())
    yield


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command(
    epilog="Example: federated-analytics run studies/demo.toml --superlink local-deployment"
)
def run(
    study: Study,
    superlink: Annotated[
        str | None, typer.Option(help="A connection of Flower's config.toml, or HOST:PORT.")
    ] = None,
    site: Sites = None,
    out: Annotated[Path, typer.Option(help="Folder for the result's files.")] = Path("results"),
    min_sites: Annotated[int, typer.Option(min=1, help="Fewest sites that must answer.")] = 2,
    deadline_seconds: Annotated[int, typer.Option(min=1, help="How long sites may take.")] = 300,
    policy: Annotated[
        Path | None, typer.Option(help="With --site: a policy file; the strict one by default.")
    ] = None,
    root_certificates: Annotated[
        Path | None, typer.Option(help="With --superlink HOST:PORT: the CA of its certificate.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="With --superlink: your key's file; sites that ask for one need it."),
    ] = None,
    project: Annotated[str, typer.Option(help="With --key: your project at the sites.")] = "",
    secure: Annotated[
        bool, typer.Option(help="With --key: nobody sees one site's numbers, only their sums.")
    ] = False,
    formats: Annotated[
        str | None, typer.Option("--format", help="Of csv,json,parquet,html; all by default.")
    ] = None,
) -> None:
    """Run a study over a Flower federation, or over databases in this process."""
    from federated_analytics.local.program import ended_by_signals
    from federated_analytics.progress import shown
    from federated_analytics.report.table_text import to_terminal
    from federated_analytics.running import run as run_study

    with shown() as show, _quiet_log(), ended_by_signals():
        result = run_study(
            study,
            sites=site or (),
            superlink=superlink,
            policy=policy,
            min_sites=min_sites,
            deadline_seconds=deadline_seconds,
            on_progress=show,
            **(
                {
                    "root_certificates": root_certificates,
                    "key": key,
                    "project": project,
                    "secure": secure,
                }
                if superlink
                else {"secure": secure}
            ),
        )
    to_terminal(result)
    for path in result.save(out, formats.split(",") if formats else None):
        print(f"wrote {path}")


@app.command(epilog="Example: federated-analytics demo --persons 2000 --out results/demo")
def demo(
    persons: Annotated[int, typer.Option(min=10, help="Persons in each hospital.")] = 10_000,
    sites: Annotated[int, typer.Option(min=1, max=6, help="Hospitals.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the synthetic data.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for the result.")] = Path("results/demo"),
    keep: Annotated[bool, typer.Option(help="Leave the databases running.")] = False,
    guarded: Annotated[
        bool,
        typer.Option(help="With a service, signed requests and a person's approval at each."),
    ] = False,
) -> None:
    """Three synthetic hospitals, a real Flower federation, one study, one report."""
    from federated_analytics.local.demo import run_demo
    from federated_analytics.progress import shown
    from federated_analytics.report.table_text import to_terminal

    with shown() as show:
        result = run_demo(
            persons=persons,
            sites=sites,
            seed=seed,
            out=out,
            keep=keep,
            guarded=guarded,
            show=show,
        )
    to_terminal(result)


@app.command(epilog="Example: federated-analytics preview studies/demo.toml --site URL")
def preview(
    study: Study,
    site: Annotated[str, typer.Option(help="URL of the database it would run on.")],
    policy: Annotated[Path | None, typer.Option(help="The site's policy file.")] = None,
    cdm_schema: Annotated[str, typer.Option(help="Schema of the CDM's tables.")] = "",
) -> None:
    """Print a study's SQL and the numbers that would leave. Nothing is run."""
    from federated_analytics.omop.tables import Cdm
    from federated_analytics.preview import preview as previewed
    from federated_analytics.privacy.policy import Policy
    from federated_analytics.study import Study as StudyFile

    terms = Policy.load(policy) if policy else Policy()
    print(previewed(StudyFile.load(study), site, terms, Cdm(cdm_schema or None)), end="")


@app.command(epilog="Example: federated-analytics check --site postgresql://USER:PW@HOST/DB")
def check(
    site: Annotated[str, typer.Option(help="URL of the database.")],
    cdm_schema: Annotated[str, typer.Option(help="Schema of the CDM's tables.")] = "",
    vocabulary_schema: Annotated[str, typer.Option(help="Schema of the vocabulary.")] = "",
) -> None:
    """Is this database ready: CDM version, tables, vocabulary, coverage and units of features?"""
    from federated_analytics.omop.readiness import check as checked
    from federated_analytics.omop.tables import Cdm

    readiness = checked(site, Cdm(cdm_schema or None, vocabulary_schema or None))
    print(readiness.to_text(), end="")
    if not readiness.ready:
        raise typer.Exit(1)


@app.command(epilog="Example: federated-analytics report results/result.csv --out report.html")
def report(
    result: Annotated[Path, typer.Argument(help="A result's .csv, .json or .parquet file.")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
) -> None:
    """Write the report of a result that was saved before."""
    from federated_analytics.report.result import Result

    print(f"wrote {Result.load(result).report(out)}")


@app.command(epilog="Example: federated-analytics features cholesterol")
def features(
    search: Annotated[str, typer.Argument(help="Words to look for.")] = "",
    format: Annotated[str, typer.Option(help="table, json or csv.")] = "table",
) -> None:
    """List the features that a study can ask for."""

    from federated_analytics.omop.feature_listing import features_table, features_text

    if format == "table":
        from rich.console import Console

        Console().print(features_table(search))
    elif format in ("json", "csv"):
        print(features_text(search, format), end="")  # type: ignore[arg-type]
    else:
        raise ConfigError(
            f"There is no format {format!r}.", where="--format", remedy="Use table, json or csv."
        )


def _groups() -> None:
    from federated_analytics.databases.commands import app as databases
    from federated_analytics.flame.commands import app as scripts
    from federated_analytics.key_commands import app as keys
    from federated_analytics.site_commands.quote import quote
    from federated_analytics.site_commands.site import app as sites

    app.command(epilog="Example: federated-analytics quote study.toml --policy site.toml")(quote)
    app.add_typer(databases, name="db", help="Databases on this machine, with synthetic data.")
    app.add_typer(keys, name="key", help="The key that an analyst signs her requests with.")
    app.add_typer(scripts, name="flame", help="FLAME analysis scripts, here or on a federation.")
    app.add_typer(sites, name="site", help="A hospital's own service, policy, audit, approvals.")


_groups()
