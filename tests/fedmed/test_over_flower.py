"""FedMed's requests over a courier: one message for all sites, each takes its own part."""

from __future__ import annotations

import base64
import json

import pytest

from federated_analytics import submit, wire
from federated_analytics.couriers import InProcessCourier
from federated_analytics.errors import NoSites, WireError
from federated_analytics.fedmed.data import FedData
from federated_analytics.fedmed.errors import AskFailed
from federated_analytics.fedmed.flower import REQUEST_KEY
from federated_analytics.fedmed.over_flower import (
    NoFragments,
    NotAsked,
    answer_at_node,
    request_of_site,
    run,
)
from federated_analytics.fedmed.remote import Remote
from federated_analytics.messages import Refusal, Request
from federated_analytics.privacy.policy import refuse
from tests.fedmed.fake_site import FakeSite


def node(site: FakeSite):  # type: ignore[no-untyped-def]
    """As the desk does: a refusal carries the site's name too."""

    def answer(body: bytes) -> bytes:
        try:
            return site.answer(request_of_site(body, site.name))
        except NotAsked as error:
            refusal = Refusal(error.code, "", error.message, error.remedy)
            return wire.encode_release(
                refuse(refusal, site=site.name, study="", round=0, version="")
            )

    return answer


@pytest.fixture
def sites() -> list[FakeSite]:
    return [
        FakeSite({"f": {"x": [1, 2]}}, name="hospital-a"),
        FakeSite({"f": {"x": [3]}, "g": {"x": [9]}}, name="hospital-b"),
        FakeSite({"f": {"x": [100]}}, name="hospital-c"),
    ]


@pytest.fixture
def runs(sites: list[FakeSite], monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Runs of the app that were submitted; the ServerApp's half runs in this process."""
    seen: list[bytes] = []

    def run_app(config, superlink, root_certificates, show) -> str:  # type: ignore[no-untyped-def]
        assert superlink == "local-deployment"
        seen.append(base64.b64decode(config[REQUEST_KEY]))
        courier = InProcessCourier({str(i): node(site) for i, site in enumerate(sites)})
        return run(courier, seen[-1])

    monkeypatch.setattr(submit, "run_app", run_app)
    return seen


def remote(site: str, fragment: str = "f") -> Remote:
    return Remote(site=site, fragment=fragment, superlink="local-deployment")


def test_a_batch_is_one_run(runs: list[bytes], sites: list[FakeSite]) -> None:
    data = FedData([remote("hospital-a"), remote("hospital-b"), remote("hospital-b", "g")])
    mean, above = data["x"].sum() / data["x"].len(), (data["x"] > 2).sum()
    assert float(mean) == 15 / 4
    assert above == 2
    assert len(runs) == 1
    assert [len(site.asked) for site in sites] == [1, 1, 0]
    assert len(sites[1].asked[0].asks) == 6


def test_a_site_that_is_not_there(runs: list[bytes]) -> None:
    data = FedData([remote("hospital-a"), remote("hospital-z")])
    with pytest.raises(AskFailed, match="hospital-z") as caught:
        float(data["x"].sum())
    assert "hospital-a did" in str(caught.value)
    assert len(caught.value.failures) == 1


def test_what_the_nodes_refuse() -> None:
    with pytest.raises(WireError):
        request_of_site(wire.encode_request(Request("[]", 1, "", 1.0, "fedmed")), "a")
    with pytest.raises(WireError):
        request_of_site(wire.encode_request(Request("{'", 1, "", 1.0, "fedmed")), "a")
    body = wire.encode_request(Request(json.dumps({"b": "{}"}), 1, "", 1.0, "fedmed"))
    with pytest.raises(NotAsked):
        answer_at_node({"site": "a", "fragments": "x"}, body)
    with pytest.raises(NoFragments):
        answer_at_node({"site": "b"}, body)
    with pytest.raises(NoSites):
        run(InProcessCourier({}), body)
