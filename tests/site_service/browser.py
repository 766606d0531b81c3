"""Headless Chromium over its debugging pipe, with the standard library alone.

Protocol: https://chromedevtools.github.io/devtools-protocol/ (messages end with a NUL byte).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SECONDS = 30.0
KEYS = {"Enter": ("Enter", 13, "\r"), "Tab": ("Tab", 9, ""), " ": ("Space", 32, " ")}


@dataclass
class Browser:
    """One page of one browser."""

    to: int
    back: int
    session: str = ""
    requested: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    _number: int = 0
    _rest: bytes = b""
    _loaded: bool = False

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(time.monotonic() + SECONDS)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, url: str) -> None:
        self._loaded = False
        self.call("Page.navigate", url=url)
        self.loaded()

    def loaded(self) -> None:
        until = time.monotonic() + SECONDS
        while not self._loaded:
            self._next(until)

    def value(self, expression: str) -> Any:
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str, loads: bool = False) -> None:
        self._loaded = not loads
        code, number, text = KEYS[key]
        event = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)
        self.loaded()

    def write(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def focused(self) -> str:
        """What the keyboard stands on: its id, or its words."""
        return str(
            self.value(
                "document.activeElement.id || document.activeElement.innerText "
                "|| document.activeElement.tagName"
            )
        ).strip()

    def wait_for_focus(self, words: str) -> None:
        """Until autofocus, which comes with the first drawing after loading, is on this."""
        until = time.monotonic() + SECONDS
        while self.focused() != words:
            assert time.monotonic() < until, f"the focus is on {self.focused()!r}"
            time.sleep(0.02)

    def tab_to(self, words: str) -> None:
        """Presses Tab until the focus is on the element with this id, or with these words."""
        for _ in range(60):
            self.press("Tab")
            if self.focused() == words:
                return
        raise AssertionError(f"the keyboard does not reach {words!r}")

    def size(self, width: int, height: int, dark: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self.back], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self.back, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        line, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, facts: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            self.requested.append(facts["request"]["url"])
        elif method == "Log.entryAdded":
            self.said.append(facts["entry"]["text"])
        elif method in ("Runtime.exceptionThrown", "Page.javascriptDialogOpening"):
            self.said.append(method)


@contextlib.contextmanager
def browsing(folder: Path, script: bool = True) -> Iterator[Browser]:
    """A browser with a fresh profile; `script=False`: pages run no JavaScript."""
    assert CHROMIUM is not None
    read_to, to = os.pipe()
    back, write_back = os.pipe()
    # Chromium reads its orders from descriptor 3 and answers on 4.
    line = 'exec "$0" "$@" 3<&%d 4>&%d' % (read_to, write_back)  # noqa: UP031
    process = subprocess.Popen(
        ["bash", "-c", line, CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu",
         "--disable-dev-shm-usage", "--remote-debugging-pipe", "--no-first-run",
         f"--user-data-dir={folder}", "about:blank"],
        pass_fds=(read_to, write_back),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(read_to)
    os.close(write_back)
    try:
        browser = Browser(to, back)
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        browser.session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            browser.call(f"{domain}.enable")
        browser.call("Emulation.setFocusEmulationEnabled", enabled=True)
        if not script:
            browser.call("Emulation.setScriptExecutionDisabled", value=True)
        yield browser
    finally:
        process.terminate()
        process.wait(SECONDS)
        os.close(to)
        os.close(back)
