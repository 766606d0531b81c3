"""Who runs the hub hands out the nodes' keys: he cannot hand out one of his own for a site's."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from federated_analytics.errors import ConfigError, WireError
from federated_analytics.flame.carried_objects import CarriedHost, CarriedObjects, CarryingRouter
from federated_analytics.flame.encryption import NodeKey, binding, seal
from federated_analytics.flame.intermediate import IntermediateData
from federated_analytics.flame.local_storage import LocalStorage
from federated_analytics.flame.node_host import NodeSettings
from federated_analytics.flame.node_keys import (
    OtherSiteKey,
    SiteKeys,
    SubstitutedKey,
    UnknownSiteKey,
    pinned_keys,
)
from federated_analytics.flame.order import ScriptOrder
from federated_analytics.privacy.exchange import restrained
from federated_analytics.signing import SigningKey

NODES = {"a": "default", "b": "default", "hub": "aggregator"}
SITES = {"a": SigningKey.new(), "b": SigningKey.new()}
PINNED = {name: key.public.text for name, key in SITES.items()}
SECRET = b"of one site, for another"


class Dishonest(CarryingRouter):
    """A hub that names other keys than it was told."""

    def __init__(self, folder: Path, forged: dict[str, dict[str, str]]) -> None:
        super().__init__(NODES, folder, "run-1")
        self.forged = forged

    def bundle_for(self, node: str, max_bytes: int = 16_000_000) -> dict[str, Any]:
        found = super().bundle_for(node, max_bytes)
        letters = [
            [n, {**x, **self.forged.get(str(x.get("node")), {})} if x["kind"] == "partner" else x]
            for n, x in found["letters"]
        ]
        return {**found, "letters": letters}


class Two:
    """Nodes a and b over a hub that may lie about keys."""

    def __init__(
        self, folder: Path, forged: dict[str, dict[str, str]], pinned: dict[str, str] = PINNED
    ) -> None:
        self.router = Dishonest(folder / "hub", forged)
        self.hosts: dict[str, CarriedHost] = {}
        self.data: dict[str, IntermediateData] = {}
        for node, key in SITES.items():
            host = CarriedHost(
                NodeSettings(node, NODES, "run-1", "p"),
                folder / node,
                keys=SiteKeys("run-1", NODES, key, pinned),
            )
            self.hosts[node] = host
            local = LocalStorage(folder / f"{node}-store", "p")
            self.data[node] = IntermediateData(host, CarriedObjects(host), local)
        self.carry()
        self.carry()

    def carry(self) -> None:
        for node, host in self.hosts.items():
            self.router.receive(node, host.exchange(self.router.bundle_for(node)))
            host.exchange(self.router.bundle_for(node))

    def sealed(self) -> str:
        return self.data["a"].save_sealed(io.BytesIO(SECRET), ["b"], 2.0, False)["b"]["id"]


def test_what_one_site_seals_another_opens(tmp_path: Path) -> None:
    two = Two(tmp_path, {})
    id = two.sealed()
    two.carry()
    host = two.hosts["b"]
    host.post({"kind": "want", "id": id.partition("-")[0]})
    two.carry()
    two.carry()
    assert two.data["b"].open_global(id, "a").read() == SECRET


@pytest.mark.parametrize("voucher", ["", "00" * 64, "no hex", "of the hub's own site key"])
def test_a_key_of_the_hub_s_own_is_not_sealed_for(tmp_path: Path, voucher: str) -> None:
    """The attack: the server's operator answers for b, to read what a sends it."""
    hub = NodeKey.new()
    if voucher.startswith("of"):
        keys = SiteKeys("run-1", NODES, SigningKey.new(), {})
        voucher = keys.voucher("b", hub.public.hex())
    two = Two(tmp_path, {"b": {"public": hub.public.hex(), "voucher": voucher}})
    with pytest.raises(SubstitutedKey, match="b"):
        two.sealed()
    assert list((tmp_path / "hub").glob("[0-9a-f]*")) == []


