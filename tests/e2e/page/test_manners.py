from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.page.browser import NARROW
from tests.e2e.page.conftest import Visit
from tests.e2e.page.legible import faint_texts
from tests.e2e.page.views import (
    TABS,
    ask_for_much,
    choose_image,
    nameless,
    open_tab,
    start,
    wait_until_done,
)
from tests.e2e.server import Server, eventually

OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
MAX_STOPS = 80
# One of each kind, whatever the answers were.
ALL_BADGES = """document.querySelectorAll('.vd-badge').forEach((badge, i) => {
  badge.dataset.kind = ['reference', 'identical', 'differs', 'approximate'][i];
})"""


def test_every_control_has_a_name(page: Page) -> None:
    found: dict[str, list[str]] = {}
    for tab in TABS:
        open_tab(page, tab)
        found[tab] = nameless(page)
    assert found == {tab: [] for tab in TABS}


def test_a_narrow_window_needs_no_sideways_scrolling(visit: Visit, page_server: Server) -> None:
    page = visit(page_server, viewport=NARROW, has_touch=True).open()
    choose_image(page)
    start(page)
    wait_until_done(page)
    too_wide: dict[str, int] = {}
    for tab in TABS:
        open_tab(page, tab)
        too_wide[tab] = page.evaluate(OVERFLOW)
    assert max(too_wide.values()) <= 0, too_wide
    expect(page.get_by_label("More tabs")).to_be_hidden()


def test_the_keyboard_alone_starts_and_stops(visit: Visit, endless_server: Server) -> None:
    page = visit(endless_server).open()
    choose_image(page)
    ask_for_much(page)
    page.locator("body").press("Home")
    _tab_to(page, "start")
    page.keyboard.press("Enter")
    eventually(lambda: endless_server.gauge("num_requests_running") > 0, 10)
    _tab_to(page, "stop")
    page.keyboard.press("Enter")
    eventually(lambda: endless_server.gauge("num_requests_running") == 0, 2)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_is_legible_in_light_and_dark(
    visit: Visit, page_server: Server, scheme: str
) -> None:
    page = visit(page_server, color_scheme=scheme, reduced_motion="reduce").open()
    background = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g).map(Number)"
    )
    assert (sum(background[:3]) < 200) == (scheme == "dark")
    choose_image(page)
    start(page)
    wait_until_done(page)
    page.mouse.move(0, 0)
    page.evaluate(ALL_BADGES)
    faint = set(faint_texts(page))
    for words in ("Step", "Confidence"):
        page.locator(".vd-switch").get_by_text(words, exact=True).click()
        faint.update(faint_texts(page))
    for tab in TABS[1:]:
        open_tab(page, tab)
        faint.update(faint_texts(page))
    assert not faint


def _tab_to(page: Page, element_id: str) -> None:
    """Press Tab until the part has the focus."""
    for _ in range(MAX_STOPS):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == element_id:
            return
    raise AssertionError(f"{MAX_STOPS} presses of Tab never reached {element_id}")
