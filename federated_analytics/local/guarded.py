"""Hospitals whose own service guards their database: the demo's, as separate system users."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from federated_analytics.local.program import Process, program
from federated_analytics.signing import SigningKey

PROJECT = "demo"
START_SECONDS = 60
POLL_SECONDS = 0.5
_UNPRIVILEGED = "nobody"
_FINGERPRINT = re.compile(r"\b[0-9a-f]{8,64}\b")
_PUBLIC_KEY = re.compile(r"public key (ed25519:\S+)")
_SITE = """\
[site]
name = "{name}"

[database]
url_file = "database-url"

[policy]
approval = "manual"
per_site = true
{policy}
[service]
listen = "unix:site.sock"
users = ["{user}"]
{service}
[[project]]
name = "{project}"

[[analyst]]
name = "A. Analyst"
key = "{key}"
projects = ["{project}"]
"""

Say = Callable[[str], None]


@dataclass
class GuardedHospital:
    """One hospital's service: a process of its own, as another system user where root runs this.

    Args:
        policy: lines for `[policy]`.
        service: further lines for `[service]`.
    """

    folder: Path
    name: str
    url: str
    policy: str
    analyst: str
    as_user: Sequence[str]
    service: str = ""
    process: Process | None = field(default=None, init=False)

    @property
    def node_config(self) -> dict[str, str | int]:
        """All that the SuperNode is told: where the service listens."""
        return {"site-service": f"unix:{self.folder / 'site.sock'}", "site": self.name}

    @property
    def public_key(self) -> str:
        """What the service says of its key when it starts."""
        assert self.process is not None
        found = _PUBLIC_KEY.search(self.process.said())
        return found[1] if found else ""

    def start(self) -> None:
        """Write the configuration, start the service, wait until it listens."""
        self.folder.mkdir(mode=0o711)
        text = _SITE.format(
            name=self.name,
            policy=self.policy,
            service=self.service,
            user=os.getuid(),
            project=PROJECT,
            key=self.analyst,
        )
        self._write("site.toml", text)
        self._write("database-url", self.url)
        if self.as_user:
            shutil.chown(self.folder, _UNPRIVILEGED, "nogroup")
        command = [*self.as_user, program("federated-analytics"), "site", "serve"]
        self.process = Process(
            f"site service of {self.name}",
            [*command, str(self.folder / "site.toml")],
            self.folder.parent / f"{self.name}.log",
            {"HOME": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        self.process.start()
        self.process.until("listening on", START_SECONDS)

    def command(self, *arguments: str) -> str:
        """Run `federated-analytics site …` as the service's user; what it printed."""
        done = subprocess.run(
            [*self.as_user, program("federated-analytics"), "site", *arguments],
            env={**os.environ, "HOME": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout

    def approve_pending(self) -> list[str]:
        """Approve every study that waits, for one run; their fingerprints."""
        config = str(self.folder / "site.toml")
        found = _FINGERPRINT.findall(self.command("pending", "--state", config))
        for fingerprint in found:
            self.command("approve", fingerprint, "--state", config)
        return found

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        if self.as_user:
            shutil.chown(path, _UNPRIVILEGED, "nogroup")


@contextmanager
def guarded_hospitals(
    folder: Path,
    urls: Mapping[str, str],
    policies: Mapping[str, str],
    key: SigningKey,
    say: Say,
    *,
    own_user: bool = False,
) -> Iterator[list[GuardedHospital]]:
    """The services of some hospitals, each approving what waits at it; stopped afterwards.

    Args:
        own_user: run them as this process' user: another one may not be able to start a script's
            worker, where this Python lies in a folder that is closed to it.
    """
    user = [] if own_user else _another_user()
    made = [
        GuardedHospital(folder / name, name, url, policies.get(name, ""), key.public.text, user)
        for name, url in urls.items()
    ]
    stop = threading.Event()
    approver = threading.Thread(target=_approve, args=(made, stop, say), daemon=True)
    try:
        for one in made:
            one.start()
            who = f" as {_UNPRIVILEGED}" if user else ""
            say(f"{one.name}: its own service guards the database{who}")
        approver.start()
        yield made
    finally:
        stop.set()
        for one in made:
            if one.process is not None:
                one.process.stop()


def pinned(hospitals: Sequence[GuardedHospital], file: Path) -> Path:
    """The hospitals' public keys, as an analyst pins them, in a file."""
    file.write_text(json.dumps({one.name: one.public_key for one in hospitals}), encoding="utf-8")
    return file


def _approve(hospitals: Sequence[GuardedHospital], stop: threading.Event, say: Say) -> None:
    """The operators, played by a script: each approves what it is asked, once."""
    waiting = list(hospitals)
    while waiting and not stop.wait(POLL_SECONDS):
        for one in list(waiting):
            for fingerprint in one.approve_pending():
                say(f"{one.name}: the operator approves study {fingerprint[:8]}")
                waiting.remove(one)
                break


def _another_user() -> list[str]:
    """What runs a command as another user; nothing where that cannot be."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        return []
    command = [setpriv, f"--reuid={_UNPRIVILEGED}", "--regid=nogroup", "--clear-groups"]
    probe = subprocess.run(
        [*command, sys.executable, "-c", "import federated_analytics"],
        cwd="/",
        capture_output=True,
        check=False,
    )
    return command if probe.returncode == 0 else []
