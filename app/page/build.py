"""Puts the page together. Imports Gradio, which takes seconds: for a worker thread."""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from app.page.assets import style

if TYPE_CHECKING:
    from app.state import Services

MAX_QUEUED = 64
# Of functions, not threads: ours run in the event loop. Every one that waits for the engine has a
# place, and a Stop button needs one more.
MAX_RUNNING = 512


def build_page(services: Services) -> FastAPI:
    """An application that serves the page at `/`, with a lifespan of its own."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr

    from app.page.layout import layout
    from app.page.theme import theme

    settings = services.settings
    blocks = layout(services)
    blocks.max_threads = MAX_RUNNING
    blocks.queue(max_size=MAX_QUEUED, default_concurrency_limit=None)
    # With a policy of its own Gradio adds none, which would let foreign pages read.
    nobody = Middleware(CORSMiddleware, allow_origins=[])
    parent = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, middleware=[nobody])
    return gr.mount_gradio_app(
        parent,
        blocks,
        path="/",
        footer_links=["api", "settings"],
        run_history=False,
        show_error=False,
        max_file_size=settings.max_image_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=settings.page_mcp,
        theme=theme(),
        css=style(),
    )