def test_a_key_of_another_run_or_node_is_not_taken(tmp_path: Path) -> None:
    """A site's signature is of one key, for one node of one analysis: replays are nothing."""
    old = NodeKey.new().public.hex()
    for analysis, node in (("run-0", "b"), ("run-1", "a")):
        voucher = SiteKeys(analysis, NODES, SITES["b"], {}).voucher(node, old)
        two = Two(tmp_path / f"{analysis}{node}", {"b": {"public": old, "voucher": voucher}})
        with pytest.raises(SubstitutedKey):
            two.sealed()


def test_a_hub_cannot_write_in_a_site_s_name(tmp_path: Path) -> None:
    """It names its own key for a, and seals with it what b should take for a's."""
    hub = NodeKey.new()
    two = Two(tmp_path, {"a": {"public": hub.public.hex()}})
    out = io.BytesIO()
    bound = binding("run-1", "a", "b", "1" * 32)
    seal(io.BytesIO(b"forged"), out, NodeKey(two.hosts["b"].secret).public, hub, bound)
    (two.hosts["b"].objects / ("2" * 32)).write_bytes(out.getvalue())
    with pytest.raises(SubstitutedKey):
        two.data["b"].open_global(f"{'2' * 32}-{'1' * 32}", "a")


def test_a_site_whose_key_nobody_named_is_not_trusted(tmp_path: Path) -> None:
    with pytest.raises(UnknownSiteKey) as caught:
        Two(tmp_path, {}, pinned={}).sealed()
    assert "key trust" in caught.value.remedy
    assert "[[peer]]" in caught.value.remedy


def test_the_aggregator_s_key_is_the_hub_s_word(tmp_path: Path) -> None:
    """Its node runs at the hub: who runs it can read what is meant for it anyhow."""
    two = Two(tmp_path, {}, pinned={})
    aggregator = CarriedHost(NodeSettings("hub", NODES, "run-1", "p"), tmp_path / "aggregator")
    two.hosts["hub"] = aggregator
    two.carry()
    two.carry()
    found = two.data["a"].save_sealed(io.BytesIO(SECRET), ["hub"], 2.0, False)
    assert set(found) == {"hub"}


def test_the_operator_s_key_and_the_analyst_s_must_agree() -> None:
    other = SigningKey.new().public.text
    assert pinned_keys({"a": PINNED["a"]}, {"b": PINNED["b"]}) == PINNED
    assert pinned_keys(PINNED, PINNED) == PINNED
    with pytest.raises(OtherSiteKey, match="of b than"):
        pinned_keys(PINNED, {"b": other})


def test_an_order_s_keys_are_signed_with_it() -> None:
    plain = ScriptOrder("s.py", "x", NODES)
    pinned = ScriptOrder("s.py", "x", NODES, keys=PINNED)
    assert plain.digest != pinned.digest
    assert ScriptOrder.from_json(pinned.to_json()) == pinned
    with pytest.raises(WireError, match="no node"):
        ScriptOrder("s.py", "x", NODES, keys={"z": PINNED["a"]})
    with pytest.raises(ConfigError):
        ScriptOrder("s.py", "x", NODES, keys={"a": "ed25519:no"})


def test_a_strict_site_lets_nothing_but_a_key_and_its_voucher_leave() -> None:
    voucher = SiteKeys("run-1", NODES, SITES["a"], {}).voucher("a", "ab" * 32)
    letter = {"kind": "hello", "public": "ab" * 32, "voucher": voucher, "note": "87654321"}

    def left(letter: dict[str, str]) -> dict[str, Any]:
        return dict(restrained({"confirmed": 0, "letters": [[1, letter]]})["letters"][0][1])

    assert left(letter) == {"kind": "hello", "public": "ab" * 32, "voucher": voucher}
    for voucher in ("87654321", "x" * 128):
        assert left({**letter, "voucher": voucher}) == {"kind": "withheld"}
