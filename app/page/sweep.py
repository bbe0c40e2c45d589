"""The sweep view: a grid of settings on the visitor's own image and question."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.errors import ApiError
from app.page.runs import Runs, checked, shown, visitor_of
from app.page.sweeping import (
    AXES,
    LEAST_AGREEMENT,
    Point,
    Progress,
    best_of,
    grid_of,
    sweep,
    sweepable,
)
from app.schemas.generate import Options, Question

if TYPE_CHECKING:
    from app.page.compare import CompareView
    from app.state import Services

PLACE = "sweep"
THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
BLOCK_LENGTHS = (4, 8, 16, 32, 64)
# Told apart by every kind of colour vision; 3:1 and more against light and dark grounds.
COLOURS = {"tried": "#3a85c8", "best trade-off": "#d55e00"}
HEADERS = ["", "Threshold", "Block", "Tokens/s", "Agreement", "Same as AR", "Tokens/forward"]
# Stands before the Python function: the picture crosses as text, never as a file.
WITH_IMAGE = "async (image, ...rest) => [await vlmDlm.visitor.image(), ...rest]"
INTRO = f"""Answers the question of the Compare view once per combination and holds each answer
against the autoregressive one. **Agreement** is the share of leading tokens that are equal: after
the first difference an answer goes its own way. **Best trade-off** is the fastest combination that
agrees to at least {LEAST_AGREEMENT:.0%}. Each is run once, so small differences are noise."""


def add(services: Services, view: CompareView, runs: Runs) -> None:
    """Fill the current tab."""
    modes = [(info.title, info.name) for info in sweepable(services)]
    gr.Markdown(INTRO)
    with gr.Row():
        with gr.Column(scale=1, min_width=320):
            mode = gr.Dropdown(modes, value=modes[0][1] if modes else None, label="Mode")
            thresholds = gr.CheckboxGroup(
                [f"{value:g}" for value in THRESHOLDS],
                value=["0.7", "0.9", "1"],
                label="Thresholds",
            )
            lengths = gr.CheckboxGroup(
                [str(value) for value in BLOCK_LENGTHS],
                value=["8", "16", "32"],
                label="Block lengths",
            )
            with gr.Row():
                start = gr.Button("Sweep", variant="primary", elem_id="sweep-start")
                stop = gr.Button("Stop", variant="stop", elem_id="sweep-stop")
            progress = gr.HTML(elem_id="sweep-progress")
            apply = gr.Button("Use the best in Compare", interactive=False, elem_id="sweep-apply")
        with gr.Column(scale=2, min_width=320):
            plot = gr.ScatterPlot(
                x="tokens/s",
                y="agreement",
                color="which",
                color_map=COLOURS,
                x_title="Speed (tokens/s)",
                y_title="Agreement with AR",
                color_title=" ",
                y_lim=[0, 1.05],
                tooltip="all",
                label="Speed against agreement",
                elem_id="sweep-plot",
            )
    table = gr.Dataframe(headers=HEADERS, interactive=False, label="All combinations", wrap=False)
    image = gr.Textbox(visible=False)
    points = gr.State([])

    async def run_sweep(
        image: str,
        prompt: str,
        max_tokens: float,
        mode: str,
        thresholds: list[str],
        lengths: list[str],
        request: gr.Request,
    ) -> AsyncGenerator[tuple[Any, ...]]:
        done: Progress | None = None
        try:
            question = question_of(services, image, prompt, int(max_tokens))
            axes = [float(value) for value in thresholds], [int(value) for value in lengths]
            grid = grid_of(services, mode, *axes)
            visitor = visitor_of(request)
            source = sweep(services, visitor, question, mode, grid)
            async for done in runs.follow(visitor, PLACE, source):
                yield _updates(done, is_over=not done.doing)
        except Exception as error:
            if done is not None:
                yield _updates(done, is_over=True)
            raise shown(error) from None
        if done is not None and done.doing:
            yield _updates(done, is_over=True)

    def apply_best(points: list[Point]) -> tuple[Any, ...]:
        best = best_of(points)
        if best is None:
            raise gr.Error("Run a sweep first.", title="Nothing to use yet", print_exception=False)
        gr.Info(f"Compare now uses {best.name}.")
        untouched: dict[str, Any] = {"__type__": "update"}
        return tuple(
            untouched if value is None else value for value in (best.threshold, best.block_length)
        )

    def show_axes(mode: str) -> tuple[Any, ...]:
        found = next(info for info in sweepable(services) if info.name == mode)
        return tuple(gr.update(visible=axis in found.options) for axis in AXES)

    async def stop_sweep(request: gr.Request) -> None:
        runs.stop(visitor_of(request), PLACE)

    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    start.click(
        run_sweep,
        [image, view.prompt, view.max_tokens, mode, thresholds, lengths],
        [progress, plot, table, points, apply],
        js=WITH_IMAGE,
        **private,
    )
    stop.click(stop_sweep, None, None, **private)
    apply.click(apply_best, points, [view.threshold, view.block_length], **private)
    mode.change(show_axes, mode, [thresholds, lengths], **private)


def question_of(services: Services, image: str, prompt: str, max_tokens: int) -> Question:
    """Raises ApiError."""
    if not prompt.strip():
        raise ApiError(400, "bad_input", "write a question in the Compare view first")
    options = Options(max_tokens=min(max_tokens, services.settings.max_tokens_limit))
    return checked(Question, prompt=prompt, images=[image] if image else [], options=options)


def _updates(done: Progress, is_over: bool) -> tuple[Any, ...]:
    best = done.best
    return (
        progress_html(done, is_over),
        _plot(done),
        [_row(point, point == best) for point in done.points],
        list(done.points),
        gr.update(interactive=is_over and best is not None),
    )


def progress_html(done: Progress, is_over: bool) -> str:
    """A bar, and where it stands in words. Every part is ours."""
    num, most = len(done.points), done.num_points
    if is_over:
        words = f"Done: {num} of {most} combinations." if num == most else f"Stopped after {num}."
    else:
        words = f"{num} of {most} done. Now: {done.doing}."
    if done.reference is not None:
        words += f" AR: {done.reference:.1f} tokens/s."
    if is_over and done.best is not None:
        words += f" Best: {done.best.name}."
    return (
        f'<label>{escape(words)}<progress max="{most}" value="{num}" style="width:100%">'
        "</progress></label>"
    )


def _plot(done: Progress) -> Any:
    """Points in the plot's own form. Its colours are only looked at anew with a new caption."""
    whole = [point for point in done.points if point.agreement is not None]
    if not whole:
        return None
    names = {False: "tried", True: "best trade-off"}
    best = done.best
    value = {
        "columns": ["tokens/s", "agreement", "which", "settings"],
        "datatypes": {
            "tokens/s": "quantitative",
            "agreement": "quantitative",
            "which": "nominal",
            "settings": "nominal",
        },
        "data": [
            [point.tokens_per_second, point.agreement, names[point == best], point.name]
            for point in whole
        ],
        "mark": "point",
    }
    return gr.update(value=value, caption=f"{len(whole)} of {done.num_points} combinations")


def _row(point: Point, is_best: bool) -> list[Any]:
    """One line of the table."""
    axes = [
        "-" if value is None else f"{value:g}" for value in (point.threshold, point.block_length)
    ]
    mark = "★ best" if is_best else ""
    if point.agreement is None:
        return [mark, *axes, "-", point.error or "-", "-", "-"]
    return [
        mark,
        *axes,
        f"{point.tokens_per_second:.1f}",
        f"{point.agreement:.0%}",
        "yes" if point.is_identical else "no",
        f"{point.tokens_per_forward:.2f}",
    ]
