"""The views after the first one: sweep, chat, blind test."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.page.browser import Visitor
from tests.e2e.page.views import RUN_MS, choose_image, open_tab
from tests.e2e.server import Server

NUM_COMBINATIONS = 9
BEST = re.compile(r"threshold ([0-9.]+), block ([0-9]+)", re.IGNORECASE)


@pytest.fixture(scope="module")
def tab(browser: Browser, page_server: Server) -> Iterator[Page]:
    """One tab for all of these, as views share the image."""
    visitor = Visitor(browser.new_context(), page_server.base_url)
    page = visitor.open()
    choose_image(page)
    yield page
    visitor.context.close()
    visitor.check()


def test_a_sweep_marks_the_best_and_applies_it(tab: Page) -> None:
    open_tab(tab, "Sweep")
    tab.locator("#sweep-start").click()
    progress = tab.locator("#sweep-progress")
    expect(tab.locator("#sweep-stop")).to_be_enabled()
    expect(progress).to_contain_text(f"Done: {NUM_COMBINATIONS} of", timeout=RUN_MS)
    expect(tab.locator("#sweep-stop")).to_be_disabled()
    expect(tab.locator("#sweep-plot canvas, #sweep-plot svg.marks").first).to_be_visible()
    best = BEST.search(progress.inner_text().partition("Best:")[2])
    assert best is not None, progress.inner_text()
    tab.locator("#sweep-apply").click()
    open_tab(tab, "Compare")
    tab.get_by_role("button", name="Settings").first.click()
    expect(tab.locator("#threshold input[type=number]")).to_have_value(best[1])
    expect(tab.locator("#block input[type=number]")).to_have_value(best[2])


def test_a_chat_goes_on_and_answers_again_in_another_mode(tab: Page) -> None:
    open_tab(tab, "Chat")
    question, answers = tab.locator("#chat-question textarea"), tab.locator("#chat .bot.message")
    for number, words in enumerate(("Describe the image.", "How many objects are there?"), 1):
        question.fill(words)
        tab.locator("#chat-send").click()
        expect(answers).to_have_count(number, timeout=RUN_MS)
        expect(answers.nth(number - 1)).to_contain_text("tokens/s", timeout=RUN_MS)
        expect(question).to_have_value("")
    tab.locator("#chat-mode input").click()
    tab.get_by_role("option", name="Autoregressive").click()
    tab.locator("#chat-again").click()
    expect(answers.nth(1)).to_contain_text("Autoregressive", timeout=RUN_MS)
    expect(answers).to_have_count(2)
    expect(tab.locator("#chat-stop")).to_be_disabled()
    tab.locator("#chat-clear").click()
    expect(answers).to_have_count(0)


def test_a_blind_test_reveals_after_the_vote_and_gives_the_votes_away(
    tab: Page, tmp_path: Path
) -> None:
    open_tab(tab, "Blind test")
    tab.locator("#blind-start").click()
    vote = tab.locator("#blind-vote-2")
    expect(vote).to_be_enabled(timeout=RUN_MS)
    reveal = tab.locator("#blind-reveal")
    expect(reveal).not_to_contain_text("was")
    vote.click()
    expect(reveal).to_contain_text("A was")
    expect(reveal).to_contain_text("B was")
    with tab.expect_download() as download:
        tab.locator("#blind-export").click()
    download.value.save_as(tmp_path / "votes.csv")
    with (tmp_path / "votes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1
    assert rows[0]["question"] == "Describe the image."
