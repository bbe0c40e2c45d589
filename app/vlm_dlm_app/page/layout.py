"""What stands where: a line about the model, then one tab per view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr
from gradio.data_classes import BlocksConfigDict

from vlm_dlm_app.page import blind, chat, compare, endpoints, share, sweep
from vlm_dlm_app.page.about import about_text, model_line
from vlm_dlm_app.page.runs import Runs

if TYPE_CHECKING:
    from vlm_dlm_app.state import Services

CACHE_S = 3600  # what a visitor uploaded is deleted after that


class _Blocks(gr.Blocks):
    """Without the connection that Gradio keeps open to see that a tab is there: browsers have six
    for one server, so the seventh tab would never open. `leaving.py` sees who leaves."""

    def get_config_file(self) -> BlocksConfigDict:
        return {**super().get_config_file(), "connect_heartbeat": False}


def layout(services: Services, runs: Runs) -> gr.Blocks:
    """All views over one server."""
    with _Blocks(
        title="vlm-dlm", analytics_enabled=False, fill_width=True, delete_cache=(600, CACHE_S)
    ) as blocks:
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
        endpoints.add(services, runs)
    return blocks
