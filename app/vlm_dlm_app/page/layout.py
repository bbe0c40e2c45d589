"""What stands where: a line about the model, then one tab per view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from vlm_dlm_app.page import blind, chat, compare, endpoints, share, sweep
from vlm_dlm_app.page.about import about_text, model_line
from vlm_dlm_app.page.own_blocks import OwnBlocks
from vlm_dlm_app.page.runs import Runs

if TYPE_CHECKING:
    from vlm_dlm_app.page.uploads import Uploads
    from vlm_dlm_app.state import Services


def layout(services: Services, runs: Runs, uploads: Uploads) -> gr.Blocks:
    """All views over one server."""
    with OwnBlocks(title="vlm-dlm", analytics_enabled=False, fill_width=True) as blocks:
        gr.HTML(model_line(services), elem_id="model-line")
        with gr.Tabs(elem_id="views"):
            with gr.Tab("Compare", id="compare"):
                view = compare.add(services)
            with gr.Tab("Sweep", id="sweep"):
                sweep.add(services, view, runs)
            with gr.Tab("Chat", id="chat"):
                chat.add(services, view, runs)
            with gr.Tab("Blind test", id="blind"):
                blind.add(services, view, runs)
            with gr.Tab("About", id="about"):
                gr.Markdown(about_text(services))
        share.add_deep_link(blocks, view)
        endpoints.add(services, runs, uploads)
    return blocks
