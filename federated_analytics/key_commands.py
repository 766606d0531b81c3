"""`federated-analytics key …`: the key that an analyst, or a site, signs with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)
DEFAULT = Path.home() / ".config" / "federated-analytics" / "key.pem"
KeyFile = Annotated[Path, typer.Argument(help="The private key's file.", show_default=False)]


@app.command(epilog="Example: federated-analytics key new")
def new(file: KeyFile = DEFAULT) -> None:
    """Make a key. Its file stays with you; send the public half to each site operator."""
    from federated_analytics.signing import SigningKey

    key = SigningKey.new()
    key.save(file)
    print(f"wrote {file}; it stays with you")
    print(f"public key, for the site operators: {key.public.text}")
    print(f"fingerprint, to compare by telephone: {_in_groups(key.fingerprint)}")


@app.command(epilog="Example: federated-analytics key show")
def show(file: KeyFile = DEFAULT) -> None:
    """Print the public half, one line: what a site operator writes into site.toml."""
    from federated_analytics.signing import SigningKey

    print(SigningKey.load(file).public.text)


@app.command(epilog="Example: federated-analytics key fingerprint ed25519:…")
def fingerprint(
    key: Annotated[
        str, typer.Argument(help="A private key's file, or a public key.", show_default=False)
    ] = str(DEFAULT),
) -> None:
    """Print a key's fingerprint, to compare with what its owner reads out."""
    from federated_analytics.signing import PREFIX, PublicKey, SigningKey

    public = PublicKey(key) if key.startswith(PREFIX) else SigningKey.load(key).public
    print(_in_groups(public.fingerprint))


@app.command(epilog="Example: federated-analytics key trust hospital-a ed25519:…")
def trust(
    site: Annotated[str, typer.Argument(help="The site's name.")],
    key: Annotated[str, typer.Argument(help="Its public key, as its operator gave it.")],
) -> None:
    """Pin a site's public key: replies in its name that another key signed are refused."""
    from federated_analytics.attested import KNOWN_SITES
    from federated_analytics.attested import trust as pin

    pin(site, key)
    print(f"{site} is known by its key in {KNOWN_SITES}")


def _in_groups(fingerprint: str) -> str:
    return " ".join(fingerprint[i : i + 8] for i in range(0, len(fingerprint), 8))
