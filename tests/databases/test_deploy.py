"""deploy/compose.yaml by schema: everything that it names is there, and no secret stands in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from federated_analytics.databases.docker import SERVICES, compose_file
from federated_analytics.site import NODE_CONFIG

yaml = pytest.importorskip("yaml")

_SERVICE_KEYS = {
    *("image", "build", "profiles", "environment", "env_file", "command", "shm_size"),
    *("healthcheck", "restart", "ports", "volumes", "networks", "depends_on"),
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded = yaml.safe_load(compose_file().read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_services_have_known_keys_and_an_image(compose: dict[str, Any]) -> None:
    assert {key for key in compose if not key.startswith("x-")} == {
        "name",
        "services",
        "networks",
        "volumes",
    }
    for name, service in compose["services"].items():
        assert set(service) <= _SERVICE_KEYS, name
        assert "image" in service, name


def test_references_lead_somewhere(compose: dict[str, Any]) -> None:
    used_networks, used_volumes = set(), set()
    for name, service in compose["services"].items():
        for other in service.get("depends_on", {}):
            needed = compose["services"][other]
            # A service of another profile would not be started with this one.
            assert set(service["profiles"]) <= set(needed["profiles"]), name
        used_networks |= set(service["networks"])
        used_volumes |= {volume.split(":")[0] for volume in service.get("volumes", [])}
    assert used_networks == set(compose["networks"])
    assert used_volumes == set(compose["volumes"])


def test_profiles(compose: dict[str, Any]) -> None:
    by_profile: dict[str, set[str]] = {}
    for name, service in compose["services"].items():
        for profile in service["profiles"]:
            by_profile.setdefault(profile, set()).add(name)
    assert by_profile == {
        "databases": set(SERVICES),
        "federation": {"superlink", "supernode-1", "supernode-2"},
    }


def test_databases(compose: dict[str, Any]) -> None:
    ports = []
    for name in SERVICES:
        service = compose["services"][name]
        assert service["image"] == "postgres:18"
        assert service["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]
        # PostgreSQL 18's image keeps its data one folder higher than those before it.
        assert service["volumes"] == [f"{name}:/var/lib/postgresql"]
        (published,) = service["ports"]
        assert published.startswith("${FEDERATED_ANALYTICS_DB_ADDRESS:-127.0.0.1}:")
        ports.append(re.search(r"PORT:-(\d+)}:5432$", published).group(1))  # type: ignore[union-attr]
    assert ports == ["5433", "5434"]


def test_supernodes_know_their_database_by_a_variable(compose: dict[str, Any], root: Path) -> None:
    example = (root / "deploy" / "hospital.env.example").read_text()
    for number in (1, 2):
        service = compose["services"][f"supernode-{number}"]
        command = service["command"]
        config = command[command.index("--node-config") + 1]
        keys = dict(re.findall(r'([a-z-]+)="([^"]*)"', config))
        assert set(keys) <= set(NODE_CONFIG)
        assert f"\n{keys['db-url-env']}=" in example
        assert [file["path"] for file in service["env_file"]] == [f"hospital-{number}.env"]
        assert f"hospital-{number}" in service["networks"]
        assert f"hospital-{number}" in compose["services"][f"database-{number}"]["networks"]
        address, port = command[command.index("--superlink") + 1].split(":")
        superlink = compose["services"][address]["command"]
        assert superlink[superlink.index("--port") + 1] == port


def test_no_secret_on_a_command_line(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        words = " ".join(map(str, service.get("command", [])))
        assert "password" not in words.lower(), name
        assert "://" not in words, name


def test_images_are_flowers_of_the_version_that_is_installed(
    compose: dict[str, Any], root: Path
) -> None:
    from importlib.metadata import version

    dockerfile = (root / "deploy" / "supernode.Dockerfile").read_text()
    assert f"ARG BASE=flwr/supernode:{version('flwr')}\n" in dockerfile
    base = compose["services"]["superlink"]["build"]["args"]["BASE"]
    assert base == f"flwr/superlink:{version('flwr')}"
    for source in re.findall(r"^COPY [^\n]*?app:app (.+) /app", dockerfile, re.MULTILINE):
        for file in source.split():
            assert (root / file).exists(), file
    for service in compose["services"].values():
        if "build" in service:
            build = service["build"]
            assert (root / "deploy" / build["context"] / build["dockerfile"]).resolve().is_file()


def test_env_files_are_not_committed_and_the_readme_says_what_was_checked(root: Path) -> None:
    assert (root / "deploy" / ".gitignore").read_text() == "*.env\n"
    assert "by schema only" in (root / "deploy" / "README.md").read_text()
