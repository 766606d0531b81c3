"""The original FedMed's approach, written anew: one request an operation, loops over lists.

An element-wise operation makes a new list at the server and answers with its name; a reduction
loops over a list. The client holds one name a server and asks one server after the other.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def _pow(a: Any, b: Any) -> Any:
    return a**b


def _mul(a: Any, b: Any) -> Any:
    return a * b


def _eq(a: Any, b: Any) -> Any:
    return a == b


def _gt(a: Any, b: Any) -> Any:
    return a > b


_BINARY: dict[str, Callable[[Any, Any], Any]] = {"pow": _pow, "mul": _mul, "eq": _eq, "gt": _gt}
"""One call for each element, as the original's operators are."""


@dataclass
class LoopingServer:
    """Lists by name; every operation on one is a request of its own."""

    lists: dict[str, list[Any]]
    requests: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, method: str, name: str, other: Any) -> Any:
        with self._lock:
            self.requests += 1
            values = self.lists[name]
            if method in _BINARY:
                operation = _BINARY[method]
                by = self.lists[other["name"]] if isinstance(other, dict) else None
                if by is None:
                    made = [operation(value, other) for value in values]
                else:
                    made = [operation(a, b) for a, b in zip(values, by, strict=True)]
                made_name = f"{method}({name}, {other})"
                self.lists[made_name] = made
                return made_name
            return self._reduced(method, values)

    def _reduced(self, method: str, values: list[Any]) -> Any:
        if method == "sum":
            total = 0
            for value in values:
                total += value
            return total
        if method == "len":
            return len(values)
        found = set()
        for value in values:
            found.add(value)
        return sorted(found)

    @contextmanager
    def serving(self) -> Iterator[int]:
        """The port at which it answers."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                body = json.dumps(server.answer(**asked)).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        try:
            yield http.server_address[1]
        finally:
            http.shutdown()
            http.server_close()


@dataclass(frozen=True)
class LoopingData:
    """One list at each server."""

    client: Any
    ports: Sequence[int]
    names: Sequence[str]

    def _each(self, method: str, others: Sequence[Any]) -> list[Any]:
        found = []
        for port, name, other in zip(self.ports, self.names, others, strict=True):
            body = {"method": method, "name": name, "other": other}
            found.append(self.client.post(f"http://127.0.0.1:{port}/", json=body).json())
        return found

    def apply(self, method: str, other: Any) -> LoopingData:
        if isinstance(other, LoopingData):
            others: list[Any] = [{"name": name} for name in other.names]
        else:
            others = [other] * len(self.ports)
        return LoopingData(self.client, self.ports, self._each(method, others))

    def total(self) -> float:
        return sum(self._each("sum", [None] * len(self.ports)))

    def rows(self) -> int:
        return sum(self._each("len", [None] * len(self.ports)))

    def levels(self) -> list[Any]:
        found = self._each("set", [None] * len(self.ports))
        return sorted({level for levels in found for level in levels})

    def mean(self) -> float:
        return self.total() / self.rows()

    def std(self) -> float:
        """From sums of squares, as the original computes it."""
        n, total = self.rows(), self.total()
        return float((self.apply("pow", 2).total() / n - (total / n) ** 2) ** 0.5)

    def mean_by(self, by: LoopingData) -> dict[Any, float]:
        """The original has no group-by: a mask a level, and the products with it."""
        found = {}
        for level in by.levels():
            mask = by.apply("eq", level)
            found[level] = self.apply("mul", mask).total() / mask.total()
        return found
