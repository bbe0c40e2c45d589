"""What a visitor takes away: a report that needs no network, code that runs, a link that works."""

from __future__ import annotations

import base64
import json
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

from tests.e2e.page.browser import NARROW, PATIENCE_MS, WIDE, Visitor
from tests.e2e.page.conftest import Visit
from tests.e2e.page.views import SHAPES, choose_image, start
from tests.e2e.server import Server
from tests.unit.app.page_records import AR_TEXT, make_record
from tests.unit.app.test_page_report import HOSTILE, hostile_record
from vlm_dlm_app.page.report import build_report

ANSWER = "".join(AR_TEXT)
_STATES = "all => all.map((each) => each.dataset.state || 'final')"
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
    return panel.locator(".vd-token").evaluate_all(_STATES)


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


@dataclass(frozen=True)
class Finished:
    """A tab with a comparison that is over. Leave the tab as it was."""

    page: Page
    record: dict[str, Any]

    @property
    def texts(self) -> list[str]:
        """The answers, in order."""
        answers = self.record["answers"]
        return [answers[mode]["result"]["text"] for mode in self.record["modes"]]


@pytest.fixture(scope="module")
def finished(browser: Browser, page_server: Server) -> Iterator[Finished]:
    options: dict[str, Any] = {"viewport": WIDE}
    visitor = Visitor(browser.new_context(**options), page_server.base_url)
    page = visitor.open()
    yield Finished(page, compared(page))
    visitor.context.close()
    visitor.check()


def download_report(page: Page, path: Path) -> str:
    """Save a report as a visitor does; its HTML."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Download report").click()
    download.value.save_as(path)
    return path.read_text("utf-8")


def test_a_report_from_the_page_opens_without_a_network(
    finished: Finished, reader: Reader, tmp_path: Path
) -> None:
    html = download_report(finished.page, tmp_path / "downloaded.html")
    report = reader.open(html)

    shown = report.locator(".answer").all_inner_texts()
    assert shown == [text.strip() for text in finished.texts]
    assert report.locator("img.given").evaluate("image => image.naturalWidth") > 0
    move_to(report, 0)
    assert "later" in states(report, 0)
    assert "shapes.png" not in html


def test_the_picture_can_be_left_out(finished: Finished, reader: Reader, tmp_path: Path) -> None:
    with_picture = finished.page.get_by_label("with the picture")

    with_picture.uncheck()
    html = download_report(finished.page, tmp_path / "downloaded.html")
    with_picture.check()

    assert reader.open(html).locator("img, canvas").count() == 0


def test_the_record_can_be_kept_as_json(finished: Finished, tmp_path: Path) -> None:
    with finished.page.expect_download() as download:
        finished.page.get_by_role("button", name="Download JSON").click()
    download.value.save_as(tmp_path / "record.json")

    assert json.loads((tmp_path / "record.json").read_text("utf-8")) == finished.record


def test_the_page_replays_and_shows_what_the_encoder_saw(finished: Finished) -> None:
    page, seen = finished.page, finished.record["summary"]["images"][0]

    move_to(page, 0)
    assert "later" in states(page, 0)
    bar_of(page).press("End")
    assert set(states(page, 0)) == {"final"}
    view = page.locator("#encoder")
    expect(view).to_contain_text(f"{seen['rows']} rows of {seen['columns']} cells")
    expect(view.get_by_role("img")).to_have_attribute("aria-label", re.compile("in .* rows"))
    view.get_by_role("button", name="As given").click()
    expect(view.get_by_role("img")).to_have_attribute("aria-label", re.compile("as it was given"))


def copied(page: Page, button: str, said: str) -> str:
    """What a button copies."""
    page.get_by_role("button", name=button).click()
    expect(page.locator(".share-status")).to_contain_text(said)
    return page.locator(".share-code").inner_text()


def test_the_code_to_copy_gives_the_same_answers(finished: Finished, tmp_path: Path) -> None:
    shutil.copy(SHAPES, tmp_path / SHAPES.name)
    calls = {
        "Python": [sys.executable, "-c", copied(finished.page, "Copy as Python", "Python code")],
        "curl": ["sh", "-c", copied(finished.page, "Copy as curl", "curl command")],
    }
    if shutil.which("curl") is None:
        del calls["curl"]

    for name, call in calls.items():
        done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for text in finished.texts:
            assert text in done.stdout, name


def test_a_prompt_cannot_leave_its_quotes_in_the_code(finished: Finished) -> None:
    prompt = 'it\'s $(reboot) `x` "q" \\ @/etc/passwd\n</script>'
    record = make_record(prompt=prompt, image={"name": 'a";type=x\\.png', "width": 1, "height": 1})

    command, code = finished.page.evaluate(
        "record => [vlmDlm.code.curl(record, 'http://h/'), vlmDlm.code.python(record, 'http://h/')]",
        record,
    )

    words = shlex.split(command)
    assert words[words.index("--form-string") + 1] == f"prompt={prompt}"
    assert 'image=@"a\\";type=x\\\\.png"' in words
    compile(code, "copied", "exec")
    assert '\n            {"type": "text", "text": ' in code


def test_the_code_has_a_place_for_a_key_where_one_is_asked_for(finished: Finished) -> None:
    record = make_record()

    for kind, call in (("curl", ""), ("python", "[], ")):
        code = f"record => vlmDlm.code.{kind}(record, 'http://h/', {call}true)"
        assert "YOUR_KEY" in finished.page.evaluate(code, record)
        assert "YOUR_KEY" not in finished.page.evaluate(code.replace("true", "false"), record)


def test_a_link_fills_the_controls(visit: Visit, page_server: Server) -> None:
    visitor = visit(page_server)

    query = "prompt=How+many%3F&modes=ar,nonsense&threshold=0.52&max_tokens=1e9&runs=x"
    page = visitor.open(f"/?{query}")

    expect(page.locator("#prompt textarea")).to_have_value("How many?")
    boxes = page.locator("#modes input[type=checkbox]")
    expect(page.locator("#modes input[type=checkbox]:checked")).to_have_count(1)
    assert boxes.first.is_checked()
    page.locator("#settings button").first.click()
    for name, value in (("threshold", "0.5"), ("most", "1024"), ("runs", "1")):
        number = page.locator(f"#{name} input[type=number]")
        expect(number).to_have_value(value)  # on a step, within the range, or as it was


def test_a_link_leads_back_to_the_same_settings(
    finished: Finished, visit: Visit, page_server: Server
) -> None:
    root, prompt = f"{page_server.base_url}/", "What is written & drawn?"
    record = {**finished.record, "prompt": prompt, "modes": ["diffusion"]}
    to_link = "([record, root]) => vlmDlm.code.linkOf(record, root)"
    address = finished.page.evaluate(to_link, [record, root])

    other = visit(page_server).open(address.removeprefix(page_server.base_url))

    expect(other.locator("#prompt textarea")).to_have_value(prompt)
    expect(other.locator("#modes input[type=checkbox]:checked")).to_have_count(1)
