from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.page.conftest import Visit
from tests.e2e.page.views import MODES, SHAPES, choose_image, panel, start, wait_until_done
from tests.e2e.server import Server

RAW = ("Traceback", "undefined", "[object", "Exception", "TypeError", "null")


@pytest.fixture
def page(visit: Visit, page_server: Server) -> Page:
    """As elsewhere, but requests may fail here."""
    visitor = visit(page_server)
    visitor.expected = "Failed to load resource"
    return visitor.open()


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Called a picture, and none."""
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"no picture at all" * 10)
    return path


def test_a_file_that_is_no_image_is_answered_with_a_sentence(page: Page, broken: Path) -> None:
    page.locator("#image input[type=file]").first.set_input_files(broken)
    page.wait_for_function("() => vlmDlm.compare.image !== null || vlmDlm.compare.imageFailed")
    start(page)
    _is_sentence(page, "image")
    choose_image(page, SHAPES)  # and the page goes on
    page.wait_for_function("() => vlmDlm.compare.image?.name === 'shapes.png'")
    start(page)
    wait_until_done(page)
    expect(page.locator(".vd-alert")).to_be_hidden()


def test_no_mode_and_no_question_are_answered_with_a_sentence(page: Page) -> None:
    boxes = page.locator("#modes input[type=checkbox]")
    for box in boxes.all():
        box.uncheck()
    start(page)
    _is_sentence(page, "mode")
    boxes.first.check()
    page.locator("#prompt textarea").fill("")
    start(page)
    _is_sentence(page, "question")


def test_a_server_that_is_gone_is_answered_with_a_sentence(page: Page) -> None:
    choose_image(page)
    start(page)
    wait_until_done(page)
    expect(page.locator("#replay")).to_be_visible()
    page.route("**/v1/compare", lambda route: route.abort())
    start(page)
    _is_sentence(page, "server")
    expect(panel(page, MODES[0])).to_have_attribute("data-state", "idle")
    for of_earlier in ("#replay", "#share", "#charts"):
        expect(page.locator(of_earlier)).to_be_hidden()


def _is_sentence(page: Page, word: str) -> None:
    """What the page says is for people, and says what it is about."""
    alert = page.locator(".vd-alert")
    expect(alert).to_be_visible()
    expect(alert).to_contain_text(word, ignore_case=True)
    text = alert.inner_text().strip()
    assert text[0].isupper(), text
    assert text.endswith((".", "?")), text
    assert not any(raw in text for raw in RAW), text
