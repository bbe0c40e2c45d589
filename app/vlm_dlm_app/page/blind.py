"""The blind test: two answers without names, a vote, and only then which mode wrote which.

The votes stay in the visitor's browser.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import gradio as gr

from vlm_dlm_app.answering.compare_run import judge_of
from vlm_dlm_app.answering.intake import ask_of
from vlm_dlm_app.answering.start import start_comparison
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.page import image_line
from vlm_dlm_app.page.chatting import figures_line, modes_of, title_of
from vlm_dlm_app.page.options import given_options, in_words
from vlm_dlm_app.page.runs import Runs, Visitor, shown, visitor_of
from vlm_dlm_app.page.speeds import speed_of
from vlm_dlm_app.page.trial import WITH_IMAGE, own_params, question_of
from vlm_dlm_app.page.votes import (
    CHOICES,
    COLUMNS,
    MAX_QUESTION_CHARS,
    MAX_VOTES,
    as_csv,
    read_votes,
    tally,
)
from vlm_dlm_app.schemas.compare import ModeResult
from vlm_dlm_app.schemas.generate import Question

if TYPE_CHECKING:
    from vlm_dlm_app.page.compare import CompareView
    from vlm_dlm_app.state import Services

PLACE = "blind"
TALLY = ["Mode", "Shown", "Won", "Lost", "No difference"]
INTRO = (
    f"Two modes answer the question of the Compare view, with its most tokens, {in_words()}. "
    "You see both answers when both are whole, so that speed gives nothing away; vote, and the "
    "names appear. Lossless modes write the same text as each other: *no difference* is then the "
    "right vote. Votes stay in this browser."
)
_DOWNLOAD = "(text) => { vlmDlm.visitor.download(text, 'blind-test.csv', 'text/csv'); }"


@dataclass(frozen=True, slots=True)
class Round:
    """One pair of answers.

    results: of A and B.
    num_done: how many are written.
    """

    question: str
    results: tuple[ModeResult, ...] = ()
    num_done: int = 0


async def play(
    services: Services,
    visitor: Visitor,
    question: Question,
    pool: list[str],
    options: Mapping[str, Any],
) -> AsyncGenerator[Round]:
    """Draws two modes and lets them answer; the last round has both results, in hidden order.
    options: by the engine's names, for those that have them.

    Raises ApiError or VlmDlmError; an answer that fails fails the round.
    """
    # Checked for all, so that a value which one cannot run is not refused by chance.
    params = {
        info.name: own_params(info, options) for info in modes_of(services) if info.name in pool
    }
    offered = list(params)
    if len(offered) < 2:
        raise ApiError("bad_input", "choose at least two modes to draw from")
    drawn = random.sample(offered, 2)
    yield Round(question.prompt)
    entries = {mode: (mode, params[mode]) for mode in drawn}
    ask = ask_of(services, question, ())
    comparison = await start_comparison(services, ask, entries, visitor.client, visitor.request_id)
    num_done = 0
    async with aclosing(comparison.steps()) as steps:
        async for step in steps:
            if isinstance(step.event, ApiError):
                raise step.event
            if step.is_last:
                num_done += 1
                yield Round(question.prompt, num_done=num_done)
    judge = judge_of(services, comparison)
    for run in comparison.runs.values():
        run.answer.finished()  # raises what stopped it
    random.shuffle(drawn)
    yield Round(question.prompt, tuple(judge.result(mode) for mode in drawn), num_done)


def vote_of(round_: Round, choice: str) -> dict[str, Any]:
    """A vote as it is remembered."""
    a, b = round_.results
    winner = {CHOICES[0]: a.mode, CHOICES[1]: b.mode}.get(choice, "")
    speeds = [_speed(one) for one in (a, b)]
    time = datetime.now(UTC).isoformat(timespec="seconds")
    question = round_.question[:MAX_QUESTION_CHARS]
    values = time, question, choice, winner, a.mode, b.mode, *speeds, a.text == b.text
    return dict(zip(COLUMNS, values, strict=True))


def _speed(result: ModeResult) -> float | None:
    metrics = result.metrics
    return None if metrics is None else speed_of(result.num_tokens, metrics.tokens_per_second)


def reveal(services: Services, round_: Round, choice: str) -> str:
    """Markdown of names and figures; none of it is the visitor's or the model's text."""
    lines = [f"You voted **{choice}**."]
    for label, result in zip("AB", round_.results, strict=True):
        title = title_of(services, result.mode)
        line = title
        if result.metrics is not None:
            # The one that was drawn first paid for image and prompt, so the start says nothing.
            line = figures_line(title, result.num_tokens, result.metrics, has_first=False)
        lines.append(f"**{label}** was {line}")
    if round_.results[0].text == round_.results[1].text:
        lines.append("Both wrote the same text.")
    return "\n\n".join(lines)


def add(services: Services, view: CompareView, runs: Runs) -> None:
    """Fill the current tab."""
    own, does = _View(services), _BlindTest(services, runs)
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    own.start.click(
        does.start_round,
        [own.image, view.prompt, view.max_tokens, own.pool, *view.options],
        [own.current, own.status, *own.texts, own.revealed, own.stop, *own.buttons],
        js=WITH_IMAGE,
        **private,
    )
    own.stop.click(does.stop_round, None, None, **private)
    outputs = [own.current, own.votes, own.revealed, own.table, own.status, *own.buttons]
    for choice, button in zip(CHOICES, own.buttons, strict=True):
        button.click(does.vote_for(choice), [own.current, own.votes], outputs, **private)
    own.votes.change(does.count, own.votes, own.table, **private)
    own.export.click(to_csv, own.votes, own.csv_text, **private).then(
        None, own.csv_text, None, js=_DOWNLOAD
    )
    own.forget.click(forget_votes, None, [own.votes, own.table], **private)


class _View:
    """The parts on the screen."""

    def __init__(self, services: Services) -> None:
        modes = [(info.title, info.name) for info in modes_of(services)]
        # The browser's own store; what Gradio encrypts it with has nothing to protect here, but
        # must stay the same, or votes would not outlive the server.
        self.votes = gr.BrowserState([], storage_key="vlm-dlm-votes", secret="vlm-dlm")
        gr.Markdown(INTRO)
        image_line.add("blind")
        self.pool = gr.CheckboxGroup(modes, value=[name for _, name in modes], label="Draw from")
        with gr.Row():
            self.start = gr.Button("New pair", variant="primary", elem_id="blind-start")
            self.stop = gr.Button("Stop", interactive=False, elem_id="blind-stop")
        self.status = gr.Markdown("", elem_id="blind-status")
        with gr.Row():
            self.texts = [
                gr.Textbox(label=f"Answer {label}", lines=6, interactive=False, min_width=320)
                for label in CHOICES[:2]
            ]
        with gr.Row():
            self.buttons = [
                gr.Button(name, interactive=False, elem_id=f"blind-vote-{index}")
                for index, name in enumerate(("A is better", "B is better", "No difference"))
            ]
        self.revealed = gr.Markdown("", elem_id="blind-reveal")
        self.table = gr.Dataframe(headers=TALLY, interactive=False, label="Your votes so far")
        with gr.Row():
            self.export = gr.Button("Download votes (CSV)", size="sm", elem_id="blind-export")
            self.forget = gr.Button("Forget all votes", size="sm", elem_id="blind-forget")
        self.image = gr.Textbox(visible=False)
        self.csv_text = gr.Textbox(visible=False)
        self.current = gr.State(None)


class _BlindTest:
    """What the buttons do."""

    def __init__(self, services: Services, runs: Runs) -> None:
        self._services = services
        self._runs = runs
        self._titles = {info.name: info.title for info in modes_of(services)}

    async def start_round(
        self,
        image: str,
        prompt: str,
        max_tokens: float,
        pool: list[str],
        request: gr.Request,
        *places: Any,
    ) -> AsyncGenerator[list[Any]]:
        """Two answers; the page gets the texts alone."""
        done: Round | None = None
        try:
            visitor = visitor_of(request)
            question = question_of(self._services, image, prompt, int(max_tokens))
            source = play(self._services, visitor, question, pool, given_options(places))
            async for done in self._runs.follow(visitor, PLACE, source):
                yield _round_update(done)
        except Exception as error:
            yield _round_update(None, "")
            raise shown(error) from None
        if done is None or not done.results:
            yield _round_update(None, "Stopped.")

    async def stop_round(self, request: gr.Request) -> None:
        """End the visitor's pair."""
        self._runs.stop(visitor_of(request), PLACE)

    def count(self, stored: Any) -> list[list[Any]]:
        """The table of what the browser remembers."""
        return tally(read_votes(stored), self._titles)

    def vote_for(self, choice: str) -> Callable[[Round | None, Any], list[Any]]:
        """What one of the three buttons does."""

        def vote(round_: Round | None, stored: Any) -> list[Any]:
            kept = read_votes(stored)
            if round_ is None:
                raise gr.Error("Start a new pair first.", title="No pair", print_exception=False)
            kept = [*kept, vote_of(round_, choice)][-MAX_VOTES:]
            told = reveal(self._services, round_, choice)
            return [None, kept, told, tally(kept, self._titles), "", *_switched(False)]

        return vote


def _round_update(done: Round | None, words: str = "") -> list[Any]:
    """Votes can be cast once both answers are there."""
    if done is None or not done.results:
        shown_words = words if done is None else f"{done.num_done} of 2 are written …"
        stop = gr.update(interactive=done is not None)
        return [None, shown_words, "", "", "", stop, *_switched(False)]
    texts = [result.text for result in done.results]
    stop = gr.update(interactive=False)
    return [done, "Which is better?", *texts, "", stop, *_switched(True)]


def _switched(is_on: bool) -> list[Any]:
    return [gr.update(interactive=is_on) for _ in CHOICES]


def to_csv(stored: Any) -> str:
    """All votes as a file's text."""
    return as_csv(read_votes(stored))


def forget_votes() -> tuple[list[Any], list[Any]]:
    """No votes, and an empty table."""
    return [], []
