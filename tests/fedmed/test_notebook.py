"""The example's notebook, executed."""

from __future__ import annotations

import os
from pathlib import Path

import nbclient
import nbformat
import pytest


def test_the_notebook_runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTHONPATH", path)
    notebook = nbformat.read(root / "examples" / "fedmed" / "notebook.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    shown = "".join(str(cell.get("outputs", "")) for cell in notebook.cells)
    for text in ("missing", "between", "TestResult", "fragments gave no answer"):
        assert text in shown
