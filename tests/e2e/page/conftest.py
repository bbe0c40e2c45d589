"""A browser, visitors, and servers that have the page; without Chromium the tests are skipped, and
the run says so at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.e2e.page.browser import CHROMIUM, WIDE, Visitor, chromium, find_chromium, page_serving
from tests.e2e.server import Server

FOLDER = Path(__file__).parent
MISSING = "no Chromium is installed"
Visit = Callable[..., Visitor]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(FOLDER):
            item.add_marker(pytest.mark.browser)
            if find_chromium() is None:
                item.add_marker(pytest.mark.skip(reason=MISSING))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """The last words of a run that left these tests out."""
    yield
    report: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if report is None:
        return
    skipped = report.stats.get("skipped", [])
    if count := sum(MISSING in str(each.longrepr) for each in skipped):
        report.section("THE PAGE WAS NOT TESTED", sep="!", red=True, bold=True)
        report.write_line(
            f"Tests that drive a browser were skipped ({count}): {MISSING}. Install it (on Debian: "
            f"apt-get install chromium fonts-dejavu-core), or let {CHROMIUM} name one.",
            red=True,
        )


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    # Not for the whole session: while it runs, no other event loop can run in this thread.
    with chromium() as found:
        yield found


@pytest.fixture(scope="package")
def page_server() -> Iterator[Server]:
    """The embedded model with its page. Leave it without requests."""
    with page_serving() as server:
        yield server


@pytest.fixture(scope="package")
def endless_server(endless_checkpoint: Path) -> Iterator[Server]:
    """The same, but every answer goes on for ever, or to the most tokens. Leave it idle."""
    with page_serving(model=endless_checkpoint, max_running=4) as server:
        yield server


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """visit(server, **options of a browser context): a new visitor. At the end, checks that none of
    them reached anything but their server and that no script failed."""
    visitors: list[Visitor] = []

    def make(server: Server, **options: Any) -> Visitor:
        context = browser.new_context(**{"viewport": WIDE, **options})
        visitors.append(Visitor(context, server.base_url))
        return visitors[-1]

    yield make
    for visitor in visitors:
        visitor.context.close()
    for visitor in visitors:
        visitor.check()


@pytest.fixture
def page(visit: Visit, page_server: Server) -> Page:
    """A tab on the embedded model's page."""
    return visit(page_server).open()
