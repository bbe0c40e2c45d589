"""The page among the other addresses: it takes its own alone, and says when it is not there."""

from __future__ import annotations

import threading

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.routing import Route
from starlette.testclient import TestClient

from vlm_dlm_app.http.auth import Clients
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.page.headers import add_headers
from vlm_dlm_app.page.mount import Page, PageMount
from vlm_dlm_app.page.paths import is_page_path


def app_of(page: Page) -> Starlette:
    return Starlette(
        routes=[Route("/health", lambda request: None), PageMount(page)],
        lifespan=lambda app: page.running(),
    )


def test_until_it_is_built_the_page_says_so_and_then_it_is_there() -> None:
    gate = threading.Event()
    built = FastAPI()

    @built.get("/")
    def read() -> str:  # pyright: ignore[reportUnusedFunction]
        return "the page"

    def build() -> FastAPI:
        gate.wait(10)
        return built

    page = Page(build)
    with TestClient(app_of(page)) as client:
        starting = client.get("/")
        assert starting.status_code == 200
        assert "starting" in starting.text
        gate.set()
        assert client.portal is not None
        assert client.portal.call(page.wait) is True
        reply = client.get("/")
        assert reply.json() == "the page"
        assert "default-src 'self'" in reply.headers["content-security-policy"]


def test_a_page_that_cannot_be_built_does_not_start_for_ever() -> None:
    def build() -> FastAPI:
        raise RuntimeError("no")

    page = Page(build)
    with TestClient(app_of(page)) as client:
        assert client.portal is not None
        assert client.portal.call(page.wait) is False
        reply = client.get("/")
        assert reply.status_code == 503
        assert "could not be built" in reply.text
        assert "refresh" not in reply.text


@pytest.mark.parametrize(("status", "kept"), [(200, True), (304, True), (404, False)])
def test_only_files_that_are_there_are_kept(status: int, kept: bool) -> None:
    headers = MutableHeaders()
    add_headers("/assets/index-1a2b.js", status, headers)
    assert ("immutable" in headers.get("Cache-Control", "")) == kept


@pytest.mark.parametrize(
    "path",
    [
        *("/nothing", "/v1/models", "/gradio_api/proxy=http://x", "/monitoring", "/login"),
        *("/gradio_api/vibe-edit", "/gradio_api/stream/x", "/gradio_api/file/x", "/docs"),
    ],
)
def test_other_addresses_are_not_the_pages(path: str) -> None:
    assert not is_page_path(path)


@pytest.mark.parametrize(
    ("header", "is_known"),
    [
        ("Bearer key", True),
        ("Basic YW55OmtleQ==", True),  # any:key
        ("Basic OmtleQ==", True),  # :key
        ("Basic a2V5", False),  # key, without a user
        ("Basic YW55OndvbmcK", False),
        ("Basic ???", False),
        ("Digest key", False),
    ],
)
def test_browsers_send_the_key_as_a_password(header: str, is_known: bool) -> None:
    headers = [(b"authorization", header.encode())]
    scope = {"type": "http", "path": "/", "headers": headers, "client": ("127.0.0.1", 1)}
    clients = Clients(["key"], is_page_path=is_page_path)
    if is_known:
        assert clients.name(scope).startswith("key-")
        return
    with pytest.raises(ApiError) as caught:
        clients.name(scope)
    assert caught.value.headers["WWW-Authenticate"].startswith("Basic ")
    with pytest.raises(ApiError) as caught:
        clients.name({**scope, "path": "/v1/models"})
    assert caught.value.headers["WWW-Authenticate"] == "Bearer"
