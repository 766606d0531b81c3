"""What a ClientApp says when its site cannot answer: a code and a remedy, none of the cause."""

from __future__ import annotations

import socket
import time
import zlib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from federated_analytics import execution, wire
from federated_analytics.couriers import BODY, RELEASE, REQUEST, InProcessCourier
from federated_analytics.errors import TooFewSites
from federated_analytics.federation import Terms, run_study
from federated_analytics.messages import Disclosure, Request
from federated_analytics.site import Site, answer
from federated_analytics.study import Study
from tests import pooled
from tests.sites import ask, load, sites

SECRET = "secret password"
STUDY = Study.parse('[study]\nname = "x"\n[[analysis]]\nkind = "summary"\nfeatures = ["age"]\n')


@pytest.fixture(scope="module")
def site(database: str) -> Site:
    tables = pooled.random_tables(3, 50)
    load(database, "cdm", {**tables, **pooled.concept_tables()})
    return sites(database, ["cdm"])[0]


def request(seconds: float = 30) -> bytes:
    return wire.encode_request(Request(STUDY.to_json(), 1, "r", seconds))


def told(body: bytes) -> tuple[str, Disclosure]:
    """Every character of a release, and what it says."""
    return zlib.decompress(body).decode(), wire.decode_release(body)


@pytest.mark.parametrize("error", [ValueError(SECRET), KeyError(SECRET), RecursionError(SECRET)])
def test_an_exceptions_own_text_never_leaves(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: Any) -> None:
        raise error

    monkeypatch.setattr(execution, "evidence", broken)
    text, disclosure = told(site.answer(request()))
    assert disclosure.refusal is not None
    assert disclosure.refusal.code == "site_failed"
    assert disclosure.refusal.remedy
    assert "secret" not in text

    with pytest.raises(TooFewSites) as caught:
        ask(STUDY, [site])
    assert "site_failed" in str(caught.value)
    assert "secret" not in repr(caught.value) + str(caught.value)


def test_a_databases_own_text_never_leaves(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlalchemy as sa

    def broken(connection: sa.Connection, *_: Any, **__: Any) -> None:
        connection.execute(sa.text(f"SELECT '{SECRET}'::integer"))

    monkeypatch.setattr(execution, "evidence", broken)
    text, disclosure = told(site.answer(request()))
    assert disclosure.refusal is not None
    assert disclosure.refusal.code == "not_numeric"
    for word in ("secret", "integer", "SELECT", "psycopg", "127.0.0.1"):
        assert word not in text


def test_a_locked_table_is_a_timeout(site: Site, database: str) -> None:
    started = time.monotonic()
    with psycopg.connect(database) as connection:
        connection.execute("LOCK TABLE cdm.person IN ACCESS EXCLUSIVE MODE")
        _, disclosure = told(site.answer(request(seconds=1.5)))
    assert disclosure.refusal is not None
    assert disclosure.refusal.code == "database_timeout"
    assert time.monotonic() - started < 6


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("seconds", [1.5, 3.0])
def test_a_database_that_accepts_and_says_nothing(silent_port: int, seconds: float) -> None:
    config = {"db-url": f"postgresql://u:{SECRET.replace(' ', '')}@127.0.0.1:{silent_port}/db"}
    started = time.monotonic()
    text, disclosure = told(answer(config, request(seconds)))
    assert time.monotonic() - started < seconds + 4
    assert disclosure.refusal is not None
    assert disclosure.refusal.code in ("database_unreachable", "database_timeout")
    assert "secret" not in text
    assert str(silent_port) not in text


@pytest.mark.parametrize("body", [b"", b"{}", request()[:-2], b"\0" * 100_000])
def test_what_is_no_request_is_refused(site: Site, body: bytes) -> None:
    _, disclosure = told(site.answer(body))
    assert disclosure.refusal is not None
    assert disclosure.refusal.code == "invalid_message"


@pytest.mark.parametrize(
    ("config", "code", "word"),
    [
        ({}, "invalid_config", "db-port"),
        ({"db-prot": 5433}, "invalid_config", "db-port"),
        ({"db-port": "5433x"}, "invalid_config", "port"),
        ({"db-port": 5433, "db-url": "postgresql://h/d"}, "invalid_config", "Give one"),
        ({"db-url": f"oracle://u:{SECRET}@h/d"}, "invalid_config", "postgresql://"),
        ({"db-url-env": "NO_SUCH_VARIABLE"}, "invalid_config", "environment"),
        ({"db-url-file": "/no/such/file"}, "invalid_config", "cannot be read"),
        ({"db-port": 5433, "policy": "/no/such/policy.toml"}, "invalid_policy", "policy"),
    ],
)
def test_a_node_config_that_cannot_be_used(config: dict[str, Any], code: str, word: str) -> None:
    text, disclosure = told(answer({"site": "hospital-a", **config}, request()))
    assert disclosure.site == "hospital-a"
    assert disclosure.refusal is not None
    assert disclosure.refusal.code == code
    assert word in disclosure.refusal.message + disclosure.refusal.remedy
    assert "secret" not in text


def test_a_simulated_node_reads_the_database_of_its_number() -> None:
    config = {"partition-id": 1, "num-partitions": 2}
    assert Site.from_node_config(config).url.port == 5434


def test_the_clientapp_carries_bytes_and_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr.app import ConfigRecord, Context, Message, RecordDict
    from flwr.supercore.task_identity import TaskIdentity

    from federated_analytics.client_app import app

    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    for content in (
        RecordDict(),
        RecordDict({REQUEST: ConfigRecord()}),
        RecordDict({REQUEST: ConfigRecord({BODY: "text"})}),
        RecordDict({REQUEST: ConfigRecord({BODY: b"garbage"})}),
    ):
        asked = Message(content, message_type="query", dst_node_id=1)
        asked.metadata.__dict__["_message_id"] = "m"
        context = Context(1, 1, {"db-port": 1, "site": "hospital-a"}, RecordDict(), {})
        reply = app(asked, context)
        body = reply.content.config_records[RELEASE][BODY]
        assert isinstance(body, bytes)
        refusal = wire.decode_release(body).refusal
        assert refusal is not None
        assert refusal.code == "invalid_message"


def test_the_study_goes_on_without_the_site_that_failed(site: Site) -> None:
    def broken(body: bytes) -> bytes:
        return answer({"db-url": "postgresql://u@127.0.0.1:1/d", "site": "b"}, body)

    courier = InProcessCourier({"a": site.answer, "b": broken})
    result = run_study(STUDY, courier, Terms(1, 30))
    rows = result.select(result_type="participation", cdm_name="b").rows
    assert {r.estimate_name: r.estimate_value for r in rows}["code"] == "database_unreachable"
    assert result.select(result_type="summary", cdm_name="pooled").rows
