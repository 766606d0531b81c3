"""`federated-analytics site …`: what a site operator does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federated_analytics.site_commands import approval, audit, policy, running

if TYPE_CHECKING:
    from federated_analytics.flame.at_site import ScriptsAtSite
    from federated_analytics.request_kinds import Handler
    from federated_analytics.site_config import SiteConfig

app = typer.Typer(no_args_is_help=True)
app.add_typer(approval.app)
app.add_typer(running.app)
app.add_typer(audit.app, name="audit", help="What was asked, decided and released.")
app.add_typer(policy.app, name="policy", help="The site's policy: check, show, explain.")
ConfigFile = Annotated[Path, typer.Argument(help="The site's site.toml.")]

_FIRST = """\
# Every key, with its default: docs/policy.md, or `federated-analytics site policy page`.

[site]
name = "{name}"

[database]
url_file = "database-url"            # one line: postgresql://USER:PASSWORD@HOST/DATABASE

[policy]
preset = "strict"
approval = "manual"                  # a person sees each study before it runs

[service]
listen = "unix:state/site.sock"
users = []                           # the SuperNode's system user

# [[project]]
# name = "diabetes-2026"
# until = 2027-12-31

# [[analyst]]
# name = "A. Analyst"
# key = "ed25519:…"                  # from `federated-analytics key show`
# projects = ["diabetes-2026"]
"""


@app.command(epilog="Example: federated-analytics site init --name hospital-a /etc/hospital-a")
def init(
    folder: Annotated[Path, typer.Argument(help="Folder for site.toml.")],
    name: Annotated[str, typer.Option(help="The site's name in results.")],
) -> None:
    """Write a first site.toml, strict, to be completed by hand."""
    from federated_analytics.errors import ConfigError

    file = folder / "site.toml"
    if file.exists():
        raise ConfigError("There is a site.toml already.", where=str(file))
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(_FIRST.format(name=name), encoding="utf-8")
    print(f"wrote {file}")
    print(
        f"next: write the database's URL into {folder / 'database-url'}, admit a project and "
        f"an analyst in {file}, then: federated-analytics site serve {file}"
    )


@app.command(epilog="Example: federated-analytics site serve site.toml")
def serve(config: ConfigFile) -> None:
    """Run the site's own service: it alone holds credentials, policy, ledger and audit."""
    from federated_analytics.guarded_site import GuardedSite
    from federated_analytics.site_config import SiteConfig
    from federated_analytics.site_service.address import Address
    from federated_analytics.site_service.limits import Limits
    from federated_analytics.site_service.server import serve as serve_site

    loaded = SiteConfig.load(config)
    table = loaded.service
    scripts, fragments = _scripts(loaded), _fragments(loaded)
    kinds = {"flame": scripts, "fedmed": fragments}
    guarded = GuardedSite.open(loaded, {k: handler for k, handler in kinds.items() if handler})
    if scripts:
        scripts.resume(guarded)
    token = str(loaded.path(table.token_file)) if table.token_file else ""
    address = Address.parse(loaded.address, token)
    print(f"{loaded.site.name}: public key {guarded.state.key.public.text}", flush=True)
    serve_site(
        guarded,
        address,
        users=table.users,
        group=table.group,
        # Who waits for a study needs no place of it: the site itself keeps count of those.
        limits=Limits(
            concurrent=table.concurrent + table.queue, queue=0, stop_seconds=table.stop_seconds
        ),
        on_ready=lambda: print(f"{loaded.site.name}: listening on {loaded.address}", flush=True),
    )
    if scripts:
        scripts.stop()


def _fragments(config: SiteConfig) -> Handler | None:
    """The handler of FedMed's requests, where the site has fragments for them."""
    if not config.service.fragments:
        return None
    from federated_analytics.fedmed.over_flower import FragmentsHandler, load_fragments

    file = config.path(config.service.fragments)
    return FragmentsHandler(load_fragments(file, config.site.name), config.site.name)


def _scripts(config: SiteConfig) -> ScriptsAtSite | None:
    """The handler of scripts; none where the packages that it needs are not installed."""
    from importlib.util import find_spec

    if find_spec("httpx") is None:
        return None
    from federated_analytics.flame.at_site import ScriptsAtSite
    from federated_analytics.flame.storage_end import StorageEnd

    sources = config.service.data_sources
    projects = {project.name: project.until for project in config.project}
    StorageEnd(config.state / "flame" / "storage", projects, config.service.storage_days).hourly()
    return ScriptsAtSite(config.state / "flame", config.path(sources) if sources else None)


@app.command(epilog="Example: federated-analytics site console site.toml")
def console(config: ConfigFile) -> None:
    """Serve a web page on this machine: what waits, what was decided, ledger, audit, policy."""
    from federated_analytics.site_config import SiteConfig
    from federated_analytics.site_console import console_state
    from federated_analytics.site_service.console.serving import serve_console

    loaded = SiteConfig.load(config)
    serve_console(console_state(loaded), loaded.service.console_port)


@app.command(epilog="Example: federated-analytics site key site.toml")
def key(config: ConfigFile) -> None:
    """Print the site's public key: analysts pin it to verify what the site signs."""
    from federated_analytics.site_config import SiteConfig
    from federated_analytics.site_state import site_key

    print(site_key(SiteConfig.load(config).state).public.text)


@app.command(epilog="Example: federated-analytics site ledger site.toml")
def ledger(config: ConfigFile) -> None:
    """List what was charged to each analyst's privacy budget."""
    from datetime import UTC, datetime

    from federated_analytics.privacy.ledger import Ledger
    from federated_analytics.site_config import SiteConfig

    entries = list(Ledger.open(SiteConfig.load(config).state).charges())
    for entry in entries:
        at = datetime.fromtimestamp(entry.charge.at, UTC).isoformat(timespec="seconds")
        print(f"{at}  {entry.charge.analyst}  rho {entry.charge.rho:.6g}  {entry.request[:12]}")
    if not entries:
        print("nothing was charged")


@app.command(epilog="Example: federated-analytics site info --superlink local-deployment")
def info(
    superlink: Annotated[str, typer.Option(help="A connection's name, or HOST:PORT.")],
    root_certificates: Annotated[
        Path | None, typer.Option(help="With HOST:PORT: the CA of its certificate.")
    ] = None,
) -> None:
    """Print the public part of every connected site's policy, before anything is asked."""
    from federated_analytics.site_terms import to_text
    from federated_analytics.submit import ask_terms

    print(to_text(ask_terms(superlink, root_certificates=root_certificates)), end="")
