"""A site service in a process of its own, with answers that a test chooses by what it sends.

`python -m tests.site_service.fake_service '{"address": "unix:…", …}'` serves; `running` starts it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federated_analytics import wire
from federated_analytics.messages import Refusal
from federated_analytics.privacy.policy import Policy, refuse

ROOT = Path(__file__).parents[2]


def refusal(code: str) -> bytes:
    return wire.encode_release(
        refuse(Refusal(code, "", "m", "r"), site="s", study="", round=0, version="1")
    )


RELEASE = wire.encode_release(Policy().introduce(site="s", version="1"))


@dataclass(frozen=True)
class FakeAnswers:
    """`sleep 0.5` takes half a second, `peer` says who asked, `fail` raises."""

    def answer(self, body: bytes, *, peer: str) -> bytes:
        word, _, argument = body[:40].decode("latin-1").partition(" ")
        if word == "sleep":
            time.sleep(float(argument))
        if word == "fail":
            raise RuntimeError("secret 4711")
        if word == "peer":
            return peer.encode()
        return refusal("budget_spent") if word == "refuse" else RELEASE

    def busy(self) -> bytes:
        return refusal("site_busy")

    def info(self) -> Mapping[str, Any]:
        return {"site": "s", "minimum_count": 5}

    def counts(self) -> Mapping[str, int]:
        return {"working": 1, "waiting": 0}

    def stop(self, seconds: float) -> None:
        print(f"stopped {seconds > 0}", flush=True)


@dataclass
class Running:
    """A service that runs, and its log."""

    process: subprocess.Popen[str]
    address: str
    log: Path

    @property
    def path(self) -> str:
        return self.address.removeprefix("unix:")

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def stop(self, number: int = signal.SIGTERM, seconds: float = 20) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)


@contextlib.contextmanager
def running(folder: Path, **options: Any) -> Iterator[Running]:
    """Start a service in `folder`, wait until it is ready, and end it afterwards."""
    options.setdefault("address", f"unix:{folder / 'site.sock'}")
    log = folder / f"service-{time.monotonic_ns()}.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.site_service.fake_service", json.dumps(options)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n", log.read_text()
        yield Running(process, options["address"], log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        process.stdout.close()


def raw(path: str, data: bytes = b"", seconds: float = 5) -> socket.socket:
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    opened.settimeout(seconds)
    opened.connect(path)
    opened.sendall(data)
    return opened


def said_to(path: str, data: bytes) -> bytes:
    """Everything that the service says to these bytes."""
    said = b""
    with raw(path, data) as opened:
        while piece := opened.recv(65_536):
            said += piece
    return said


def get(path: str, address: str, method: str = "GET") -> tuple[int, str]:
    head = f"{method} {address} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    said = said_to(path, head.encode())
    head, _, body = said.decode().partition("\r\n\r\n")
    return int(head.split()[1]), body


def until(true: Callable[[], bool], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)


def post(headers: str, body: bytes = b"") -> bytes:
    return (
        b"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
        + headers.encode()
        + b"\r\n\r\n"
        + body
    )


def main(options: dict[str, Any]) -> None:
    from federated_analytics.site_service.address import Address
    from federated_analytics.site_service.limits import Limits
    from federated_analytics.site_service.server import serve

    serve(
        FakeAnswers(),
        Address.parse(options["address"], options.get("token_file", "")),
        users=options.get("users", ()),
        limits=Limits(**options.get("limits", {})),
        on_ready=lambda: print("ready", flush=True),
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
