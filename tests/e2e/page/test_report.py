"""What a visitor takes away: a report that needs no network, code that runs, a link that works."""

from __future__ import annotations

import base64
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from app.page.report import build_report
from tests.e2e.page.browser import NARROW, PATIENCE_MS, WIDE
from tests.e2e.page.conftest import Visit
from tests.e2e.page.views import SHAPES, choose_image, start
from tests.e2e.server import Server
from tests.unit.app.page_records import AR_TEXT, make_record
from tests.unit.app.test_page_report import HOSTILE, hostile_record

ANSWER = "".join(AR_TEXT)
RECORD = "window.vlmDlm.compare.record"


def picture() -> str:
    """An example as a data URI."""
    return "data:image/png;base64," + base64.b64encode(SHAPES.read_bytes()).decode()


@dataclass
class Reader:
    """Someone who opens reports without a network."""

    browser: Browser
    folder: Path
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    requests: list[str] = field(default_factory=list[str])
    faults: list[str] = field(default_factory=list[str])

    def open(self, html: str) -> Page:
        """The report from a file."""
        path = self.folder / "report.html"
        path.write_text(html, encoding="utf-8")
        context = self.browser.new_context(offline=True, **{"viewport": WIDE, **self.options})
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda message: self.faults.append(message.text))
        page.on("dialog", lambda dialog: self._dismiss(dialog))
        page.goto(path.as_uri())
        expect(page.locator("#replay")).to_be_visible()
        return page

    def check(self) -> None:
        """Raises AssertionError if it asked for anything but itself, or a script complained."""
        own = (self.folder / "report.html").as_uri()
        others = [url for url in self.requests if url != own and not url.startswith("data:")]
        assert not others, f"the report asked for {others}"
        assert not self.faults, f"the report complained: {self.faults}"

    def _dismiss(self, dialog: Any) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()


@pytest.fixture
def reader(browser: Browser, tmp_path: Path) -> Iterator[Reader]:
    found = Reader(browser, tmp_path)
    yield found
    found.check()


def bar_of(page: Page) -> Locator:
    return page.get_by_role("slider", name="Place in the replay")


def states(page: Page, mode: int) -> list[str]:
    """State of every token of one mode."""
    panel = page.locator(".replay-panel").nth(mode)
    return panel.locator(".vd-token").evaluate_all("all => all.map((each) => each.dataset.state)")


def move_to(page: Page, place: float) -> None:
    """As if dragged there."""
    bar_of(page).evaluate(
        "(bar, place) => { bar.value = place; bar.dispatchEvent(new Event('input')); }", place
    )


def test_a_report_opens_without_a_network_and_shows_everything(reader: Reader) -> None:
    page = reader.open(build_report(make_record(), picture()))

    assert page.locator(".answer").all_inner_texts() == [ANSWER, ANSWER]
    natural = page.locator("img.given").evaluate("image => image.naturalWidth")
    assert natural > 0
    assert page.locator("svg.chart").count() == 3
    expect(page.locator("canvas")).to_be_visible()


def test_the_replay_shows_final_pending_and_masked_tokens(reader: Reader) -> None:
    page = reader.open(build_report(make_record(), None))
    assert set(states(page, 0) + states(page, 1)) == {"final"}

    move_to(page, 30)  # ms after the prompt: three tokens of `ar`, a block in its second forward

    assert states(page, 0) == ["final"] * 3 + ["mask"] + ["later"] * 5
    assert states(page, 1) == ["pending", "pending", "mask", "pending", "pending"] + ["later"] * 4
    expect(page.locator(".replay-state").nth(0)).to_have_text("3 of 9 tokens, forward 3")


def test_the_axis_can_be_forward_passes(reader: Reader) -> None:
    page = reader.open(build_report(make_record(), None))

    page.get_by_role("button", name="Forward passes").click()
    move_to(page, 4)

    assert states(page, 0).count("final") == 4
    assert states(page, 1).count("final") == 5
    expect(page.locator(".replay-place")).to_have_text("4 of 9 forwards")


def test_the_replay_plays_by_itself_and_by_the_keyboard(reader: Reader) -> None:
    page = reader.open(build_report(make_record(), None))
    bar_of(page).focus()

    page.keyboard.press("Home")
    assert states(page, 0).count("final") == 0
    page.keyboard.press("ArrowRight")
    assert states(page, 0).count("final") == 1
    page.keyboard.press("-")
    expect(page.get_by_role("combobox", name="Speed")).to_have_value("0.5")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    expect(page.locator(".replay-state.is-done")).to_have_count(2)
    expect(page.get_by_role("button", name="Play")).to_be_visible()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_record_runs_nothing(reader: Reader, text: str) -> None:
    page = reader.open(build_report(hostile_record(text), picture()))

    page.get_by_role("combobox", name="Colour").select_option("confidence")
    page.locator(".replay-panel .vd-token").first.hover()
    assert page.locator("iframe, script[src], #replay img, #encoder img").count() == 0


def test_a_report_is_readable_on_a_phone_in_the_dark(reader: Reader) -> None:
    reader.options = {"viewport": NARROW, "color_scheme": "dark"}
    page = reader.open(build_report(make_record(), picture()))

    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    channels = [int(part) for part in re.findall(r"\d+", ground)[:3]]
    assert max(channels) < 64


