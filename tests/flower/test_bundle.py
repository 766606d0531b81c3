"""What `flwr build` puts into the app's bundle is all that the app needs, and small."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from federated_analytics.local.program import program

LARGEST_BYTES = 10 * 2**20
"""The largest bundle that Flower takes."""


@pytest.fixture(scope="module")
def bundle(app: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    done = subprocess.run(
        [program("flwr"), "build", "--app", str(app)],
        cwd=home,
        env={**os.environ, "FLWR_HOME": str(home / "flwr"), "FLWR_TELEMETRY_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = [*home.glob("*.fab"), *app.glob("*.fab")]
    return built


def test_it_is_small(bundle: Path) -> None:
    assert bundle.stat().st_size < LARGEST_BYTES


def test_every_module_and_every_study_is_in_it(bundle: Path, app: Path) -> None:
    wanted = {
        str(path.relative_to(app))
        for folder in ("federated_analytics", "studies")
        for path in (app / folder).rglob("*")
        if path.suffix in (".py", ".toml", ".json")
    }
    assert "federated_analytics/omop/catalogue.toml" in wanted
    names = set(zipfile.ZipFile(bundle).namelist())
    assert not wanted - names
    assert {"pyproject.toml", "README.md", "LICENSE"} <= names
    assert not [
        n for n in names if n.startswith(("tests/", "benchmarks/", ".git", ".venv", "results/"))
    ]


def test_the_app_runs_from_what_is_in_it(bundle: Path, tmp_path: Path) -> None:
    """Catalogue, studies and every module are found there, not in what is installed."""
    zipfile.ZipFile(bundle).extractall(tmp_path)
    code = (
        "import sys, pathlib; sys.path.insert(0, '.')\n"
        "import federated_analytics as package\n"
        "here = pathlib.Path.cwd()\n"
        "assert pathlib.Path(package.__file__).is_relative_to(here), package.__file__\n"
        "import federated_analytics.server_app, federated_analytics.client_app\n"
        "from federated_analytics.study import Study\n"
        "files = sorted(here.glob('studies/*.toml'))\n"
        "[Study.load(file) for file in files]\n"
        "print(len(files))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 6


def test_a_clientapp_starts_without_what_only_the_site_needs(app: Path) -> None:
    """A SuperNode starts a process for each message: the courier's import stays light."""
    code = (
        "import sys, federated_analytics.client_app\n"
        "print([n for n in ('pandas', 'scipy', 'pyarrow', 'matplotlib', 'psycopg')"
        " if n in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=app, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
