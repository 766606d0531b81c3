"""What a FedMed server let out stands in its audit, byte for byte, before it has left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from federated_analytics import fedmed as fm
from federated_analytics import wire
from federated_analytics.cli import app
from federated_analytics.fedmed.expression import Column
from federated_analytics.fedmed.fragment_site import FragmentSite
from federated_analytics.fedmed.protocol import Ask, Asks
from federated_analytics.messages import Request
from tests.fedmed.servers import served


def site(folder: Path) -> FragmentSite:
    made = FragmentSite(state=folder, audited=True)
    made["t"] = {"x": [float(i) for i in range(100)]}
    return made


def body(column: str) -> bytes:
    asks = Asks((Ask("t", "sum", (Column((column,)),)),))
    return wire.encode_request(Request(asks.to_json(), 1, "", 60.0, "fedmed"))


def lines(folder: Path) -> list[dict[str, object]]:
    listed = CliRunner().invoke(app, ["site", "audit", "export", str(folder)])
    assert listed.exit_code == 0, listed.output
    return [json.loads(line) for line in listed.output.splitlines()]


def test_every_answer_and_refusal_is_in_it(tmp_path: Path) -> None:
    one = site(tmp_path)
    answers = [one.answer(body("x")), one.answer(body("y")), one.answer(b"no request")]
    found = lines(tmp_path)
    assert [line["decision"] for line in found] == ["released", "released", "refused"]
    assert [line["bytes"] for line in found] == [len(answer) for answer in answers]
    kept = sorted(
        path.read_bytes() for path in (tmp_path / "released").rglob("*") if path.is_file()
    )
    assert kept == sorted(answers)
    verified = CliRunner().invoke(app, ["site", "audit", "verify", str(tmp_path)])
    assert "3 lines, whole and in order" in verified.output


def test_a_changed_line_is_found(tmp_path: Path) -> None:
    one = site(tmp_path)
    for column in ("x", "y"):
        one.answer(body(column))
    file = tmp_path / "audit.jsonl"
    file.write_text(file.read_text().replace('"released"', '"refused"', 1))
    assert CliRunner().invoke(app, ["site", "audit", "verify", str(tmp_path)]).exit_code != 0


def test_nothing_leaves_that_cannot_be_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = site(tmp_path)
    monkeypatch.setattr("federated_analytics.privacy.audit.os.fsync", _full)
    told = wire.decode_release(one.answer(body("x")))
    assert told.refusal is not None
    assert not told.answers


def _full(_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_server_with_a_state_folder_writes_one(tmp_path: Path) -> None:
    server = fm.Server(tokens=["t"], state=tmp_path)
    server["t"] = {"x": [float(i) for i in range(100)]}
    with served(server) as address:
        assert float(fm.FedData([fm.Remote(address, "t", token="t")])["x"].sum()) == 4950.0
    assert "released" in {line["decision"] for line in lines(tmp_path)}
