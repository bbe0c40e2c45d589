"""Debian's Chromium, driven from Python: visitors of the page, and a record of all they did.

Nothing outside the machine can be reached: every name but the server's address fails.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.e2e.server import Server

CHROMIUM = "TEST_CHROMIUM"
_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
# Frames drawn in software are slow on a small machine; the rest keeps Chromium itself quiet.
_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions"),
    *("--disable-background-networking", "--disable-component-update", "--no-first-run"),
    "--host-resolver-rules=MAP vlm.example.org 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_FAILED = "the page cannot be shown"
_UP_OR_NOT = re.compile(f"The page is at|{_FAILED}")
UP_S = 60.0
_LOCAL = ("data:", "blob:", "about:")
WIDE = {"width": 1280, "height": 900}
NARROW = {"width": 390, "height": 844}
PATIENCE_MS = 30_000  # no bar, but an end: the machine may be busy


def find_chromium() -> str | None:
    """The browser to drive: what TEST_CHROMIUM says, or the first that is installed."""
    asked = os.environ.get(CHROMIUM)
    return shutil.which(asked) if asked else next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser without windows."""
    path = find_chromium()
    assert path is not None, "there is no Chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page_serving(**settings: Any) -> Iterator[Server]:
    """A server whose page is up. Raises AssertionError with its log if that fails."""
    with Server(page=True, **settings) as server:
        found = server.wait_for_line(_UP_OR_NOT, UP_S)
        assert found[0] != _FAILED, server.log
        yield server


@dataclass
class Visitor:
    """One person with a browser of their own: nothing is shared with other visitors.

    requests: address of every request so far, of all tabs. faults: what went wrong in the page's
    scripts, or was refused by its policy. expected: the beginning of faults that a test causes.
    """

    context: BrowserContext
    base_url: str
    requests: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    expected: str | None = None

    def __post_init__(self) -> None:
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.context.on("weberror", lambda error: self.faults.append(str(error.error)))
        self.context.on("console", self._note_console)
        self.context.on("page", self._note_page)

    def open(self, address: str = "/") -> Page:
        """A new tab, once the live view stands."""
        page = self.context.new_page()
        page.goto(self.base_url + address)
        page.locator("#start").wait_for()
        page.wait_for_function("document.querySelector('#stage')?.hasChildNodes()")
        return page

    @property
    def foreign(self) -> list[str]:
        """Requests that left the server."""
        return [
            url
            for url in self.requests
            if not url.startswith((*_LOCAL, f"{self.base_url}/")) and url != self.base_url
        ]

    def check(self) -> None:
        """Raises AssertionError if anything went elsewhere or a script failed."""
        assert not self.foreign, f"requests left the server: {self.foreign}"
        known = self.expected
        faults = [f for f in self.faults if known is None or not f.startswith(known)]
        assert not faults, f"the page's scripts complained: {faults}"

    def _note_console(self, message: Any) -> None:
        if message.type == "error" or "Content Security Policy" in message.text:
            self.faults.append(message.text)

    def _note_page(self, page: Page) -> None:
        page.on("websocket", lambda socket: self.requests.append(socket.url))
