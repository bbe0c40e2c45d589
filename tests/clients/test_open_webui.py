"""Open WebUI itself, with its default settings, in a browser; docs/clients.md starts it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page

from tests.clients import open_webui
from tests.clients.conftest import PICTURE, QUESTION
from tests.clients.environments import CLIENTS
from tests.clients.recipes import Kitchen
from tests.clients.test_recipes import BROWSED, COUNT
from tests.e2e.page.browser import chromium, find_chromium
from tests.e2e.server import Server, labelled, total

START_S = 400.0
MODES = ("ar", "linear_spec")


@pytest.fixture
def page(kitchen: Kitchen) -> Iterator[Page]:
    """Its first page, of a fresh installation."""
    if find_chromium() is None:
        pytest.skip("no Chromium is installed")
    address = f"http://127.0.0.1:{kitchen.port}"
    with kitchen.started(kitchen.examples[0]) as process, chromium() as browser:
        deadline = time.monotonic() + START_S
        while not is_up(address):
            assert process.poll() is None, kitchen.complaints()
            assert time.monotonic() < deadline, kitchen.complaints()
            time.sleep(1)
        with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
            context.set_default_timeout(open_webui.PATIENCE_MS)
            found = context.new_page()
            found.goto(address)
            yield found


def is_up(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=5).is_success
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    "client", [client for client in CLIENTS if client.name == BROWSED], ids=[BROWSED], indirect=True
)
def test_a_picture_in_two_modes_side_by_side(page: Page, server: Server) -> None:
    before = server.metrics()
    open_webui.sign_up(page)
    open_webui.choose(page, *(f"vlm-dlm:{mode}" for mode in MODES))
    open_webui.upload(page, PICTURE)
    first, second = open_webui.ask(page, QUESTION, len(MODES))
    # Its own lines about the file stand before the question, and the small model may answer those.
    assert first
    assert first == second, "the modes must agree"
    after = server.metrics()
    for mode in MODES:
        label = f'mode="{mode}"'
        assert labelled(after, COUNT, label) > labelled(before, COUNT, label), mode
    images = "image_encode_time_seconds_count"
    assert total(after, images) > total(before, images)
