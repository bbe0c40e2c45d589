"""The page at `/`: which addresses are its own, and how it comes up beside a loading engine.

Gradio takes seconds to import, so it is built in a thread once the server listens. Until then `/`
says so and asks again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse, Response
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlm_dlm.errors import BadInputError
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.page.assets import SCRIPT_PATH, script
from vlm_dlm_app.page.headers import add_headers
from vlm_dlm_app.page.paths import is_page_path

if TYPE_CHECKING:
    from fastapi import FastAPI

    from vlm_dlm_app.settings.model import Settings

logger = logging.getLogger(__name__)
_NOTE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>vlm-dlm</title>{head}
<link rel="icon" href="data:,"><meta name="viewport" content="width=device-width">
<style>:root{{color-scheme:light dark}}body{{font:1.1rem system-ui;margin:20vh auto;
max-width:30rem;padding:0 1rem}}</style></head><body><p role="status">{text}</p></body></html>"""
_STARTING = _NOTE.format(
    head='<meta http-equiv="refresh" content="1">',
    text="The page is starting. It opens by itself in a few seconds.",
)
_BROKEN = _NOTE.format(
    head="", text="The page could not be built; the server's log says why. The API under /v1 works."
)


def check_extras(settings: Settings) -> None:
    """Before anything is started: raise BadInputError for a setting whose package is missing."""
    if settings.page_mcp and find_spec("mcp") is None:
        raise BadInputError(
            "setting page_mcp needs a package that is not installed: pip install 'vlm-dlm[mcp]'"
        )


class Page:
    """Builds and serves the page. build: blocking, gives Gradio's application; run in a thread."""

    def __init__(self, build: Callable[[], FastAPI]) -> None:
        self._build = build
        self._app: FastAPI | None = None
        self._is_settled = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Comes up in the background; on the way out ends what Gradio has running."""
        is_over = asyncio.Event()
        serving = asyncio.create_task(self._serve(is_over))
        try:
            yield
        finally:
            is_over.set()
            if not self._is_settled.is_set():
                serving.cancel()  # its thread imports for seconds; nobody waits for that
            await asyncio.wait({serving})

    async def wait(self) -> bool:
        """Whether there is a page, once that is clear."""
        await self._is_settled.wait()
        return self._app is not None

    async def _serve(self, is_over: asyncio.Event) -> None:
        """All of Gradio's life in one task, as its parts ask for."""
        try:
            app = await asyncio.to_thread(asyncio.run, self._built())
            async with app.router.lifespan_context(app):
                self._app = app
                self._is_settled.set()
                await is_over.wait()
        except Exception:  # the API is of use without a page
            logger.exception("the page cannot be shown")
        finally:
            self._app = None
            self._is_settled.set()

    async def _built(self) -> FastAPI:
        """Within a loop, or Gradio would make loops of its own and never close them."""
        return self._build()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request under `is_page_path`."""
        path = scope["path"]

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                add_headers(path, message["status"], MutableHeaders(scope=message))
            await send(message)

        await self._part(path)(scope, receive, with_headers)

    def _part(self, path: str) -> ASGIApp:
        if path == SCRIPT_PATH:
            return Response(script(), media_type="text/javascript")
        if self._app is not None:
            return self._app
        if path == "/":
            is_broken = self._is_settled.is_set()
            return HTMLResponse(_BROKEN if is_broken else _STARTING, 503 if is_broken else 200)
        raise ApiError("unavailable", "the page is not there yet")


class PageMount(Mount):
    """Takes the page's addresses and no others, so that all else keeps its answers."""

    def __init__(self, page: Page, has_mcp: bool = False) -> None:
        super().__init__("", app=page, name="page")
        self._has_mcp = has_mcp

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and is_page_path(scope["path"], self._has_mcp):
            return super().matches(scope)
        return Match.NONE, {}
