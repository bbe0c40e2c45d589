"""The first view: one picture, one question, every mode side by side.

The controls are Gradio's; what runs and what is drawn is in `static/`, which calls `/v1/compare`
as any other client does.
"""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from vlm_dlm_app.answering.modes import OPTION_FIELDS
from vlm_dlm_app.page import charts
from vlm_dlm_app.page.aside import together
from vlm_dlm_app.page.assets import SCRIPT_PATH
from vlm_dlm_app.page.gallery import QUESTIONS, gallery_html, questions_html
from vlm_dlm_app.page.options import PAGE_OPTIONS, PageOption

if TYPE_CHECKING:
    from vlm_dlm_app.state import Services

# Told apart by every kind of colour vision; 3:1 and more against light and dark grounds, as the
# plots have one set for both. `report.css` has the same.
MODE_COLORS = ("#7b8ba3", "#3a85c8", "#d55e00", "#0f9d75", "#c46c9d", "#a5800f")
_PICK = """element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (button) { vlmDlm.compare.pick(button); trigger('click'); }
})"""
_STAGE = "vlmDlm.compare.mount(element.querySelector('#stage'), (data) => trigger('done', data))"


@dataclass(frozen=True, slots=True)
class CompareView:
    """Parts that other views read or set."""

    prompt: gr.Textbox
    modes: gr.CheckboxGroup
    options: tuple[gr.Slider | gr.Dropdown, ...]  # in the order of PAGE_OPTIONS
    max_tokens: gr.Slider
    temperature: gr.Slider
    seed: gr.Number
    num_runs: gr.Slider
    parallel: gr.Checkbox

    @property
    def inputs(self) -> list[Any]:
        """In the order in which `vlmDlm.compare.start` takes them."""
        single = self.max_tokens, self.temperature, self.seed, self.num_runs, self.parallel
        return [self.prompt, self.modes, *single, *self.options]


def add(services: Services) -> CompareView:
    """Fill the current tab."""
    with gr.Row(elem_id="compare-view"):
        with gr.Column(scale=1, min_width=300, elem_id="controls"):
            image, prompt = _question()
            with gr.Row(elem_id="buttons"):
                start = gr.Button(
                    "Compare", variant="primary", elem_id="start", scale=2, min_width=120
                )
                stop = gr.Button("Stop", elem_id="stop", scale=1, min_width=80)
            view = _settings(services, prompt)
        with gr.Column(scale=3, min_width=320):
            stage = gr.HTML(
                _stage_html(services),
                head=f'<script src="{SCRIPT_PATH.removeprefix("/")}"></script>',
                js_on_load=_STAGE,
                elem_id="stage-box",
            )
            _charts(stage, [info.title for info in services.engine.capabilities.modes])
    image.change(None, image, None, js="(image) => { vlmDlm.compare.setImage(image); }")
    go = "(...values) => { vlmDlm.compare.start(...values); }"
    start.click(None, view.inputs, None, js=go)
    prompt.submit(None, view.inputs, None, js=go)
    stop.click(None, None, None, js="() => { vlmDlm.compare.stop(); }")
    return view


def _question() -> tuple[gr.Image, gr.Textbox]:
    """The image and what is asked about it, with examples of both."""
    image = gr.Image(
        label="Image",
        type="filepath",
        sources=["upload", "clipboard", "webcam"],
        elem_id="image",
        height=220,
        placeholder="Drop an image, paste one, or take an example",
    )
    gallery = gr.HTML(gallery_html(), js_on_load=_PICK, elem_id="gallery")
    prompt = gr.Textbox(QUESTIONS[0], label="Question", lines=2, max_lines=6, elem_id="prompt")
    questions = gr.HTML(questions_html(), js_on_load=_PICK, elem_id="questions")
    gallery.click(None, None, image, js="() => vlmDlm.compare.picked")
    questions.click(None, None, prompt, js="() => vlmDlm.compare.picked")
    return image, prompt


