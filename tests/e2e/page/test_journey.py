"""A visitor's way through the first view, on the embedded model, in one tab."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.page.browser import Visitor
from tests.e2e.page.views import MODES, events, figures, panel, start, wait_until_done
from tests.e2e.server import Server

# Of the card, each with its field of the API's metrics.
FIGURES = (
    *("tokens_per_second", "tokens_per_forward", "num_forwards", "time_to_first_token_ms"),
    *("time_to_first_sentence_ms", "num_wasted_positions"),
    *("vision_time_ms", "prefill_time_ms", "decode_time_ms"),
)
_NUMBER = re.compile(r"([0-9,]+(?:\.([0-9]+))?)\s*(ms|s)?$")


@dataclass(frozen=True)
class Compared:
    """A tab in which a comparison has ended. results, summary: what the API said."""

    page: Page
    results: dict[str, Any]
    summary: dict[str, Any]


@pytest.fixture(scope="module")
def compared(browser: Browser, page_server: Server) -> Iterator[Compared]:
    visitor = Visitor(browser.new_context(accept_downloads=True), page_server.base_url)
    page = visitor.open()
    page.get_by_role("button", name="Shapes").click()
    page.locator("#image img").first.wait_for()
    with page.expect_response("**/v1/compare") as reply:
        start(page)
    wait_until_done(page)
    told = list(events(reply.value.text()))
    results = {data["mode"]: data for name, data in told if name == "result"}
    summary = next(data for name, data in told if name == "summary")
    yield Compared(page, results, summary)
    visitor.context.close()
    visitor.check()


def test_every_mode_answers(compared: Compared) -> None:
    assert set(compared.results) == set(MODES)
    for mode, result in compared.results.items():
        shown = panel(compared.page, mode).locator(".vd-committed").inner_text()
        assert shown.strip() == result["text"].strip()


@pytest.mark.parametrize("mode", MODES)
def test_the_card_holds_the_figures_of_the_api(compared: Compared, mode: str) -> None:
    shown, metrics = figures(compared.page, mode), compared.results[mode]["metrics"]
    for name in FIGURES:
        if metrics[name] is None:
            assert name not in shown
            continue
        value, text = shown[name]
        assert value == pytest.approx(metrics[name]), name
        written, precision = _read(text)
        assert abs(written - value) <= precision / 2 + 1e-9, f"{name}: {text} for {value}"


@pytest.mark.parametrize("mode", MODES[1:])
def test_the_badge_says_what_the_api_says(compared: Compared, mode: str) -> None:
    badge = panel(compared.page, mode).locator(".vd-badge")
    agreement = compared.summary["agreement"][mode]
    if agreement["is_identical"]:
        expect(badge).to_contain_text("identical to AR")
        return
    difference = agreement["first_difference"]
    expect(badge).to_contain_text(f"at token {difference['index'] + 1}")
    if difference["margin"] is not None:
        written, precision = _read(_after(badge.inner_text(), "logits are ").split(" ")[0])
        assert abs(written - difference["margin"]) <= precision / 2 + 1e-9


def test_the_charts_are_drawn(compared: Compared) -> None:
    charts = compared.page.locator("#charts")
    expect(charts).to_be_visible()
    expect(charts.locator("canvas, svg.marks")).to_have_count(3)


def test_the_colours_can_be_switched(compared: Compared) -> None:
    page = compared.page
    legend = page.locator("#stage .vd-legend").first
    seen: set[str] = set()
    for words in ("Step", "Confidence", "Origin"):
        page.locator(".vd-switch").get_by_text(words, exact=True).click()
        seen.add(legend.inner_text())
    assert len(seen) == 3


def test_a_token_tells_where_it_came_from(compared: Compared) -> None:
    page = compared.page
    token = panel(page, "linear_spec").locator(".vd-token").nth(2)
    token.hover()
    tip = page.get_by_role("tooltip")
    for words in ("step", "block", "confidence", "origin"):
        expect(tip).to_contain_text(words)


def test_differences_are_marked_where_there_are_any(compared: Compared) -> None:
    page = compared.page
    page.get_by_label("Show differences from AR").check()
    for mode, agreement in compared.summary["agreement"].items():
        marks = panel(page, mode).locator(".vd-added, .vd-lost").count()
        if mode != "ar":
            assert (marks > 0) == (not agreement["is_identical"]), mode
    page.get_by_label("Show differences from AR").uncheck()
    expect(page.locator(".vd-added, .vd-lost")).to_have_count(0)


def test_the_replay_scrubs(compared: Compared) -> None:
    _scrub(compared.page, {mode: r["num_tokens"] for mode, r in compared.results.items()})


def test_the_encoder_view_tells_the_size_and_the_cells(compared: Compared) -> None:
    view = compared.page.locator("#encoder")
    seen = compared.summary["images"][0]
    expect(view).to_contain_text(f"{seen['width']} × {seen['height']}")
    expect(view).to_contain_text(re.compile(rf"\b{seen['num_tokens']}\b"))
    expect(view.locator("canvas")).to_be_visible()


def test_the_report_opens_offline(compared: Compared, browser: Browser, tmp_path: Path) -> None:
    with compared.page.expect_download() as download:
        compared.page.get_by_role("button", name="Download report").click()
    path = tmp_path / "report.html"
    download.value.save_as(path)
    context = browser.new_context(offline=True)
    reader = Visitor(context, path.as_uri())
    page = context.new_page()
    page.goto(path.as_uri())
    for result in compared.results.values():
        expect(page.locator("body")).to_contain_text(result["text"].strip().split("\n")[0][:60])
    _scrub(page, {mode: result["num_tokens"] for mode, result in compared.results.items()})
    context.close()
    asked = [url for url in reader.requests if not url.startswith(("data:", "blob:"))]
    assert asked == [path.as_uri()]
    assert reader.faults == []


def test_the_json_twin_is_the_record(compared: Compared, tmp_path: Path) -> None:
    with compared.page.expect_download() as download:
        compared.page.get_by_role("button", name="Download JSON").click()
    download.value.save_as(tmp_path / "record.json")
    record = json.loads((tmp_path / "record.json").read_text("utf-8"))
    assert record["format"] == "vlm-dlm.comparison/1"
    assert record["mode_options"] == {}  # untouched controls: each mode takes what suits it
    for mode, result in compared.results.items():
        assert record["answers"][mode]["result"]["text"] == result["text"]
        assert len(record["answers"][mode]["tokens"]) == result["num_tokens"]


@pytest.mark.parametrize(
    ("button", "word"), [("Copy as curl", "curl"), ("Copy as Python", "import")]
)
def test_the_call_is_shown_as_code(compared: Compared, button: str, word: str) -> None:
    compared.page.get_by_role("button", name=button).click()
    expect(compared.page.locator(".share-code")).to_contain_text(word)


def _scrub(page: Page, num_tokens: dict[str, int]) -> None:
    """At the start nothing is there, at the end everything, in the middle something."""
    bar = page.get_by_label("Place in the replay")
    states = page.locator(".replay-state")
    total = sum(num_tokens.values())
    final = page.locator(".replay-text [data-state=final]")
    bar.press("Home")
    assert final.count() < total / 4
    for button in ("Forward passes", "Wall time"):
        page.get_by_role("button", name=button).click()
        box = bar.bounding_box()
        assert box is not None
        bar.click(position={"x": box["width"] / 2, "y": box["height"] / 2})
        assert 0 < final.count() < total
        bar.press("End")
        expect(final).to_have_count(total)
    for text in states.all_inner_texts():
        assert text.startswith("done: ")
    bar.press("Home")
    page.get_by_role("button", name="Play", exact=True).click()
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    bar.press("End")


def _read(text: str) -> tuple[float, float]:
    """The number at the end of a text, and the worth of its last digit; seconds as milliseconds."""
    found = _NUMBER.search(text.strip())
    assert found is not None, text
    scale = 1000.0 if found[3] == "s" else 1.0
    return float(found[1].replace(",", "")) * scale, scale * 10.0 ** -len(found[2] or "")


def _after(text: str, words: str) -> str:
    return text.partition(words)[2]
