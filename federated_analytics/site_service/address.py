"""Where a site service listens: `unix:PATH`, or a loopback port with a token."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from federated_analytics.errors import ConfigError

HOST = "127.0.0.1"
LONGEST_PATH_BYTES = 107
"""What a Unix socket's name may have (unix(7): sun_path is 108 bytes with its end)."""
MIN_TOKEN_CHARACTERS = 32
_LOOPBACK = re.compile(r"^(?:http://)?127\.0\.0\.1:(\d{1,5})/?$")


@dataclass(frozen=True)
class Address:
    """A Unix socket's path, or a port of this machine with the token that opens it."""

    path: str = ""
    port: int = 0
    token: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str, token_file: str | Path = "") -> Self:
        """`unix:/run/site.sock`, `127.0.0.1:8080` or `http://127.0.0.1:8080`.

        Raises:
            ConfigError: it is none of these, the path is too long, or a port has no token.
        """
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path or "\0" in path or len(os.fsencode(path)) > LONGEST_PATH_BYTES:
                raise ConfigError(
                    f"A socket's path has 1 to {LONGEST_PATH_BYTES} bytes.",
                    where="the site service's address",
                    remedy="Write unix:/run/federated-analytics/site.sock.",
                )
            return cls(path=path)
        found = _LOOPBACK.match(text)
        if not found or not 0 <= int(found[1]) < 65_536:
            raise ConfigError(
                "This is no address of a site service.",
                where="the site service's address",
                remedy="Write unix:/run/federated-analytics/site.sock, or 127.0.0.1:8080.",
            )
        return cls(port=int(found[1]), token=_token(token_file))


def _token(path: str | Path) -> str:
    """The token in a file that only its owner, and its group, may read."""
    where = "the site service's token file"
    if not str(path):
        raise ConfigError(
            "A port of this machine is open to all its users, and so needs a token.",
            where=where,
            remedy="Name a file that holds 32 or more random characters, or use unix:PATH.",
        )
    try:
        with Path(path).open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            token = file.read(1_000).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("The file cannot be read.", where=where) from error
    if mode & 0o007:
        raise ConfigError(
            "Everybody may read the file.", where=where, remedy="Run `chmod 640` on it."
        )
    if len(token) < MIN_TOKEN_CHARACTERS or not token.isprintable() or " " in token:
        raise ConfigError(
            f"A token has {MIN_TOKEN_CHARACTERS} or more letters and digits.",
            where=where,
            remedy="Make one with `openssl rand -hex 32`.",
        )
    return token
