from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, Response

from tests.e2e.page.conftest import Visit
from tests.e2e.page.views import choose_image, start, wait_until_done
from tests.e2e.server import Server


def _picture(path: Path, colour: str) -> Path:
    Image.new("RGB", (112, 84), colour).save(path)
    return path


def _overhear(page: Page, heard: list[Response]) -> None:
    page.on("response", heard.append)


def test_visitors_see_nothing_of_one_another(
    visit: Visit, page_server: Server, tmp_path: Path
) -> None:
    heard: dict[str, list[Response]] = {"red": [], "blue": []}
    tabs: dict[str, Page] = {}
    for name in heard:
        tabs[name] = visit(page_server).open()
        _overhear(tabs[name], heard[name])
        choose_image(tabs[name], _picture(tmp_path / f"secret-{name}.png", name))
        tabs[name].locator("#prompt textarea").fill(f"What is {name}?")
    for tab in tabs.values():
        start(tab)
    for name, tab in tabs.items():
        wait_until_done(tab)
        other = "blue" if name == "red" else "red"
        assert f"What is {other}?" not in tab.content()
        assert f"secret-{other}" not in _all_texts(heard[name])
        assert not {r.url for r in heard[name]} & {r.url for r in heard[other] if "upload" in r.url}


def _all_texts(responses: list[Response]) -> str:
    """Addresses and bodies of what a tab has received."""
    texts: list[Any] = []
    for response in responses:
        texts.append(response.url)
    return "\n".join(texts)