def _settings(services: Services, prompt: gr.Textbox) -> CompareView:
    """Which modes run and how."""
    offered = [(info.title, info.name) for info in services.engine.capabilities.modes]
    most = services.settings.max_tokens_limit
    modes = gr.CheckboxGroup(
        offered, value=[name for _, name in offered], label="Modes", elem_id="modes"
    )
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        options = tuple(_option(option) for option in PAGE_OPTIONS)
        max_tokens = gr.Slider(
            0,
            max(8, min(1024, most)),
            0,
            step=8,
            label="Most tokens",
            info="Of an answer; 0 takes what fits",
            elem_id="most",
        )
        temperature = gr.Slider(
            0.0,
            1.5,
            0.0,
            step=0.1,
            label="Temperature",
            info="0 takes the likeliest token; above it the modes draw differently",
            elem_id="temperature",
        )
        seed = gr.Number(None, label="Seed", precision=0, minimum=0, elem_id="seed")
        num_runs = gr.Slider(
            1, 9, 1, step=1, label="Runs", info="Speeds are then medians", elem_id="runs"
        )
        parallel = gr.Checkbox(
            False, label="All modes at once (speeds then say little)", elem_id="parallel"
        )
    return CompareView(prompt, modes, options, max_tokens, temperature, seed, num_runs, parallel)


def _option(option: PageOption) -> gr.Slider | gr.Dropdown:
    """The control of an option that modes have."""
    if option.is_flag:
        return gr.Dropdown(
            option.choices,
            value=option.rest,
            label=option.label,
            info=option.info,
            elem_id=option.elem_id,
        )
    return gr.Slider(
        option.rest,
        option.high,
        option.rest,
        step=option.step,
        label=option.label,
        info=f"{option.info}; {option.rest:g} takes what suits each mode",
        elem_id=option.elem_id,
    )


def _stage_html(services: Services) -> str:
    """Where the panels go, with what the scripts must know about the modes."""
    modes = [
        {
            "name": info.name,
            "title": info.title,
            "summary": info.summary,
            "is_lossless": services.is_lossless(info.name),
            "options": [OPTION_FIELDS[name] for name in info.options if name in OPTION_FIELDS],
            "color": MODE_COLORS[i % len(MODE_COLORS)],
        }
        for i, info in enumerate(services.engine.capabilities.modes)
    ]
    keys = str(bool(services.settings.api_keys)).lower()
    return f'<div id="stage" data-modes="{escape(json.dumps(modes))}" data-keys="{keys}"></div>'


def _charts(stage: gr.HTML, titles: list[str]) -> None:
    """Native plots, filled when a comparison is done."""
    colors = {title: MODE_COLORS[i % len(MODE_COLORS)] for i, title in enumerate(titles)}
    key = "".join(
        f'<span class="vd-key"><i class="vd-mode-dot" style="--vd-mode: {color}"></i>'
        f"{escape(title)}</span>"
        for title, color in colors.items()
    )
    with gr.Column(visible=False, elem_id="charts") as box:
        gr.HTML(f'<div class="vd vd-legend">{key}</div>', elem_id="charts-key")
        line = gr.LinePlot(
            x="milliseconds",
            y="tokens",
            color="mode",
            color_map=colors,
            title="Tokens over time",
            x_title="ms since the prompt was ready",
            colors_in_legend=[],
            height=260,
        )
        with gr.Row():
            speed, each = (
                gr.BarPlot(
                    x="mode",
                    y="value",
                    color="mode",
                    color_map=colors,
                    title=title,
                    x_title=" ",
                    y_title=" ",
                    sort=titles,
                    y_lim=[0, None],
                    x_label_angle=-20,
                    colors_in_legend=[],
                    height=240,
                    min_width=280,
                )
                for title in ("Tokens per second", "Tokens per forward pass")
            )

    def fill(event: gr.EventData) -> tuple[Any, ...]:
        done: Any = together(event._data)  # pyright: ignore[reportPrivateUsage]
        return (
            gr.update(visible=True),
            charts.tokens_over_time(done),
            charts.bars(done, "tokens_per_second"),
            charts.bars(done, "tokens_per_forward"),
        )

    stage.done(
        fill,
        None,
        [box, line, speed, each],
        show_progress="hidden",
        api_visibility="private",
    )
