"""Every handler that Gradio's own router has is either listed with a reason or refused."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from tests.api.serving import PlayedEngine
from vlm_dlm.preflight import Checkpoint
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.main import build_services
from vlm_dlm_app.page.build import build_page
from vlm_dlm_app.page.handlers import find_handler, handlers
from vlm_dlm_app.settings.model import Settings

# Looked at and left out. A new one of Gradio's is in neither list, and the test says so.
REFUSED = {
    "/": "HEAD comes as GET",
    "/openapi.json": "the API has its own",
    "/login": "keys are asked for elsewhere",
    "/logout": "keys are asked for elsewhere",
    "/svelte/{path:path}": "files that are not there",
    "/gradio_api/deep_link": "writes what a session holds to the disk",
    "/pwa_icon": "we have none",
    "/pwa_icon/{size}": "scales a picture to any size",
    "/monitoring": "of the operator",
    "/monitoring/summary": "of the operator",
    "/monitoring/{key}": "of the operator",
    "/gradio_api/user": "keys are asked for elsewhere",
    "/gradio_api/login_check": "keys are asked for elsewhere",
    "/gradio_api/token": "keys are asked for elsewhere",
    "/gradio_api/dev/reload": "for developers",
    "/gradio_api/runs": "history of runs is not kept",
    "/gradio_api/openapi.json": "the API has its own",
    "/gradio_api/custom_component/{id}/{environment}/{type}/{file_name}": "there are none",
    "/gradio_api/proxy={url_path:path}": "fetches addresses",
    "/gradio_api/file={path_or_url:path}": "fetches addresses; ours is in its place",
    "/gradio_api/file/{path:path}": "reads files",
    "/gradio_api/stream/{event_id}": "sound and video",
    "/gradio_api/stream/{event_id}/close": "sound and video",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/playlist.m3u8": "sound and video",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/{segment_id}.{ext}": "sound and video",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/playlist-file": "sound and video",
    "/gradio_api/heartbeat/{session_hash}": "a stream for ever; the page has its own way",
    "/gradio_api/run/{api_name}": "around the queue",
    "/gradio_api/api/{api_name}": "around the queue",
    "/gradio_api/call/v2/{api_name}": "another spelling of a call",
    "/gradio_api/call/v2/{api_name}/{event_id}": "another spelling of a call",
    "/gradio_api/component_server": "no part of the page has functions there",
    "/gradio_api/queue/status": "nobody asks",
    "/gradio_api/upload": "writes what comes; ours is in its place",
    "/gradio_api/upload_progress": "a stream for ever; ours is in its place",
    "/gradio_api/process_recording": "video",
    "/gradio_api/vibe-edit": "changes the server's code",
    "/gradio_api/vibe-code": "changes the server's code",
    "/gradio_api/undo-vibe-edit": "changes the server's code",
    "/gradio_api/vibe-starter-queries": "sends the server's code away",
    "/gradio_api/mcp": "gives text of Python and fetches pictures; ours is in its place",
}


@pytest.fixture(scope="module", params=[False, True], ids=["page", "with MCP"])
def has_mcp(request: pytest.FixtureRequest) -> bool:
    if request.param:
        pytest.importorskip("mcp")
    return request.param


@pytest.fixture(scope="module")
def routes(has_mcp: bool, checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """(method, template) of all that Gradio would answer."""

    async def built() -> list[tuple[str, str]]:
        services = build_services(Settings(page_mcp=has_mcp), PlayedEngine(), checkpoint)
        app: Any = build_page(services)
        return list(_walk(app.routes[-1].app.routes))

    return asyncio.run(built())


def _walk(found: Any) -> Iterator[tuple[str, str]]:
    for route in found:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from _walk(included.routes)
            continue
        methods = getattr(route, "methods", None) or {"*"}
        for method in methods:
            yield method, route.path.rstrip("/") or "/"


def test_gradios_router_is_seen_whole(routes: list[tuple[str, str]]) -> None:
    found = {template for _, template in routes}
    assert {
        "/",
        "/config",
        "/gradio_api/queue/join",
        "/gradio_api/file={path_or_url:path}",
    } <= found
    assert len(found) > 40


def test_every_handler_is_listed_or_refused(routes: list[tuple[str, str]], has_mcp: bool) -> None:
    listed = {(h.method, h.template) for h in handlers(has_mcp) if not h.is_own}
    unknown = {
        (method, template)
        for method, template in routes
        if (method, template) not in listed and template not in REFUSED
    }
    assert not unknown, "look at these, then list them in handlers.py or above with a reason"


def test_the_list_names_nothing_that_gradio_lacks(
    routes: list[tuple[str, str]], has_mcp: bool
) -> None:
    theirs = set(routes)
    mine = {(h.method, h.template) for h in handlers(has_mcp) if not h.is_own}
    assert mine <= theirs
    assert all(handler.reason for handler in handlers(has_mcp))


def test_what_is_refused_is_not_found(routes: list[tuple[str, str]], has_mcp: bool) -> None:
    listed = {(h.method, h.template) for h in handlers(has_mcp)}
    own = {h.template for h in handlers(has_mcp) if h.is_own}
    for method, template in routes:
        if (method, template) in listed or template in own:
            continue
        path = re.sub(r"\{(\w+)(:path)?\}", "1", template)
        with pytest.raises((ApiError, HTTPException)) as caught:
            find_handler(method, path, has_mcp)
        error: Any = caught.value
        assert getattr(error, "status", None) == 404 or error.status_code == 405, template


FILE = "/gradio_api/file="
TOKEN = "0" * 32


@pytest.mark.parametrize(
    "argument",
    [
        *("http://127.0.0.1:1/x.png", "https://example.org/x.png", "HTTP://a", "http:/x", "http:x"),
        *("//127.0.0.1/x.png", "///etc/passwd", "ftp://a/x.png", "file:///etc/passwd", "data:,x"),
        *("http%3A//127.0.0.1/x", "http%253A//127.0.0.1", "%68ttp://127.0.0.1", "\\\\host\\x"),
        *("http:\\\\127.0.0.1", "0x7f000001", "2130706433/x.png", "user:word@host/x.png"),
        *("/etc/passwd", "etc/passwd", "../../etc/passwd", "/uploads/../etc/passwd", "~/x.png"),
        *(
            "/uploads/x.png",
            f"/uploads/{TOKEN}",
            f"/uploads/{TOKEN}.png/..",
            f"uploads/{TOKEN}.png",
        ),
        *(f"/uploads/{TOKEN}.png\n", f"/uploads/{TOKEN}.png\0", f" /uploads/{TOKEN}.png"),
        *("", "/", "/proc/self/environ", f"/uploads//{TOKEN}.png", "x" * 5000, "ｈttp://a"),
    ],
)
def test_no_other_argument_of_file_reaches_a_handler(argument: str) -> None:
    with pytest.raises(ApiError) as caught:
        find_handler("GET", FILE + argument)
    assert caught.value.status == 404


def test_an_uploaded_picture_is_ours_to_show() -> None:
    found = find_handler("GET", f"{FILE}/uploads/{TOKEN}.png")
    assert found.handler.is_own
    assert found.places["path_or_url"] == f"/uploads/{TOKEN}.png"


@pytest.mark.parametrize(
    "path", ["/assets/../x", "/assets//x", "/static/a%2e", "/assets/a..b", "/assets/"]
)
def test_names_of_the_pages_files_are_plain(path: str) -> None:
    with pytest.raises(ApiError):
        find_handler("GET", path)


def test_other_methods_are_told_which_there_are() -> None:
    with pytest.raises(HTTPException) as caught:
        find_handler("DELETE", "/gradio_api/queue/join")
    assert caught.value.headers == {"Allow": "POST"}
