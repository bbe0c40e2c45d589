"""The first view: one picture, one question, every mode side by side.

The controls are Gradio's; what runs and what is drawn is in `static/`, which calls `/v1/compare`
as any other client does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from app.page.assets import SCRIPT_PATH

if TYPE_CHECKING:
    from app.state import Services

EXAMPLES = Path(__file__).resolve().parents[2] / "assets" / "examples"
PROMPTS = ("Describe the image.", "How many objects are there?", "What is written in the image?")


@dataclass(frozen=True, slots=True)
class CompareView:
    """Parts that other views read or set."""

    prompt: gr.Textbox
    threshold: gr.Slider
    block_length: gr.Slider
    max_tokens: gr.Slider
    record: gr.JSON


def add(services: Services) -> CompareView:
    """Fill the current tab."""
    modes = [(info.title, info.name) for info in services.engine.capabilities.modes]
    with gr.Row():
        with gr.Column(scale=1, min_width=320):
            image = gr.Image(
                label="Image",
                type="filepath",
                sources=["upload", "clipboard", "webcam"],
                elem_id="image",
                height=260,
            )
            prompt = gr.Textbox(PROMPTS[0], label="Question", lines=2, elem_id="prompt")
            chosen = gr.CheckboxGroup(
                modes, value=[name for _, name in modes], label="Modes", elem_id="modes"
            )
            with gr.Accordion("Settings", open=False):
                threshold = gr.Slider(0.05, 1.0, 0.9, step=0.05, label="Threshold")
                block_length = gr.Slider(4, 64, 32, step=4, label="Block length")
                max_tokens = gr.Slider(8, 1024, 256, step=8, label="Most tokens")
                num_runs = gr.Slider(1, 9, 1, step=1, label="Runs (median of)")
                parallel = gr.Checkbox(False, label="All modes at once (speeds then say little)")
            with gr.Row():
                start = gr.Button("Compare", variant="primary", elem_id="start")
                stop = gr.Button("Stop", variant="stop", elem_id="stop")
        with gr.Column(scale=3, min_width=320):
            gr.HTML(
                "<div id='stage'></div>",
                head=f'<script src="{SCRIPT_PATH.removeprefix("/")}"></script>',
                js_on_load="window.vlmDlm.compare.mount(element.querySelector('#stage'), trigger)",
            )
    record = gr.JSON(visible=False, elem_id="record")
    inputs = [prompt, chosen, threshold, block_length, max_tokens, num_runs, parallel]
    image.change(None, image, None, js="(image) => { vlmDlm.compare.setImage(image); }")
    start.click(None, inputs, None, js="(...values) => { vlmDlm.compare.start(...values); }")
    stop.click(None, None, None, js="() => { vlmDlm.compare.stop(); }")
    return CompareView(prompt, threshold, block_length, max_tokens, record)
