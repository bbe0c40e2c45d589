"""The sweep view: a grid of settings on the visitor's own image and question."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from vlm_dlm_app.answering.intake import ask_of
from vlm_dlm_app.page import image_line
from vlm_dlm_app.page.options import PAGE_OPTIONS
from vlm_dlm_app.page.runs import Runs, shown, visitor_of
from vlm_dlm_app.page.speeds import TOO_SHORT
from vlm_dlm_app.page.sweeping import (
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
    from vlm_dlm.engine.base import ModeInfo
    from vlm_dlm_app.page.compare import CompareView
    from vlm_dlm_app.state import Services

PLACE = "sweep"
RUNNING, OVER = "", "Done"  # else it says how it ended
# Told apart by every kind of colour vision; 3:1 and more against light and dark grounds.
COLOURS = {"tried": "#3a85c8", "best trade-off": "#d55e00"}
FIGURES = ["Tokens/s", "Agreement", "Same as AR", "Tokens/forward"]
HEADERS = ["", *(option.short.capitalize() for option in PAGE_OPTIONS), *FIGURES]
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
        [own.image, view.prompt, view.max_tokens, own.mode, *own.axes],
        [own.progress, own.plot, own.table, own.points, own.apply, own.stop],
        js=WITH_IMAGE,
        **private,
    )
    own.stop.click(does.stop_sweep, None, None, **private)
    own.apply.click(apply_best, own.points, list(view.options), **private)
    own.mode.change(does.show_axes, own.mode, own.axes, **private)


class _View:
    """The parts on the screen."""

    def __init__(self, services: Services) -> None:
        gr.Markdown(INTRO)
        image_line.add("sweep")
        with gr.Row():
            with gr.Column(scale=1, min_width=320):
                self._add_controls(sweepable(services))
            with gr.Column(scale=2, min_width=320):
                self.plot = _scatter_plot()
        self.table = gr.Dataframe(
            headers=HEADERS, interactive=False, label="All combinations", wrap=False
        )
        self.image = gr.Textbox(visible=False)
        self.points = gr.State([])

    def _add_controls(self, modes: list[ModeInfo]) -> None:
        first = modes[0] if modes else None
        names = [(info.title, info.name) for info in modes]
        self.mode = gr.Dropdown(names, value=first and first.name, label="Mode")
        self.axes = [
            gr.CheckboxGroup(
                [option.words(value) for value in option.sweep],
                value=[option.words(value) for value in option.sweep_first],
                label=option.axis_label,
                visible=first is None or option.name in first.options,
            )
            for option in PAGE_OPTIONS
        ]
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
        request: gr.Request,
        *axes: list[str],
    ) -> AsyncGenerator[tuple[Any, ...]]:
        """All combinations, one after another. What is there when it ends early stays."""
        done: Progress | None = None
        note = ""
        try:
            question = question_of(self._services, image, prompt, int(max_tokens))
            ask = ask_of(self._services, question, ())
            values = {
                option.name: [option.read(words) for words in chosen]
                for option, chosen in zip(PAGE_OPTIONS, axes, strict=True)
            }
            grid = grid_of(self._services, mode, values)
            note = left_out(self._services, mode, values)
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
        return tuple(gr.update(visible=option.name in found.options) for option in PAGE_OPTIONS)


def apply_best(points: list[Point]) -> tuple[Any, ...]:
    """Places of the Compare view's controls; what the mode lacks stays as it is there."""
    best = best_of(points)
    if best is None:
        raise gr.Error("Run a sweep first.", title="Nothing to use yet", print_exception=False)
    gr.Info(f"Compare now uses {best.name}.")
    untouched: dict[str, Any] = {"__type__": "update"}
    values = [(option, best.value_of(option)) for option in PAGE_OPTIONS]
    return tuple(untouched if value is None else o.place(value) for o, value in values)


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
    values = [(option, point.value_of(option)) for option in PAGE_OPTIONS]
    axes = ["-" if value is None else option.words(value) for option, value in values]
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
