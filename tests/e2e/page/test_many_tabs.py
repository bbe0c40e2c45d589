from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.e2e.page.conftest import Visit
from tests.e2e.page.views import MODES, ask_for_much, choose_image, panel, start
from tests.e2e.server import Server, eventually

pytestmark = pytest.mark.alone

NUM_TABS = 20
MAX_LONG_MS = 200
OBSERVED_MS = 4000
OPEN_MS = 60_000
OBSERVE = """
window.longTasks = [];
new PerformanceObserver((list) => list.getEntries().forEach((e) => longTasks.push(e.duration)))
  .observe({ type: "longtask" });
"""
WRITING = "document.querySelectorAll('.vd-panel[data-state=writing]').length"


def test_four_canvases_run_smoothly_beside_nineteen_tabs(
    visit: Visit, endless_server: Server
) -> None:
    watched, *others = _tabs(visit, endless_server)
    assert len(others) == NUM_TABS - 1
    watched.bring_to_front()
    choose_image(watched)
    ask_for_much(watched, at_once=True)
    start(watched)
    watched.wait_for_function(f"() => {WRITING} === {len(MODES)}")
    watched.evaluate(OBSERVE)
    before = {mode: panel(watched, mode).locator(".vd-chip").inner_text() for mode in MODES}
    watched.wait_for_timeout(OBSERVED_MS)
    assert watched.evaluate(WRITING) == len(MODES), "the answers ended before the time was over"
    for mode, words in before.items():
        assert panel(watched, mode).locator(".vd-chip").inner_text() != words
    long = watched.evaluate("longTasks")
    watched.locator("#stop").click()
    eventually(lambda: endless_server.gauge("num_requests_running") == 0, 5)
    assert max(long, default=0) <= MAX_LONG_MS, long


def _tabs(visit: Visit, server: Server) -> list[Page]:
    """All tabs in one browser, which opens six connections to a server at once."""
    visitor = visit(server)
    tabs = [visitor.context.new_page() for _ in range(NUM_TABS)]
    for tab in tabs:
        tab.goto(server.base_url, wait_until="commit")
    for tab in tabs:
        tab.locator("#stage .vd-panel").first.wait_for(timeout=OPEN_MS)
    return tabs
