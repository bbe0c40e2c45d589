"""What the views after the first one do without an image, with a bad one, and while they write."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.page.conftest import Visit
from tests.e2e.page.views import RUN_MS, SHAPES, choose_image, open_tab
from tests.e2e.server import Server, eventually

VIEWS = {"Sweep": "sweep", "Chat": "chat", "Blind test": "blind"}
STOPPED_S = 1.0


def image_line(page: Page, view: str) -> None:
    """Open a view, and see that it says which image it takes."""
    open_tab(page, view)
    expect(page.locator(f"#{VIEWS[view]}-image")).to_be_visible()


def test_every_view_says_which_image_it_takes(page: Page) -> None:
    for view, name in VIEWS.items():
        image_line(page, view)
        expect(page.locator(f"#{name}-image")).to_contain_text("none yet")
    open_tab(page, "Compare")
    choose_image(page)
    for view, name in VIEWS.items():
        image_line(page, view)
        line = page.locator(f"#{name}-image")
        expect(line).to_contain_text(f"Image: {SHAPES.name}")
        assert line.locator("img").evaluate("picture => picture.decode().then(() => true)")
    open_tab(page, "Compare")
    page.get_by_label("Remove Image").click()
    open_tab(page, "Sweep")
    expect(page.locator("#sweep-image")).to_contain_text("none yet")


def test_without_an_image_the_first_example_is_taken(page: Page) -> None:
    image_line(page, "Chat")
    page.locator("#chat-question textarea").fill("Describe the image.")
    page.locator("#chat-send").click()
    expect(page.locator("#chat .user.message")).to_contain_text("[image 1] Describe")
    expect(page.locator("#chat-image img")).to_be_visible()
    expect(page.locator("#chat .bot.message")).to_contain_text("tokens/s", timeout=RUN_MS)
    open_tab(page, "Compare")
    expect(page.locator("#image img").first).to_be_visible()


@pytest.mark.parametrize(
    ("view", "button"),
    [("Sweep", "#sweep-start"), ("Blind test", "#blind-start"), ("Chat", "#chat-send")],
)
def test_a_bad_file_is_answered_with_a_sentence(
    page: Page, tmp_path: Path, view: str, button: str
) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"no picture at all" * 10)
    page.locator("#image input[type=file]").first.set_input_files(path)
    page.wait_for_function("() => vlmDlm.compare.image !== null || vlmDlm.compare.imageFailed")
    open_tab(page, view)
    expect(page.locator(f"#{VIEWS[view]}-image")).to_contain_text("Choose another one")
    if view == "Chat":
        page.locator("#chat-question textarea").fill("Describe the image.")
    page.locator(button).click()
    expect(page.locator(".toast-body")).to_contain_text("image", ignore_case=True)
    if view == "Sweep":
        expect(page.locator("#sweep-progress")).to_contain_text("Broke off before the first")


def test_a_file_that_never_came_is_answered_with_a_sentence(page: Page) -> None:
    page.evaluate("() => { vlmDlm.image.load = () => Promise.reject(new Error('gone')); }")
    page.evaluate("vlmDlm.compare.setImage({ url: '', orig_name: 'x' })")
    open_tab(page, "Blind test")
    expect(page.locator("#blind-image")).to_contain_text("could not be read")
    page.locator("#blind-start").click()
    expect(page.locator(".toast-body")).to_contain_text("The image could not be read; choose")


def test_the_chat_stops_and_keeps_what_is_typed(visit: Visit, endless_server: Server) -> None:
    page = visit(endless_server).open()
    open_tab(page, "Chat")
    question = page.locator("#chat-question textarea")
    question.fill("Describe the image.")
    page.locator("#chat-send").click()
    expect(question).to_have_value("")
    eventually(lambda: endless_server.gauge("num_requests_running") > 0, 10)
    expect(page.locator("#chat")).to_contain_text("writing")
    question.fill("And what")
    page.wait_for_timeout(500)  # several updates
    expect(question).to_have_value("And what")
    page.locator("#chat-stop").click()
    assert eventually(lambda: endless_server.gauge("num_requests_running") == 0, 5) < STOPPED_S
    expect(page.locator("#chat")).to_contain_text("stopped")
    expect(page.locator("#chat-stop")).to_be_disabled()
    expect(question).to_have_value("And what")


def test_about_tells_programs_what_to_call_and_its_links_work(page: Page) -> None:
    open_tab(page, "About")
    expect(page.get_by_text("For programs")).to_be_visible()
    link = page.get_by_role("link", name="/openapi.json").get_attribute("href")
    assert page.request.get(f"{page.url}{link}").json()["openapi"]
    assert page.locator("footer a:visible, footer button:visible").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_address_chooses_light_or_dark(visit: Visit, page_server: Server, theme: str) -> None:
    other = "dark" if theme == "light" else "light"
    page = visit(page_server, color_scheme=other).open(f"/?__theme={theme}")
    assert page.locator("body").evaluate("body => body.classList.contains('dark')") == (
        theme == "dark"
    )
