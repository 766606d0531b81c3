"""`fm.Simulation`: a server's fragments in this process, under the server's own rules."""

from __future__ import annotations

from typing import Any

import pytest

from federated_analytics import fedmed as fm
from federated_analytics.fedmed.errors import Mismatch
from tests.fedmed.servers import EXACT, served


def counted(server: fm.Server, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    sent: list[bytes] = []
    answer = server.answer
    monkeypatch.setattr(server, "answer", lambda body: (sent.append(body), answer(body))[1])
    return sent


def test_fragments_of_one_server_share_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    server, other = fm.Server(EXACT, ["t"]), fm.Server(EXACT, ["t"])
    server["a"], server["b"], other["a"] = [1, 2], [3], [4]
    sent = counted(server, monkeypatch), counted(other, monkeypatch)
    sources: list[Any] = [fm.Simulation(server, "a"), fm.Simulation(server=server, fragment="b")]
    data = fm.FedData([*sources, fm.Simulation(other, "a"), fm.Local([10])])
    mean = data.sum() / data.len()
    assert float(mean) == 20 / 5
    assert [len(one) for one in sent] == [1, 1]
    with served(server) as address:
        mixed = fm.FedData([fm.Remote(address, "b", token="t"), fm.Simulation(server, "a")])
        assert mixed.sum() == 6
    assert fm.FedData(sources)._repr_html_()
    assert len({source.server for source in data._sources}) == 3


def test_the_policy_holds_and_no_token_is_needed() -> None:
    server = fm.Server(tokens=["t"], name="ward")
    server["ages"] = {"age": list(range(40))}
    data = fm.FedData([fm.Simulation(server, "ages")])
    assert data["age"].mean() == 19.5
    with pytest.raises(fm.AskFailed, match=r"(?s)'ward'.*singles_out"):
        float(data["age"][data["age"] > 37].mean())
    with pytest.raises(fm.AskFailed, match="unknown_fragment"):
        float(fm.FedData([fm.Simulation(server, "nothing")]).sum())


def test_it_is_equal_to_itself_and_combines_row_by_row() -> None:
    server, other = fm.Server(EXACT, ["t"]), fm.Server(EXACT, ["t"])
    for one in (server, other):
        one["a"], one["b"] = [1.0, 2.0], [3.0, 5.0]
    a, again = fm.Simulation(server, "a"), fm.Simulation(server, "a")
    assert a == again
    assert hash(a) == hash(again)
    assert len({a, fm.Simulation(server, "b"), fm.Simulation(other, "a")}) == 3
    assert a != "a"
    product = fm.FedData([a]) * fm.FedData([fm.Simulation(server, "b")])
    assert product.sum() == 13
    with pytest.raises(Mismatch):
        fm.FedData([a]) * fm.FedData([fm.Simulation(other, "b")])
