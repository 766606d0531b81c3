"""A script as it is asked for: what an approval is pinned to, and what a node is told."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tokenize
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from federated_analytics.errors import ConfigError, WireError
from federated_analytics.signing import PublicKey

MAX_SCRIPT_BYTES = 500_000
MAX_NODES = 1_000
_NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class ScriptOrder:
    """A script with all that decides what it does; two runs of one order are alike.

    Fields:
        name: of the script's file
        script: its text
        nodes: the type ("aggregator" | "default") of each node; the aggregator's worker runs
            beside the ServerApp, every other at the site of that name
        parameters: of the script, JSON values
        limit: seconds after which a node that still runs has failed
        keys: the sites' public keys as the analyst knows them, so that what one site's node
            encrypts for another's cannot be read by what carries it
        epsilon: what local_dp may spend in one run; each site charges it as the run begins
    """

    name: str
    script: str
    nodes: Mapping[str, str]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    limit: float = 3600.0
    keys: Mapping[str, str] = field(default_factory=dict)
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < len(self.script.encode()) <= MAX_SCRIPT_BYTES:
            raise WireError(f"A script has 1 to {MAX_SCRIPT_BYTES:,} bytes.", where="script")
        _check_encoding(self.script)
        if not 1 <= len(self.nodes) <= MAX_NODES or list(self.nodes.values()).count(
            "aggregator"
        ) != (1):
            raise WireError("An analysis has one aggregator among its nodes.", where="nodes")
        for node, type in self.nodes.items():
            if not _NODE_ID.fullmatch(node) or type not in ("aggregator", "default"):
                raise WireError(
                    f"{node[:60]!r} cannot be a node.",
                    where="nodes",
                    remedy="Use the sites' names: letters, digits, hyphens, dots, underscores.",
                )
        if not 0 < self.limit <= 30 * 86_400:
            raise WireError("The limit is 1 second to 30 days.", where="limit")
        if not set(self.keys) <= set(self.nodes):
            raise WireError("A key is of a site that is no node.", where="keys")
        for key in self.keys.values():
            PublicKey(key)
        if not 0 <= self.epsilon <= 100:
            raise WireError("Epsilon is 0 to 100.", where="epsilon")

    @property
    def aggregator(self) -> str:
        return next(node for node, type in self.nodes.items() if type == "aggregator")

    @property
    def data_nodes(self) -> list[str]:
        return [node for node, type in self.nodes.items() if type == "default"]

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical text: what a signature and an approval name it by."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote; WireError for anything else."""
        try:
            plain = json.loads(text)
            named = {"name", "script", "nodes", "parameters", "limit", "keys", "epsilon"}
            if not isinstance(plain, dict) or set(plain) != named:
                raise WireError("A script's order has other fields.")
            texts = (
                plain["name"],
                plain["script"],
                *plain["nodes"].values(),
                *plain["keys"].values(),
            )
            if not all(isinstance(t, str) for t in texts):
                raise WireError("A script's order has fields of another type.")
            numbers = {name: float(plain[name]) for name in ("limit", "epsilon")}
            return cls(**{**plain, **numbers})
        except (ValueError, TypeError, AttributeError, RecursionError, ConfigError) as error:
            raise WireError("The request holds no script's order.") from error


@dataclass(frozen=True)
class Pump:
    """One bundle on its way to a node of a running analysis.

    Fields:
        analysis: the run that the signed order began; whoever knows it is the hub
        bundle: see `letters`
        wait_seconds: how long the site may wait for something to send back
        stop: why the node is to end now; the hub itself says so by a letter
    """

    analysis: str
    bundle: Mapping[str, Any]
    wait_seconds: float = 0.0
    stop: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote; WireError for anything else."""
        try:
            plain = json.loads(text)
            bundle = plain["bundle"]
            letters = [[int(n), dict(letter)] for n, letter in bundle["letters"]]
            checked = {"confirmed": int(bundle["confirmed"]), "letters": letters}
            seconds = min(1.0, float(plain["wait_seconds"]))
            return cls(str(plain["analysis"]), checked, seconds, str(plain["stop"])[:200])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise WireError("The request holds no bundle.") from error


def _check_encoding(script: str) -> None:
    """WireError where Python would read another text than a person who approves the script.

    A declaration such as `# coding: utf-7` (PEP 263) turns comments into code.
    """
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(script.encode()).readline)
    except SyntaxError:
        encoding = ""
    if encoding not in ("utf-8", "utf-8-sig", "ascii"):
        raise WireError(
            "A script is read as UTF-8, whatever it declares.",
            where="script",
            remedy="Save it as UTF-8, and remove the `coding:` from its first lines.",
        )
