"""The console in headless Chromium: by keyboard, without JavaScript, on a phone, in the dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from federated_analytics.site_service.console.serving import console_running, login_address
from federated_analytics.site_service.console.sessions import Sessions
from federated_analytics.site_service.console.state import ConsoleState
from tests.site_service.browser import CHROMIUM, Browser, browsing
from tests.site_service.console_sample import ASKED, HOSTILE, sample

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]


@pytest.fixture
def state(tmp_path: Path) -> ConsoleState:
    state = sample(tmp_path / "state")
    state.approvals.ask(ASKED)
    return state


@pytest.fixture
def console(state: ConsoleState) -> Iterator[str]:
    sessions = Sessions()
    with console_running(state, sessions) as port:
        yield login_address(port, sessions)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with browsing(tmp_path / "profile") as browser:
        yield browser


def _sign_in(browser: Browser, console: str) -> str:
    browser.open(console)
    browser.wait_for_focus("Open the console")
    browser.press("Enter", loads=True)
    assert browser.value("document.querySelector('h1').innerText") == "Pending studies"
    return console.split("/login")[0]


def test_a_study_is_decided_by_keyboard_alone(
    browser: Browser, console: str, state: ConsoleState
) -> None:
    _sign_in(browser, console)
    browser.press("Tab")
    assert browser.focused() == "Skip to the content"
    assert browser.value("document.activeElement.getBoundingClientRect().left") >= 0
    browser.tab_to(ASKED.study_name)
    assert browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter", loads=True)
    browser.tab_to("reason")
    browser.write("No ethics approval.")
    browser.tab_to("Refuse")
    browser.press("Enter", loads=True)
    assert state.approvals.find(ASKED.fingerprint).reason == "No ethics approval."
    assert "refused" in browser.value("document.querySelector('[role=status]').innerText")


def test_it_works_without_javascript(tmp_path: Path, console: str, state: ConsoleState) -> None:
    with browsing(tmp_path / "profile", script=False) as browser:
        browser.open(console)
        browser.wait_for_focus("Open the console")
        browser.press("Enter", loads=True)
        browser.open(f"{console.split('/login')[0]}/studies/{ASKED.fingerprint}")
        browser.tab_to("Approve")
        browser.press("Enter", loads=True)
    assert state.approvals.find(ASKED.fingerprint).state == "approved"


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, False), (320, True)])
def test_pages_fit_the_screen_and_load_nothing_else(
    browser: Browser, console: str, state: ConsoleState, width: int, dark: bool
) -> None:
    state.approvals.ask(HOSTILE)
    browser.size(width, 844, dark)
    base = _sign_in(browser, console)
    studies = [f"/studies/{asked.fingerprint}" for asked in (ASKED, HOSTILE)]
    for path in ("", "/decided", "/ledger", "/audit?verify=true", "/policy", *studies):
        browser.open(base + path)
        assert browser.value("document.documentElement.scrollWidth") <= width, path
        ground = browser.value("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(15, 20, 25)" if dark else "rgb(245, 247, 249)"), path
    assert browser.said == [], "no script ran, and nothing was blocked that the page needs"
    origin = base.removesuffix("/console")
    assert all(url.startswith((origin, "about:")) for url in browser.requested)


def test_a_button_is_as_large_as_a_thumb(browser: Browser, console: str) -> None:
    browser.size(390, 844)
    base = _sign_in(browser, console)
    browser.open(f"{base}/studies/{ASKED.fingerprint}")
    heights = browser.value(
        "[...document.querySelectorAll('main button, .choice')].map(e => e.offsetHeight)"
    )
    assert len(heights) == 4
    assert min(heights) >= 44
