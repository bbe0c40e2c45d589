"""The page below a path of another host, through nginx and Caddy with TLS: everything it asks for
is asked for there, whether the proxy takes the path off or leaves it on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.deploy.proxies import BELOW, KEY, NAME, below_a_path, make_certificate, proxying
from tests.e2e.page.browser import WIDE, Visitor, page_serving
from tests.e2e.page.views import RUN_MS, choose_image, open_tab, start, wait_until_done
from tests.e2e.server import Server

WHOLE = "/apps/whole"  # left on
LEFT_ON = {
    "nginx": """    location /apps/whole {
        proxy_pass http://127.0.0.1:8000;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_buffering off;
    }
""",
    "caddy": """    reverse_proxy /apps/whole* 127.0.0.1:8000 {
        flush_interval -1
    }
""",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    settings = {"api_keys": KEY, "allowed_hosts": NAME, "trusted_proxies": "loopback"}
    with page_serving(root_path=WHOLE, **settings) as running:
        yield running


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=["nginx", "caddy"])
def program(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[BELOW, WHOLE])
def visitor(
    request: pytest.FixtureRequest,
    program: str,
    browser: Browser,
    server: Server,
    certificate: tuple[Path, Path],
    tmp_path: Path,
) -> Iterator[Visitor]:
    """Who has a key, and notes any request that leaves the path."""
    place = below_a_path(program) if request.param == BELOW else LEFT_ON[program]
    with proxying(program, tmp_path, server.port, certificate, place) as proxy:
        context = browser.new_context(
            viewport={"width": WIDE["width"], "height": WIDE["height"]},
            ignore_https_errors=True,
            http_credentials={"username": "me", "password": KEY},
        )
        visitor = Visitor(context, f"https://{proxy.host}{request.param}")
        context.set_default_timeout(RUN_MS)
        yield visitor
        cookies = context.cookies()
        context.close()
        visitor.check()
        assert not cookies


def test_everything_works_there(visitor: Visitor, tmp_path: Path) -> None:
    page = visitor.open()
    choose_image(page)
    start(page)
    wait_until_done(page)
    shown = page.locator("#image img").first.get_attribute("src") or ""
    assert shown.startswith(("blob:", f"{visitor.base_url}/gradio_api/file="))

    with page.expect_download() as download:
        page.get_by_role("button", name="Download report").click()
    download.value.save_as(tmp_path / "report.html")
    assert "Describe" in (tmp_path / "report.html").read_text("utf-8")

    for button, begin in (("curl", f"curl '{visitor.base_url}/v1/compare'"), ("link", None)):
        page.get_by_role("button", name=f"Copy {'as ' if begin else ''}{button}").click()
        code = page.locator(".share-code")
        expect(code).to_contain_text(begin or f"{visitor.base_url}/?prompt=")
    link = code.inner_text().removeprefix(visitor.base_url)

    open_tab(page, "Chat")  # by Gradio's own stream of events
    page.locator("#chat-question textarea").fill("Describe the image.")
    page.locator("#chat-send").click()
    expect(page.locator("#chat .bot.message")).to_contain_text("tokens/s", timeout=RUN_MS)

    open_tab(page, "About")
    address = page.get_by_role("link", name="/openapi.json").evaluate("link => link.href")
    assert address == f"{visitor.base_url}/openapi.json"

    visitor.open(link)
