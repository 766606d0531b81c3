"""Dependencies point one way: an import against the layers fails here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import federated_analytics

ROOT = Path(federated_analytics.__file__).parent

# A module may import from its own layer's packages listed first, and from any layer below.
LAYERS = [
    {"cli", "client_app", "server_app"},
    {"desk"},
    {"site_commands", "key_commands"},
    {"fedmed", "flame"},
    {
        "running",
        "local",
        "connections",
        "app_run",
        "submit",
        "attested",
        "progress",
        "databases",
        "site_console",
    },
    {"guarded_site", "policy_page"},
    {"guarded_answer", "approval_request", "request_kinds", "secure_requests"},
    {"preview", "noisy_study", "site_state", "quote"},
    {
        "federation",
        "exchange",
        "participation",
        "asking",
        "couriers",
        "site",
        "site_terms",
        "results",
        "site_rows",
        "payload",
    },
    {"execution", "person_sets", "public_domain", "secure_aggregation", "site_service"},
    {"study", "study_errors", "run_config", "wire", "canonical", "signing", "site_config"},
    {"analyses", "privacy", "report"},
    {"messages"},
    {"aggregates", "omop"},
    {"errors", "toml_place", "code_digest", "unix_sockets"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def _modules() -> list[Path]:
    return sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def _package(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    """Our packages that a module imports when it is loaded or run; types alone do not count."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.unparse(test.test)
        for node in ast.walk(test)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in typing_only:
            parts = node.module.split(".")
            if parts[0] == "federated_analytics":
                found |= {parts[1]} if len(parts) > 1 else {a.name for a in node.names}
    return found - {"__version__"}


def test_every_module_has_its_layer() -> None:
    assert {_package(p) for p in _modules()} <= set(LEVEL)


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    own = _package(path)
    for name in _imports(path):
        assert LEVEL[name] >= LEVEL[own], f"{own} imports {name}"


def test_analyses_and_privacy_do_not_know_each_other() -> None:
    for path in _modules():
        imported = _imports(path)
        if _package(path) == "analyses":
            assert not imported & {"privacy", "report", "study", "messages"}, path
        if _package(path) == "privacy":
            assert not imported & {"analyses", "report", "study", "omop"}, path


def test_only_the_policy_holds_the_seal_of_a_release() -> None:
    holders = {p.name for p in _modules() if "_MADE_BY_POLICY" in p.read_text()}
    assert holders == {"policy.py", "release.py"}


# Writes a final result as a pickle where its author asks for one; no process of ours reads any.
WRITES_PICKLES = ROOT / "flame" / "final_pickle.py"


def test_nothing_is_unpickled_or_evaluated() -> None:
    banned = {"pickle", "dill", "cloudpickle", "marshal", "shelve"}
    for path in _modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if path == WRITES_PICKLES:
                assert not isinstance(node, ast.Attribute) or node.attr not in {"load", "loads"}
                continue
            if isinstance(node, ast.Import):
                assert not banned & {a.name.split(".")[0] for a in node.names}, path
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in banned, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec"}, path