def compared(page: Page) -> dict[str, Any]:
    """Run a comparison on the page; its record."""
    choose_image(page)
    start(page)
    page.wait_for_function(RECORD, timeout=60_000)
    return page.evaluate(RECORD)


def test_a_report_from_the_page_opens_without_a_network(
    page: Page, reader: Reader, tmp_path: Path
) -> None:
    record = compared(page)

    with page.expect_download() as download:
        page.get_by_role("button", name="Download report").click()
    path = tmp_path / "downloaded.html"
    download.value.save_as(path)
    html = path.read_text("utf-8")
    report = reader.open(html)

    texts = [record["answers"][mode]["result"]["text"] for mode in record["modes"]]
    assert report.locator(".answer").all_inner_texts() == [text.strip() for text in texts]
    assert report.locator("img.given").evaluate("image => image.naturalWidth") > 0
    move_to(report, 0)
    assert "later" in states(report, 0)
    assert "shapes.png" not in html


def test_the_picture_can_be_left_out(page: Page, reader: Reader, tmp_path: Path) -> None:
    compared(page)
    page.get_by_label("with the picture").uncheck()

    with page.expect_download() as download:
        page.get_by_role("button", name="Download report").click()
    download.value.save_as(tmp_path / "downloaded.html")

    report = reader.open((tmp_path / "downloaded.html").read_text("utf-8"))
    assert report.locator("img, canvas").count() == 0


def test_the_page_replays_and_shows_what_the_encoder_saw(page: Page) -> None:
    record = compared(page)
    seen = record["summary"]["images"][0]

    move_to(page, 0)
    assert "later" in states(page, 0)
    bar_of(page).press("End")
    assert set(states(page, 0)) == {"final"}
    view = page.locator("#encoder")
    expect(view).to_contain_text(f"{seen['rows']} rows of {seen['columns']} cells")
    expect(view.get_by_role("img")).to_have_attribute("aria-label", re.compile("in .* rows"))
    view.get_by_role("button", name="As given").click()
    expect(view.get_by_role("img")).to_have_attribute("aria-label", re.compile("as it was given"))


def test_the_code_to_copy_gives_the_same_answers(page: Page, tmp_path: Path) -> None:
    record = compared(page)
    shutil.copy(SHAPES, tmp_path / SHAPES.name)
    texts = [record["answers"][mode]["result"]["text"] for mode in record["modes"]]

    page.get_by_role("button", name="Copy as Python").click()
    expect(page.locator(".share-status")).to_have_text("Copied the Python code.")
    code = page.locator(".share-code").inner_text()
    python = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert python.returncode == 0, python.stderr
    for text in texts:
        assert text in python.stdout

    if shutil.which("curl") is None:
        return
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.locator(".share-status")).to_have_text("Copied the curl command.")
    command = page.locator(".share-code").inner_text()
    curl = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    for text in texts:
        assert text in curl.stdout


def test_a_prompt_cannot_leave_its_quotes_in_the_code(page: Page) -> None:
    prompt = 'it\'s $(reboot) `x` "q" \\ @/etc/passwd\n</script>'
    record = make_record(prompt=prompt, image={"name": 'a";type=x\\.png', "width": 1, "height": 1})

    command, code = page.evaluate(
        "record => [vlmDlm.code.curl(record, 'http://h/'), vlmDlm.code.python(record, 'http://h/')]",
        record,
    )

    words = shlex.split(command)
    assert words[words.index("--form-string") + 1] == f"prompt={prompt}"
    assert 'image=@"a\\";type=x\\\\.png"' in words
    compile(code, "copied", "exec")
    assert '\n            {"type": "text", "text": ' in code


def test_a_link_fills_the_controls(visit: Visit, page_server: Server) -> None:
    visitor = visit(page_server)

    page = visitor.open(
        "/?prompt=How+many%3F&modes=ar,nonsense&threshold=0.5&max_tokens=1e9&runs=x"
    )

    expect(page.locator("#prompt textarea")).to_have_value("How many?")
    boxes = page.locator("#modes input[type=checkbox]")
    expect(page.locator("#modes input[type=checkbox]:checked")).to_have_count(1)
    assert boxes.first.is_checked()
    for name, value in (("threshold", "0.5"), ("most", "1024"), ("runs", "1")):
        number = page.locator(f"#{name} input[type=number]")
        expect(number).to_have_value(value)  # on a step, within the range, or as it was


def test_a_link_leads_back_to_the_same_settings(visit: Visit, page_server: Server) -> None:
    visitor = visit(page_server)
    page = visitor.open()
    page.locator("#prompt textarea").fill("What is written & drawn?")
    page.locator("#prompt textarea").blur()
    record = compared(page)

    page.get_by_role("button", name="Copy link").click()
    address = page.locator(".share-code").inner_text()
    other = visitor.open(address.removeprefix(page_server.base_url))

    expect(other.locator("#prompt textarea")).to_have_value(record["prompt"])
    assert record["prompt"] == "What is written & drawn?"
