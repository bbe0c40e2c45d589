"""The sweep view: a grid of settings on the visitor's own image and question."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from vlm_dlm_app.answering.intake import ask_of
from vlm_dlm_app.page import image_line
from vlm_dlm_app.page.runs import Runs, shown, visitor_of
from vlm_dlm_app.page.speeds import TOO_SHORT
from vlm_dlm_app.page.sweeping import (
    AXES,
    LEAST_AGREEMENT,
    Point,
    Progress,
    best_of,
    grid_of,
    left_out,
    sweep,
    sweepable,
)
from vlm_dlm_app.page.trial import WITH_IMAGE, question_of

if TYPE_CHECKING:
    from vlm_dlm_app.page.compare import CompareView
    from vlm_dlm_app.state import Services

PLACE = "sweep"
RUNNING, OVER = "", "Done"  # else it says how it ended
THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
BLOCK_LENGTHS = (4, 8, 16, 32)
# Told apart by every kind of colour vision; 3:1 and more against light and dark grounds.
COLOURS = {"tried": "#3a85c8", "best trade-off": "#d55e00"}
HEADERS = ["", "Threshold", "Block", "Tokens/s", "Agreement", "Same as AR", "Tokens/forward"]
INTRO = f"""Answers the question of the Compare view once per combination and holds each answer
against the autoregressive one. **Agreement** is the share of leading tokens that are equal: after
the first difference an answer goes its own way. **Best trade-off** is the fastest combination that
agrees to at least {LEAST_AGREEMENT:.0%}. Each is run once, so small differences are noise."""


def add(services: Services, view: CompareView, runs: Runs) -> None:
    """Fill the current tab."""
    own, does = _View(services), _Sweep(services, runs)
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    own.start.click(
        does.run_sweep,
        [own.image, view.prompt, view.max_tokens, own.mode, own.thresholds, own.lengths],
        [own.progress, own.plot, own.table, own.points, own.apply, own.stop],
        js=WITH_IMAGE,
        **private,
    )
    own.stop.click(does.stop_sweep, None, None, **private)
    own.apply.click(apply_best, own.points, [view.threshold, view.block_length], **private)
    own.mode.change(does.show_axes, own.mode, [own.thresholds, own.lengths], **private)


class _View:
    """The parts on the screen."""

    def __init__(self, services: Services) -> None:
        gr.Markdown(INTRO)
        image_line.add("sweep")
        with gr.Row():
            with gr.Column(scale=1, min_width=320):
                self._add_controls([(info.title, info.name) for info in sweepable(services)])
            with gr.Column(scale=2, min_width=320):
                self.plot = _scatter_plot()
        self.table = gr.Dataframe(
            headers=HEADERS, interactive=False, label="All combinations", wrap=False
        )
        self.image = gr.Textbox(visible=False)
        self.points = gr.State([])

    def _add_controls(self, modes: list[tuple[str, str]]) -> None:
        self.mode = gr.Dropdown(modes, value=modes[0][1] if modes else None, label="Mode")
        self.thresholds = gr.CheckboxGroup(
            [f"{value:g}" for value in THRESHOLDS], value=["0.7", "0.9", "1"], label="Thresholds"
        )
        self.lengths = gr.CheckboxGroup(
            [str(value) for value in BLOCK_LENGTHS], value=["8", "16", "32"], label="Block lengths"
        )
        with gr.Row():
            self.start = gr.Button("Sweep", variant="primary", elem_id="sweep-start")
            self.stop = gr.Button("Stop", interactive=False, elem_id="sweep-stop")
        self.progress = gr.HTML(elem_id="sweep-progress")
        self.apply = gr.Button("Use the best in Compare", interactive=False, elem_id="sweep-apply")


def _scatter_plot() -> gr.ScatterPlot:
    return gr.ScatterPlot(
        x="tokens/s",
        y="agreement",
        color="which",
        color_map=COLOURS,
        x_title="Speed (tokens/s)",
        y_title="Agreement with AR",
        color_title=" ",
        y_lim=[0, 1.15],
        tooltip="all",
        label="Speed against agreement",
        elem_id="sweep-plot",
    )


class _Sweep:
    """What the buttons do."""

    def __init__(self, services: Services, runs: Runs) -> None:
        self._services = services
        self._runs = runs

    async def run_sweep(
        self,
        image: str,
        prompt: str,
        max_tokens: float,
        mode: str,
        thresholds: list[str],
        lengths: list[str],
        request: gr.Request,
    ) -> AsyncGenerator[tuple[Any, ...]]:
        """All combinations, one after another. What is there when it ends early stays."""
        done: Progress | None = None
        note = ""
        try:
            question = question_of(self._services, image, prompt, int(max_tokens))
            ask = ask_of(self._services, question, ())
            axes = [float(value) for value in thresholds], [int(value) for value in lengths]
            grid = grid_of(self._services, mode, *axes)
            note = left_out(self._services, mode, axes[1])
            visitor = visitor_of(request)
            source = sweep(self._services, visitor, ask, mode, grid)
            async for done in self._runs.follow(visitor, PLACE, source):
                yield _updates(done, RUNNING if done.doing else OVER, note)
        except Exception as error:
            if done is not None:
                yield _updates(done, "Broke off", note)
            raise shown(error) from None
        if done is not None and done.doing:
            yield _updates(done, "Stopped", note)

    async def stop_sweep(self, request: gr.Request) -> None:
        """End the visitor's sweep."""
        self._runs.stop(visitor_of(request), PLACE)

    def show_axes(self, mode: str) -> tuple[Any, ...]:
        """Only what the mode has."""
        found = next(info for info in sweepable(self._services) if info.name == mode)
        return tuple(gr.update(visible=axis in found.options) for axis in AXES)


