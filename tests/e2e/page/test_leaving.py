from __future__ import annotations

from playwright.sync_api import Page

from tests.e2e.page.conftest import Visit
from tests.e2e.page.views import choose_image, start
from tests.e2e.server import Server, eventually

LIMIT_S = 1.0


def _running(page: Page, server: Server) -> None:
    """A comparison that would go on for long."""
    choose_image(page)
    start(page)
    eventually(lambda: server.gauge("num_requests_running") > 0, 10)


def test_closing_the_tab_frees_the_engine(visit: Visit, slow_server: Server) -> None:
    page = visit(slow_server).open()
    _running(page, slow_server)
    page.close()
    eventually(lambda: slow_server.gauge("num_requests_running") == 0, LIMIT_S)


def test_going_elsewhere_frees_the_engine(visit: Visit, slow_server: Server) -> None:
    page = visit(slow_server).open()
    _running(page, slow_server)
    page.reload()
    eventually(lambda: slow_server.gauge("num_requests_running") == 0, LIMIT_S)


def test_the_stop_button_frees_the_engine(visit: Visit, slow_server: Server) -> None:
    page = visit(slow_server).open()
    _running(page, slow_server)
    page.locator("#stop").click()
    eventually(lambda: slow_server.gauge("num_requests_running") == 0, LIMIT_S)
