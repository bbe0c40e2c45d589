"""What a person does in Open WebUI, in a browser."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

PATIENCE_MS = 120_000.0  # its first start, on a busy machine


def sign_up(page: Page) -> None:
    """As the first visitor, who becomes its administrator."""
    page.get_by_text("Get started").click()
    page.locator("#name").fill("Ada")
    page.locator("#email").fill("ada@example.org")
    page.locator("#password").fill("correct horse battery 1")
    page.get_by_role("button", name="Create Admin Account").click()
    page.get_by_role("button", name="Okay, Let's Go!").click()


def choose(page: Page, *models: str) -> None:
    """These side by side, instead of the one that is chosen at first."""
    chosen = page.locator("#model-selector-model-button")
    first = chosen.inner_text().strip()
    chosen.click()
    page.get_by_role("button", name="Compare").click()
    for model in models:
        page.get_by_role("option", name=f"Select {model} model", exact=True).click()
    page.get_by_role("option", name=f"Select {first} model", exact=True).click()
    page.keyboard.press("Escape")
    expect(chosen).to_have_text(f"{models[0]} +{len(models) - 1}", timeout=PATIENCE_MS)


def upload(page: Page, picture: Path) -> None:
    page.locator("input[type=file]:not(#camera-input)").first.set_input_files(picture)
    expect(page.locator("#message-input-container img").first).to_be_visible(timeout=PATIENCE_MS)


def ask(page: Page, question: str, num_answers: int) -> list[str]:
    """The answers, once all of them stand."""
    page.locator("#chat-input").click()
    page.keyboard.type(question)
    page.keyboard.press("Enter")
    answers = page.locator(".chat-assistant")
    expect(answers).to_have_count(num_answers, timeout=PATIENCE_MS)
    done = page.get_by_role("button", name="Good Response")
    expect(done).to_have_count(num_answers, timeout=PATIENCE_MS)
    written = answers.locator(".markdown-prose")  # an error stands elsewhere
    expect(written).to_have_count(num_answers, timeout=PATIENCE_MS)
    return [text.strip() for text in written.all_inner_texts()]
