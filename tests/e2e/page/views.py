"""The page's views as a visitor uses them: where things are, and what to wait for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.e2e.server import ROOT, eventually

EXAMPLES = ROOT / "assets" / "examples"
SHAPES = EXAMPLES / "shapes.png"
MODES = ("ar", "diffusion", "linear_spec", "quadratic_spec")
TABS = ("Compare", "Sweep", "Chat", "Blind test", "About")
CONTROLS = frozenset(
    {"button", "checkbox", "combobox", "image", "img", "link", "listbox", "menuitem", "radio"}
    | {"searchbox", "slider", "spinbutton", "switch", "tab", "textbox"}
)
RUN_MS = 30_000


def choose_image(page: Page, path: Path = SHAPES) -> None:
    """Upload a picture, and wait until it is shown."""
    page.locator("#image input[type=file]").first.set_input_files(path)
    page.locator("#image img").first.wait_for()


def start(page: Page) -> None:
    """Press the button that compares."""
    page.locator("#start").click()


def ask_for_much(page: Page, at_once: bool = False) -> None:
    """Have answers be as long as the page allows, in all modes together if wanted."""
    page.get_by_role("button", name="Settings").first.click()
    set_number(page, "most", 1024)
    if at_once:
        page.get_by_label("All modes at once").check()


def set_number(page: Page, name: str, value: int) -> None:
    """Set a slider by its number, as often as it takes: a part that has only just come up does not
    listen yet."""
    number, slider = (page.locator(f"#{name} input[type={kind}]") for kind in ("number", "range"))

    def is_set() -> bool:
        number.fill(str(value))
        number.press("Tab")
        page.wait_for_timeout(300)  # until it is handed on
        return slider.input_value() == str(value)

    eventually(is_set, 10)


def wait_until_done(page: Page) -> None:
    """Until a comparison is over and every panel has its answer."""
    page.wait_for_function("() => vlmDlm.compare.record !== null", timeout=RUN_MS)
    for shown in page.locator(".vd-panel").all():
        expect(shown).to_have_attribute("data-state", "done")


def panel(page: Page, mode: str) -> Locator:
    """The panel of one mode."""
    return page.locator(f".vd-panel[data-mode={mode}]")


def figures(page: Page, mode: str) -> dict[str, tuple[float, str]]:
    """What the card of a mode holds: name -> value, and how it is written."""
    found = (
        panel(page, mode)
        .locator("[data-figure][data-value]")
        .evaluate_all(
            "all => all.map(e => [e.dataset.figure, Number(e.dataset.value), e.textContent])"
        )
    )
    return {name: (value, text) for name, value, text in found}


def open_tab(page: Page, name: str) -> None:
    """Show one of the views; where there is no room for all tabs, from the menu of the others."""
    tab = page.get_by_role("tab", name=name, exact=True)
    if tab.is_visible():
        tab.click()
    else:
        page.get_by_label("More tabs").click()
        page.locator(".overflow-dropdown").get_by_text(name, exact=True).click()
    expect(tab).to_have_attribute("aria-selected", "true")


def events(stream: str) -> Iterator[tuple[str, Any]]:
    """Name and data of every event in the text of a stream."""
    for block in stream.replace("\r\n", "\n").split("\n\n"):
        lines = [line.partition(":") for line in block.split("\n")]
        data = "\n".join(value.strip() for name, _, value in lines if name == "data")
        names = [value.strip() for name, _, value in lines if name == "event"]
        if data and data != "[DONE]":
            yield (names[0] if names else "message"), json.loads(data)


def nameless(page: Page) -> list[str]:
    """Controls and pictures without a name, as the browser tells assistive technology."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    found: list[str] = []
    for node in nodes:
        role = node.get("role", {}).get("value")
        if role in CONTROLS and not node.get("ignored") and not node.get("name", {}).get("value"):
            place = session.send("DOM.describeNode", {"backendNodeId": node["backendDOMNodeId"]})
            written = place["node"]
            if written["localName"] != "svg":  # an icon of the button around it, which has a name
                found.append(f"{role}: {written['localName']} {written.get('attributes')}")
    session.detach()
    return found
