from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.e2e.page.conftest import Visit
from tests.e2e.page.views import ask_for_much, choose_image, open_tab, start
from tests.e2e.server import Server, eventually

LIMIT_S = 1.0


def _running(page: Page, server: Server) -> None:
    """A comparison that would go on for long."""
    choose_image(page)
    ask_for_much(page)
    start(page)
    eventually(lambda: server.gauge("num_requests_running") > 0, 10)


def test_closing_the_tab_frees_the_engine(visit: Visit, endless_server: Server) -> None:
    page = visit(endless_server).open()
    _running(page, endless_server)
    page.close()
    eventually(lambda: endless_server.gauge("num_requests_running") == 0, LIMIT_S)


def test_going_elsewhere_frees_the_engine(visit: Visit, endless_server: Server) -> None:
    page = visit(endless_server).open()
    _running(page, endless_server)
    page.reload()
    eventually(lambda: endless_server.gauge("num_requests_running") == 0, LIMIT_S)


def test_the_stop_button_frees_the_engine(visit: Visit, endless_server: Server) -> None:
    page = visit(endless_server).open()
    _running(page, endless_server)
    page.locator("#stop").click()
    eventually(lambda: endless_server.gauge("num_requests_running") == 0, LIMIT_S)
    expect(page.locator("#stop")).to_be_disabled()
    expect(page.locator("#start")).to_be_focused()  # not lost with the button


def test_closing_the_tab_ends_a_sweep(visit: Visit, endless_server: Server) -> None:
    page = visit(endless_server).open()
    choose_image(page)
    open_tab(page, "Sweep")
    page.locator("#sweep-start").click()
    eventually(lambda: endless_server.gauge("num_requests_running") > 0, 10)
    page.close()
    eventually(lambda: endless_server.gauge("num_requests_running") == 0, LIMIT_S)


def test_closing_the_tab_ends_an_answer_of_the_chat(visit: Visit, endless_server: Server) -> None:
    page = visit(endless_server).open()
    open_tab(page, "Chat")
    page.locator("#chat-question textarea").fill("Go on.")
    page.locator("#chat-send").click()
    eventually(lambda: endless_server.gauge("num_requests_running") > 0, 10)
    page.close()
    eventually(lambda: endless_server.gauge("num_requests_running") == 0, LIMIT_S)
