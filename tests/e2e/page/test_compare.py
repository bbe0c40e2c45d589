"""What the first view makes of several runs, of another image meanwhile, of what breaks off."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.e2e.page.conftest import Visit
from tests.e2e.page.views import choose_image, panel, set_number, start, wait_until_done
from tests.e2e.server import Server

# From the one numbered `held` on, requests get their answers when `window.go` is called.
HOLD = """(held) => {
const post = vlmDlm.stream.post;
let number = 0;
window.isHeld = false;
vlmDlm.stream.post = async (url, form, { signal, onEvent }) => {
  number += 1;
  if (number >= held) {
    window.isHeld = true;
    await new Promise((resolve, reject) => {
      window.go = resolve;
      signal.addEventListener('abort', () => reject(new DOMException('', 'AbortError')));
    });
  }
  return post(url, form, { signal, onEvent });
};
}"""
# The connection is lost once a mode has written something.
LOSE = """() => {
const post = vlmDlm.stream.post;
vlmDlm.stream.post = (url, form, { signal, onEvent }) => new Promise((resolve, reject) => {
  let isLost = false;
  post(url, form, { signal, onEvent: (name, data) => {
    if (isLost) return;
    onEvent(name, data);
    if (name !== 'text') return;
    isLost = true;
    reject(new Error('The connection to the server was lost.'));
  } });
});
}"""
PASTE = """(content) => {
const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], 'clipboard.png', { type: 'image/png' }));
document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }));
}"""
# Where controls stand -> the options of each mode, and those in a link.
GIVEN = """(places) => {
vlmDlm.told.controls = [
  { name: 'warmth', rest: 1, isFlag: false }, { name: 'is_odd', rest: '', isFlag: true },
];
const modes = [{ name: 'a', options: ['warmth'] }, { name: 'b', options: ['is_odd', 'warmth'] },
  { name: 'c', options: [] }];
const job = vlmDlm.job.make({ prompt: 'x', modes }, 0, 0, null, 1, false, ...places);
const link = vlmDlm.code.linkOf(vlmDlm.record.make(job, []), 'http://h/');
return [job.modeOptions, link];
}"""
# A link's text for a flag's control -> where it stands then.
READ = """(text) => vlmDlm.code.settings(
  [{ name: 'is_odd', kind: 'choice', choices: ['', 'true', 'false'] }], [''], `?is_odd=${text}`)"""
PICTURE = "vlmDlm.parts.pictureOf(vlmDlm.compare.record)"


@pytest.fixture
def page(visit: Visit, page_server: Server) -> Page:
    return visit(page_server).open()


def _png(colour: str) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (84, 84), colour).save(written, "PNG")
    return written.getvalue()


def _file(folder: Path, colour: str) -> Path:
    """A picture in a folder of its own; all have one name and one size."""
    (folder / colour).mkdir()
    path = folder / colour / "picture.png"
    path.write_bytes(_png(colour))
    return path


def _set_runs(page: Page, num_runs: int) -> None:
    page.get_by_role("button", name="Settings").first.click()
    set_number(page, "runs", num_runs)


def test_a_record_keeps_the_picture_that_was_asked_about(page: Page, tmp_path: Path) -> None:
    choose_image(page, _file(tmp_path, "red"))
    page.evaluate(HOLD, 1)
    start(page)
    page.wait_for_function("window.isHeld")
    page.get_by_label("Remove Image").click()
    choose_image(page, _file(tmp_path, "blue"))
    page.evaluate("window.go()")
    wait_until_done(page)
    assert page.evaluate(PICTURE).split(",")[1] == base64.b64encode(_png("red")).decode()


def test_a_picture_can_be_pasted_again_and_again(page: Page) -> None:
    for colour in ("red", "blue"):
        content = base64.b64encode(_png(colour)).decode()
        page.evaluate(PASTE, content)
        held = f"() => vlmDlm.compare.image?.uri.split(',')[1] === '{content}'"
        page.wait_for_function(held)


def test_what_was_spent_once_is_what_the_first_run_spent(page: Page, tmp_path: Path) -> None:
    choose_image(page, _file(tmp_path, "orange"))
    _set_runs(page, 2)
    start(page)
    wait_until_done(page)
    record: dict[str, Any] = page.evaluate("vlmDlm.compare.record")
    assert len(record["runs"]) == 2
    assert not record["summary"]["is_prompt_cached"]
    assert record["summary"]["prefill_ms"] > 1
    expect(page.locator("#replay .replay-note")).to_contain_text("once for all")


def test_every_mode_starts_its_line_when_its_prompt_is_ready(page: Page, tmp_path: Path) -> None:
    choose_image(page, _file(tmp_path, "green"))
    start(page)
    wait_until_done(page)
    record: dict[str, Any] = page.evaluate("vlmDlm.compare.record")
    light: dict[str, Any] = page.evaluate("vlmDlm.record.light(vlmDlm.compare.record)")
    ar = record["answers"]["ar"]
    metrics = ar["result"]["metrics"]
    before = metrics["vision_time_ms"] + metrics["prefill_time_ms"]
    assert before > 1
    first = light["answers"]["ar"]["points"][0][0]
    assert first == pytest.approx(max(ar["tokens"][0][7] - before, 0.0))


def test_a_stop_in_a_later_run_keeps_the_whole_ones(page: Page) -> None:
    choose_image(page)
    _set_runs(page, 3)
    page.evaluate(HOLD, 3)
    start(page)
    page.wait_for_function("window.isHeld")
    page.locator("#stop").click()
    wait_until_done(page)
    assert page.evaluate("vlmDlm.compare.record.runs.length") == 2
    expect(page.locator(".vd-shared").first).to_contain_text("Stopped after 2 of 3 runs")
    expect(panel(page, "ar").locator(".vd-card")).to_contain_text("median of 2 runs")
    assert panel(page, "ar").locator(".vd-committed").inner_text().strip() != ""


def test_what_was_written_stays_when_the_connection_is_lost(page: Page) -> None:
    choose_image(page)
    page.evaluate(LOSE)
    start(page)
    expect(page.locator(".vd-alert")).to_contain_text("lost")
    expect(panel(page, "ar")).to_have_attribute("data-state", "stopped")
    expect(panel(page, "ar").locator(".vd-committed .vd-token")).not_to_have_count(0)
    expect(panel(page, "diffusion")).to_have_attribute("data-state", "idle")


def test_the_page_says_which_example_it_took(page: Page) -> None:
    start(page)
    wait_until_done(page)
    expect(page.locator(".vd-shared").first).to_contain_text('the example "Shapes" was taken')


def test_a_card_says_what_was_waited_for_and_what_is_too_short(page: Page) -> None:
    words: str = page.evaluate(
        """() => {
        const card = document.createElement('div');
        const metrics = { tokens_per_second: 4559, queue_time_ms: 1518 };
        vlmDlm.card.render(card, [vlmDlm.card.runOf({ metrics, num_tokens: 1 })]);
        return card.textContent;
        }"""
    )
    assert "1.52 s of it in the queue" in words
    assert "too short to measure" in words
    assert "4,559" not in words


def test_what_is_read_out_is_not_held_back_while_answers_are_written(page: Page) -> None:
    choose_image(page)
    page.evaluate(HOLD, 1)
    start(page)
    page.wait_for_function("window.isHeld")
    assert page.locator("[aria-busy=true]").count() == 1
    for told in (".vd-live", ".vd-alert"):
        assert page.locator(f"[aria-busy=true] {told}").count() == 0
    page.locator("#stop").click()


@pytest.mark.parametrize(
    ("places", "given", "link"),
    [
        ([1, ""], {}, ""),
        ([None, None], {}, ""),
        ([5, ""], {"a": {"warmth": 5}, "b": {"warmth": 5}}, "&warmth=5"),
        ([1, "false"], {"b": {"is_odd": False}}, "&is_odd=false"),
        (
            [0, "true"],
            {"a": {"warmth": 0}, "b": {"warmth": 0, "is_odd": True}},
            "&warmth=0&is_odd=true",
        ),
    ],
)
def test_any_option_reaches_the_modes_that_have_it(
    page: Page, places: list[Any], given: dict[str, Any], link: str
) -> None:
    modes = "prompt=x&modes=a%2Cb%2Cc"
    expected = f"http://h/?{modes}{link}&temperature=0&runs=1"
    assert page.evaluate(GIVEN, places) == [given, expected]


def test_a_link_sets_a_flag_to_one_of_its_choices(page: Page) -> None:
    assert [page.evaluate(READ, text) for text in ("true", "false", "x")] == [
        ["true"],
        ["false"],
        [""],
    ]
