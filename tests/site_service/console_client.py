"""A browser without a screen: cookies, forms and the tags of a page, on the standard library."""

from __future__ import annotations

import http.client
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlencode


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def form_token(self) -> str:
        found = re.search(r'name="form_token" value="([0-9a-f]{64})"', self.text)
        assert found is not None, self.text
        return found[1]


@dataclass
class Client:
    """A browser without a screen: keeps the cookie, sends forms."""

    port: int
    cookie: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, **headers: str) -> Reply:
        return self._ask("GET", path, None, headers)

    def post(self, path: str, form: dict[str, str], **headers: str) -> Reply:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._ask("POST", path, urlencode(form).encode(), kind | headers)

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        cookie = {"Cookie": self.cookie} if self.cookie else {}
        connection.request(method, path, body, self.headers | cookie | headers)
        response = connection.getresponse()
        reply = Reply(
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read().decode(),
        )
        connection.close()
        return reply

    def sign_in(self, token: str) -> Reply:
        reply = self.post("/console/login", {"token": token})
        self.cookie = reply.headers.get("set-cookie", "").split(";")[0]
        return reply

    def send(self, path: str, **form: str) -> Reply:
        """A form of a page, with the token that the page carries."""
        return self.post(path, form | {"form_token": self.get("/console").form_token})


@dataclass
class Clock:
    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


class Tags(HTMLParser):
    """The tags and attributes of a page, and the addresses that it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: set[str] = set()
        self.labelled: set[str] = set()
        self.fields: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        self.tags.add(tag)
        self.attributes |= set(facts)
        self.addresses |= {str(facts[n]) for n in ("href", "src", "action") if n in facts}
        if tag == "label":
            self.labelled.add(str(facts["for"]))
        if tag in ("input", "textarea") and facts.get("type") != "hidden":
            self.fields.append(facts)
