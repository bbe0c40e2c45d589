from __future__ import annotations

from pathlib import Path

from PIL import Image
from playwright.sync_api import Response

from tests.e2e.page.conftest import Visit
from tests.e2e.page.views import choose_image, events, start, wait_until_done
from tests.e2e.server import Server

COLOURS = ("red", "blue")


def test_visitors_see_nothing_of_one_another(
    visit: Visit, page_server: Server, tmp_path: Path
) -> None:
    tabs = {colour: visit(page_server).open() for colour in COLOURS}
    heard: dict[str, list[Response]] = {colour: [] for colour in COLOURS}
    for colour, tab in tabs.items():
        tab.on("response", lambda response, kept=heard[colour]: kept.append(response))
        path = tmp_path / f"secret-{colour}.png"
        Image.new("RGB", (112, 84), colour).save(path)
        choose_image(tab, path)
        tab.locator("#prompt textarea").fill(f"What is {colour}?")
    for tab in tabs.values():
        start(tab)
    for tab in tabs.values():
        wait_until_done(tab)
    ids = {colour: _ids(heard[colour]) for colour in COLOURS}
    for colour, other in (COLOURS, COLOURS[::-1]):
        everything = _everything(heard[colour]) + tabs[colour].content()
        assert f"secret-{other}" not in everything
        assert f"What is {other}?" not in everything
        assert len(ids[colour]) == 1
        assert not any(name in everything for name in ids[other])


def _ids(responses: list[Response]) -> set[str]:
    """Names of the comparisons that a tab was told of."""
    replies = [response for response in responses if response.url.endswith("/v1/compare")]
    return {data["id"] for reply in replies for _, data in events(reply.text()) if "id" in data}


def _everything(responses: list[Response]) -> str:
    """Addresses and texts of all that a tab received and that has ended; streams of its own
    session, which never end, are seen in the page's content."""
    texts: list[str] = []
    for response in responses:
        texts.append(response.url)
        is_open = "event-stream" in response.headers.get("content-type", "")
        if "json" in response.headers.get("content-type", "") and not is_open:
            texts.append(response.text())
    return "\n".join(texts)
