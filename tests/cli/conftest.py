"""Runs the command line in this process, over two hospitals' databases."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from federated_analytics import cli
from federated_analytics.databases.postgres import drop_database, empty_database
from tests import pooled
from tests.sites import load

STUDY = """
[study]
name = "Blood pressure"
[[analysis]]
kind = "counts"
by = ["sex"]
[[analysis]]
kind = "summary"
features = ["age", "systolic_bp"]
"""
NOBODY = "postgresql://nobody:secret@127.0.0.1:1/nothing"


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    def refused(self, code: int, *words: str) -> None:
        """It ended with this exit code and one line that holds all the words; no traceback."""
        assert self.code == code, self.err
        assert "Traceback" not in self.err + self.out
        last = self.err.strip().splitlines()[-1]
        for word in words:
            assert word in last, self.err


Command = Callable[..., Ended]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Runs the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["federated-analytics", *map(str, arguments)])
        capsys.readouterr()
        code: Any = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return Ended(int(code or 0), said.out, said.err)

    return run


@pytest.fixture
def study(tmp_path: Path) -> Path:
    file = tmp_path / "study.toml"
    file.write_text(STUDY, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def urls(postgres_url: str) -> Iterator[list[str]]:
    """Two hospitals, each a database with the tables where they usually are."""
    tables = pooled.random_tables(11, 300)
    names = [f"test_cli_{secrets.token_hex(4)}_{position}" for position in range(2)]
    made = []
    for position, name in enumerate(names):
        url = empty_database(postgres_url, name)
        with sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:")).begin() as one:
            one.execute(sa.text("DROP SCHEMA public"))
        part = pooled.part_of(tables, position, 2, empty=False)
        load(url, "public", {**part, **pooled.concept_tables()})
        made.append(url)
    yield made
    for name in names:
        drop_database(postgres_url, name)


@pytest.fixture
def asked(urls: list[str]) -> list[str]:
    return [text for url in urls for text in ("--site", url)]


@pytest.fixture
def executed() -> Iterator[list[str]]:
    """Every statement that reaches a database."""
    seen: list[str] = []

    def record(_: Any, __: Any, statement: str, *rest: Any) -> None:
        seen.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", record)
    yield seen
    sa.event.remove(sa.Engine, "before_cursor_execute", record)
