"""Puts the page together. Imports Gradio, which takes seconds: for a worker thread."""

# pyright: reportUnknownMemberType=false, reportPrivateUsage=false
from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from vlm_dlm_app.http.addresses import Addresses
from vlm_dlm_app.http.disconnect import ended
from vlm_dlm_app.http.errors import install_error_handlers
from vlm_dlm_app.page.assets import style
from vlm_dlm_app.page.below import Below
from vlm_dlm_app.page.boundary import Boundary
from vlm_dlm_app.page.calls import Calls
from vlm_dlm_app.page.documents import Documents
from vlm_dlm_app.page.leaving import Followers, Leaving
from vlm_dlm_app.page.packed import Packed
from vlm_dlm_app.page.sessions import Sessions
from vlm_dlm_app.page.streams import Streams
from vlm_dlm_app.page.upload_routes import UploadRoutes
from vlm_dlm_app.page.uploads import UploadLimits, Uploads

if TYPE_CHECKING:
    import gradio as gr

    from vlm_dlm_app.page.runs import Runs
    from vlm_dlm_app.page.tools import Tools
    from vlm_dlm_app.settings.model import Settings
    from vlm_dlm_app.state import Services

MAX_QUEUED = 64
# Of functions, not threads: ours run in the event loop. Every one that waits for the engine has a
# place, and a Stop button needs one more.
MAX_RUNNING = 512
MAX_SESSIONS = 1000  # of tabs, whose state is kept


def build_page(services: Services) -> FastAPI:
    """An application that serves the page at `/`, with a lifespan of its own."""
    settings, followers = services.settings, Followers()
    uploads = Uploads(_limits(settings))
    # Read when Gradio is imported, and by some of its parts later.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(uploads.folder.gradio)
    # Or every call would have a table made of the last 10,000, in a thread, for a view we lack.
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "1"
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(2**62)
    try:
        import gradio as gr

        from vlm_dlm_app.page.layout import layout
        from vlm_dlm_app.page.runs import Runs
        from vlm_dlm_app.page.theme import theme

        runs = Runs(services, followers)
        blocks = layout(services, runs, uploads)
        blocks.max_threads = MAX_RUNNING
        blocks.state_session_capacity = 2 * MAX_SESSIONS  # `sessions` sees to it
        blocks.queue(max_size=MAX_QUEUED, default_concurrency_limit=None)
        sessions = Sessions(blocks, services.held, MAX_SESSIONS, runs.leave, followers.has)
        app = gr.mount_gradio_app(
            _parent(services, uploads, sessions, _tools(services, runs, uploads)),
            blocks,
            path="/",
            footer_links=[],  # they speak of what is not here; the About view has what is
            run_history=False,
            show_error=False,
            max_file_size=settings.max_image_bytes,
            ssr_mode=False,
            enable_monitoring=False,
            mcp_server=False,  # the tools are ours
            theme=theme(),
            css=style(),
            head=f"<style>{style('frame')}</style>",
        )
    except BaseException:
        uploads.close()
        raise
    _surround(app, blocks, uploads, sessions, followers, services)
    return app


def _limits(settings: Settings) -> UploadLimits:
    return UploadLimits(
        max_bytes=settings.max_upload_bytes,
        max_files=settings.max_uploads,
        keep_s=settings.upload_s,
        max_file_bytes=settings.max_image_bytes,
    )


def _tools(services: Services, runs: Runs, uploads: Uploads) -> Tools | None:
    """For MCP, where it is asked for; its package may be missing where it is not."""
    if not services.settings.page_mcp:
        return None
    from vlm_dlm_app.page.endpoints import NAMES, Endpoints
    from vlm_dlm_app.page.tools import Tools

    return Tools(services, Endpoints(services, runs, uploads), NAMES)


def _parent(
    services: Services, uploads: Uploads, sessions: Sessions, tools: Tools | None
) -> FastAPI:
    """What Gradio is mounted in: our own addresses come before its."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        sweeping = asyncio.create_task(uploads.sweep())
        watching = asyncio.create_task(sessions.watch())
        try:
            async with nullcontext() if tools is None else tools.running():
                yield
        finally:
            await ended(sweeping, watching)
            await asyncio.to_thread(uploads.close)

    # With a policy of its own Gradio adds none, which would let foreign pages read.
    nobody = Middleware(CORSMiddleware, allow_origins=[])
    app = FastAPI(
        docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan, middleware=[nobody]
    )
    app.state.services = services  # bodies are read here as they are elsewhere
    install_error_handlers(app, Addresses(()))  # those of the API are not below the page
    app.router.routes.extend(UploadRoutes(uploads, services.worker).routes)
    if tools is not None:
        app.router.routes.extend(tools.routes)
    return app


def _surround(
    app: FastAPI,
    blocks: gr.Blocks,
    uploads: Uploads,
    sessions: Sessions,
    followers: Followers,
    services: Services,
) -> None:
    """What a request passes on its way to Gradio. Outside of the framework's own last resort, which
    would answer for the errors that are raised here."""
    from vlm_dlm_app.page.messages import Unread  # needs Gradio, as the next does
    from vlm_dlm_app.page.own_states import keep_own_states

    keep_own_states(app, blocks)
    blocks._queue.pending_messages_per_session = Unread(2 * MAX_SESSIONS)
    settings = services.settings
    inner = Leaving(Packed(Documents(Below(app.build_middleware_stack()))), followers)
    streams = Streams(inner, blocks, settings.max_page_streams)
    calls = Calls(streams, blocks, uploads, sessions, services.worker)
    app.middleware_stack = Boundary(calls, settings.page_mcp)
