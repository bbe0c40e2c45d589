"""Pictures of every view, wide and narrow, light and dark: `python -m tests.e2e.page.screenshots
OUT`. Names are VIEW-WIDTH-SCHEME.png. With `--readme`, the four of the README instead.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect

from tests.e2e.page.browser import NARROW, WIDE, Visitor, chromium, page_serving
from tests.e2e.page.views import (
    RUN_MS,
    choose_image,
    open_tab,
    panel,
    start,
    wait_until_done,
)
from tests.e2e.server import Server

WIDTHS: dict[str, Any] = {"wide": WIDE, "narrow": NARROW}
SCHEMES = ("light", "dark")
# So that a run can be caught in the middle.
SLOW = """() => {
const post = vlmDlm.stream.post;
vlmDlm.stream.post = (url, form, { signal, onEvent }) => {
  const events = [];
  window.more = (share) => {
    const end = Math.floor(events.length * share);
    for (; window.told < end; window.told += 1) onEvent(...events[window.told]);
  };
  window.told = 0;
  window.isRead = false;
  return post(url, form, { signal, onEvent: (...event) => events.push(event) })
    .then(() => { window.isRead = true; })
    .then(() => new Promise((resolve) => { window.finish = resolve; }))
    .then(() => window.more(1));
};
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--readme", action="store_true")
    given = parser.parse_args()
    out: Path = given.out
    out.mkdir(parents=True, exist_ok=True)
    with page_serving() as server, chromium() as browser:
        if given.readme:
            _of_readme(browser, server, out)
            return
        for width in WIDTHS:
            for scheme in SCHEMES:
                for view, page in _views(browser, server, WIDTHS[width], scheme):
                    page.screenshot(path=out / f"{view}-{width}-{scheme}.png", full_page=True)


def _views(browser: Browser, server: Server, size: Any, scheme: Any) -> Iterator[tuple[str, Page]]:
    """Every view once, as a visitor comes to it."""
    context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
    visitor = Visitor(context, server.base_url)
    page = visitor.open()
    yield "start", page
    choose_image(page)
    page.evaluate(SLOW)
    start(page)
    page.wait_for_function("() => window.isRead")
    for view, share in (("running", 0.3), ("running-late", 0.9)):
        page.evaluate("(share) => window.more(share)", share)
        page.wait_for_timeout(300)
        yield view, page
    page.evaluate("window.finish()")
    wait_until_done(page)
    expect(page.locator("#charts")).to_be_visible()
    page.wait_for_timeout(1000)  # charts move into place
    panel(page, "linear_spec").locator(".vd-token").nth(3).hover()
    yield "compared", page
    for prepare in (_differences, _replay, _code, _report):
        name = prepare.__name__.removeprefix("_")
        yield name, prepare(page)
    for name, prepare in _OTHERS.items():
        open_tab(page, name)
        prepare(page)
        yield name.lower().replace(" ", "-"), page
    context.close()


def _of_readme(browser: Browser, server: Server, out: Path) -> None:
    """The end of a run, its replay, another in the middle with all modes at once, a sweep."""
    size: Any = {"width": 1280, "height": 1060}
    context = browser.new_context(viewport=size, color_scheme="light", reduced_motion="reduce")
    page = Visitor(context, server.base_url).open()
    choose_image(page)
    for _ in range(2):  # the first run of a server is slower
        start(page)
        wait_until_done(page)
    page.screenshot(path=out / "compare.png")
    page.emulate_media(color_scheme="dark")
    _replay(page)
    page.mouse.move(0, 0)
    page.evaluate("document.querySelector('#replay').scrollIntoView()")
    page.wait_for_timeout(500)
    page.screenshot(path=out / "replay.png")
    page.emulate_media(color_scheme="light")
    _run_at_once(page)
    page.wait_for_function("() => window.isRead")
    page.evaluate("window.more(0.2)")
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(300)
    page.screenshot(path=out / "running.png")
    page.evaluate("window.finish()")
    wait_until_done(page)
    page.emulate_media(color_scheme="dark")
    open_tab(page, "Sweep")
    _sweep(page)
    page.screenshot(path=out / "sweep.png")
    context.close()


def _run_at_once(page: Page) -> None:
    """Begin a run of which `window.more` shows a part."""
    settings = page.get_by_role("button", name="Settings").first
    settings.click()
    page.locator("#parallel input").check()
    settings.click()
    page.evaluate(SLOW)
    start(page)


def _differences(page: Page) -> Page:
    page.get_by_label("Show differences from AR").check()
    page.locator(".vd-switch").get_by_text("Confidence", exact=True).click()
    return page


def _replay(page: Page) -> Page:
    bar = page.get_by_label("Place in the replay")
    box = bar.bounding_box()
    assert box is not None
    bar.click(position={"x": box["width"] * 0.1, "y": box["height"] / 2})
    return page


def _code(page: Page) -> Page:
    page.get_by_role("button", name="Copy as curl").click()
    return page


def _report(page: Page) -> Page:
    """In a tab of its own, as it would be opened from a folder."""
    html = page.evaluate("vlmDlm.share.report(vlmDlm.compare.record, true)")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        path.write_text(html, "utf-8")
        report = page.context.new_page()
        report.goto(path.as_uri())
        report.locator("#replay .replay-bar").wait_for()
    return report


def _sweep(page: Page) -> None:
    page.locator("#sweep-start").click()
    expect(page.locator("#sweep-progress")).to_contain_text("Done", timeout=RUN_MS)
    page.wait_for_timeout(1000)


def _chat(page: Page) -> None:
    for words in ("Describe the image.", "How many objects are there?"):
        page.locator("#chat-question textarea").fill(words)
        page.locator("#chat-send").click()
        expect(page.locator("#chat .bot.message").last).to_contain_text("tokens/s", timeout=RUN_MS)


def _blind(page: Page) -> None:
    page.locator("#blind-start").click()
    vote = page.locator("#blind-vote-0")
    expect(vote).to_be_enabled(timeout=RUN_MS)
    vote.click()
    expect(page.locator("#blind-reveal")).to_contain_text("was")


def _nothing(page: Page) -> None:
    del page


_OTHERS: dict[str, Callable[[Page], None]] = {
    "Sweep": _sweep,
    "Chat": _chat,
    "Blind test": _blind,
    "About": _nothing,
}

if __name__ == "__main__":
    main()
