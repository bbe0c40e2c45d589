"""Puts the page together. Imports Gradio, which takes seconds: for a worker thread."""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from vlm_dlm_app.page.assets import style
from vlm_dlm_app.page.below import Below
from vlm_dlm_app.page.leaving import Followers, Leaving

if TYPE_CHECKING:
    from vlm_dlm_app.page.runs import Runs
    from vlm_dlm_app.page.tools import Tools
    from vlm_dlm_app.state import Services

MAX_QUEUED = 64
# Of functions, not threads: ours run in the event loop. Every one that waits for the engine has a
# place, and a Stop button needs one more.
MAX_RUNNING = 512
MAX_SESSIONS = 1000  # of tabs, whose state is kept; the newest


def build_page(services: Services) -> FastAPI:
    """An application that serves the page at `/`, with a lifespan of its own."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr

    from vlm_dlm_app.page.layout import layout
    from vlm_dlm_app.page.runs import Runs
    from vlm_dlm_app.page.theme import theme

    settings, followers = services.settings, Followers()
    runs = Runs(services, followers)
    blocks = layout(services, runs)
    blocks.max_threads = MAX_RUNNING
    blocks.state_session_capacity = MAX_SESSIONS
    blocks.queue(max_size=MAX_QUEUED, default_concurrency_limit=None)
    # With a policy of its own Gradio adds none, which would let foreign pages read.
    nobody = Middleware(CORSMiddleware, allow_origins=[])
    around = [Middleware(Leaving, followers), Middleware(Below), nobody]
    tools = _tools(services, runs)
    parent = FastAPI(
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        middleware=around,
        lifespan=None if tools is None else lambda _: tools.running(),
    )
    if tools is not None:
        parent.router.routes.extend(tools.routes)
    return gr.mount_gradio_app(
        parent,
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


def _tools(services: Services, runs: Runs) -> Tools | None:
    """For MCP, where it is asked for; its package may be missing where it is not."""
    if not services.settings.page_mcp:
        return None
    from vlm_dlm_app.page.endpoints import NAMES, Endpoints
    from vlm_dlm_app.page.tools import Tools

    return Tools(services, Endpoints(services, runs), NAMES)