def apply_best(points: list[Point]) -> tuple[Any, ...]:
    """Threshold and block length for the Compare view; what the mode lacks stays as it is there."""
    best = best_of(points)
    if best is None:
        raise gr.Error("Run a sweep first.", title="Nothing to use yet", print_exception=False)
    gr.Info(f"Compare now uses {best.name}.")
    untouched: dict[str, Any] = {"__type__": "update"}
    return tuple(
        untouched if value is None else value for value in (best.threshold, best.block_length)
    )


def _updates(done: Progress, end: str, note: str) -> tuple[Any, ...]:
    best, is_over = done.best, end != RUNNING
    return (
        progress_html(done, end, note),
        _plot(done),
        [_row(point, point == best) for point in done.points],
        list(done.points),
        gr.update(interactive=is_over and best is not None),
        gr.update(interactive=not is_over),
    )


def progress_html(done: Progress, end: str, note: str = "") -> str:
    """A bar, and where it stands in words, all of them ours. end: RUNNING, OVER, or how it ended
    before it was over. note: one more sentence."""
    num, most = len(done.points), done.num_points
    if end == RUNNING:
        words = f"{num} of {most} done. Now: {done.doing}."
    elif end == OVER:
        words = f"Done: {num} of {most} combinations."
    else:
        words = f"{end} after {num} of {most}." if num else f"{end} before the first was done."
    if done.reference is not None:
        words += f" AR: {done.reference:.1f} tokens/s."
    if end != RUNNING and done.best is not None:
        words += f" Best: {done.best.name}."
    words += f" {note}" if note else ""
    return f'<label>{escape(words)}<progress max="{most}" value="{num}"></progress></label>'


def _plot(done: Progress) -> Any:
    """Points in the plot's own form. Its colours are only looked at anew with a new caption."""
    whole = [point for point in done.points if point.tokens_per_second is not None]
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
        TOO_SHORT if point.tokens_per_second is None else f"{point.tokens_per_second:.1f}",
        f"{point.agreement:.0%}",
        "yes" if point.is_identical else "no",
        f"{point.tokens_per_forward:.2f}",
    ]
