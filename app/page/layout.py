"""What stands where: a line about the model, then one tab per view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from app.page import blind, chat, compare, endpoints, share, sweep
from app.page.about import about_text, model_line
from app.page.runs import Runs

if TYPE_CHECKING:
    from app.state import Services

CACHE_S = 3600  # what a visitor uploaded is deleted after that


def layout(services: Services) -> gr.Blocks:
    """All views over one server."""
    runs = Runs(services)
    with gr.Blocks(
        title="vlm-dlm", analytics_enabled=False, fill_width=True, delete_cache=(600, CACHE_S)
    ) as blocks:
        gr.HTML(model_line(services), elem_id="model-line")
        with gr.Tabs(elem_id="views"):
            with gr.Tab("Compare", id="compare"):
                view = compare.add(services)
            with gr.Tab("Sweep", id="sweep"):
                sweep.add(services, view, runs)
            with gr.Tab("Chat", id="chat"):
                chat.add(services, runs)
            with gr.Tab("Blind test", id="blind"):
                blind.add(services, view, runs)
            with gr.Tab("About", id="about"):
                gr.Markdown(about_text(services))
        share.add_deep_link(blocks, view)
        endpoints.add(services, runs)
        blocks.unload(runs.leave)
    return blocks
