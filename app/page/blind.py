"""The blind test: two answers without names, a vote, and only then which mode wrote which.

The votes stay in the visitor's browser.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.errors import ApiError
from app.page.chatting import figures_line, modes_of, title_of
from app.page.runs import Runs, Visitor, shown, visitor_of
from app.page.sweep import WITH_IMAGE, question_of
from app.page.trial import begin_trial, judge_of
from app.page.votes import CHOICES, COLUMNS, MAX_VOTES, as_csv, read_votes, tally
from app.schemas.compare import ModeResult
from app.schemas.generate import Question
from vlm_dlm.events import Started, is_terminal
from vlm_dlm.preflight import mode_params

if TYPE_CHECKING:
    from app.page.compare import CompareView
    from app.state import Services

PLACE = "blind"
TALLY = ["Mode", "Shown", "Won", "Lost", "No difference"]
INTRO = (
    "Two modes answer the question of the Compare view. You see both answers when both are whole, "
    "so that speed gives nothing away; vote, and the names appear. Lossless modes write the same "
    "text as each other: *no difference* is then the right vote. Votes stay in this browser."
)
_DOWNLOAD = "(text) => { vlmDlm.visitor.download(text, 'blind-test.csv', 'text/csv'); }"


@dataclass(frozen=True, slots=True)
class Round:
    """One pair of answers. results: of A and B. number: of those that are written."""

    question: str
    results: tuple[ModeResult, ...] = ()
    num_done: int = 0


async def play(
    services: Services, visitor: Visitor, question: Question, pool: list[str]
) -> AsyncGenerator[Round]:
    """Draws two modes and lets them answer; the last round has both results, in hidden order.

    Raises ApiError or VlmDlmError; an answer that fails fails the round.
    """
    offered = [info.name for info in modes_of(services) if info.name in pool]
    if len(offered) < 2:
        raise ApiError(400, "bad_input", "choose at least two modes to draw from")
    drawn = random.sample(offered, 2)
    yield Round(question.prompt)
    entries = {mode: (mode, mode_params([mode], {})[mode]) for mode in drawn}
    comparison = await begin_trial(services, visitor, question, entries)
    num_done = 0
    async with aclosing(comparison.steps()) as steps:
        async for step in steps:
            if isinstance(step.event, ApiError):
                raise step.event
            if not isinstance(step.event, Started) and is_terminal(step.event):
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
    speeds = [0.0 if one.metrics is None else one.metrics.tokens_per_second for one in (a, b)]
    time = datetime.now(UTC).isoformat(timespec="seconds")
    values = time, round_.question, choice, winner, a.mode, b.mode, *speeds, a.text == b.text
    return dict(zip(COLUMNS, values, strict=True))


def reveal(services: Services, round_: Round, choice: str) -> str:
    """Markdown of names and figures; none of it is the visitor's or the model's text."""
    lines = [f"You voted **{choice}**."]
    for label, result in zip("AB", round_.results, strict=True):
        title = title_of(services, result.mode)
        line = title
        if result.metrics is not None:
            line = figures_line(title, result.num_tokens, result.metrics)
        lines.append(f"**{label}** was {line}")
    if round_.results[0].text == round_.results[1].text:
        lines.append("Both wrote the same text.")
    return "\n\n".join(lines)


def add(services: Services, view: CompareView, runs: Runs) -> None:
    """Fill the current tab."""
    modes = [(info.title, info.name) for info in modes_of(services)]
    titles = {name: title for title, name in modes}
    votes = gr.BrowserState([], storage_key="vlm-dlm-votes", secret="vlm-dlm")
    gr.Markdown(INTRO)
    pool = gr.CheckboxGroup(modes, value=[name for _, name in modes], label="Draw from")
    with gr.Row():
        start = gr.Button("New pair", variant="primary", elem_id="blind-start")
        stop = gr.Button("Stop", variant="stop", elem_id="blind-stop")
    status = gr.Markdown("", elem_id="blind-status")
    with gr.Row():
        texts = [
            gr.Textbox(label=f"Answer {label}", lines=6, interactive=False, min_width=320)
            for label in CHOICES[:2]
        ]
    with gr.Row():
        names = ("A is better", "B is better", "No difference")
        buttons = [
            gr.Button(name, interactive=False, elem_id=f"blind-vote-{index}")
            for index, name in enumerate(names)
        ]
    revealed = gr.Markdown("", elem_id="blind-reveal")
    table = gr.Dataframe(headers=TALLY, interactive=False, label="Your votes so far")
    with gr.Row():
        export = gr.Button("Download votes (CSV)", size="sm", elem_id="blind-export")
        forget = gr.Button("Forget all votes", size="sm", elem_id="blind-forget")
    image = gr.Textbox(visible=False)
    csv_text = gr.Textbox(visible=False)
    current = gr.State(None)

    def switched(is_on: bool) -> list[Any]:
        return [gr.update(interactive=is_on) for _ in buttons]

    async def start_round(
        image: str, prompt: str, max_tokens: float, pool: list[str], request: gr.Request
    ) -> AsyncGenerator[list[Any]]:
        done: Round | None = None
        try:
            visitor = visitor_of(request)
            question = question_of(services, image, prompt, int(max_tokens))
            source = play(services, visitor, question, pool)
            async for done in runs.follow(visitor, PLACE, source):
                has_both = bool(done.results)
                words = "Which is better?" if has_both else f"{done.num_done} of 2 are written …"
                answers = [result.text for result in done.results] or ["", ""]
                found = done if has_both else None
                yield [found, words, *answers, "", *switched(has_both)]
        except Exception as error:
            yield [None, "", "", "", "", *switched(False)]
            raise shown(error) from None
        if done is None or not done.results:
            yield [None, "Stopped.", "", "", "", *switched(False)]

    def count(stored: Any) -> list[list[Any]]:
        return tally(read_votes(stored), titles)

    def to_csv(stored: Any) -> str:
        return as_csv(read_votes(stored))

    def vote_for(choice: str) -> Any:
        def vote(round_: Round | None, stored: Any) -> list[Any]:
            kept = read_votes(stored)
            if round_ is None:
                raise gr.Error("Start a new pair first.", title="No pair", print_exception=False)
            kept = [*kept, vote_of(round_, choice)][-MAX_VOTES:]
            told = reveal(services, round_, choice)
            return [None, kept, told, tally(kept, titles), "", *switched(False)]

        return vote

    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    start.click(
        start_round,
        [image, view.prompt, view.max_tokens, pool],
        [current, status, *texts, revealed, *buttons],
        js=WITH_IMAGE,
        **private,
    )

    async def stop_round(request: gr.Request) -> None:
        runs.stop(visitor_of(request), PLACE)

    stop.click(stop_round, None, None, **private)
    for choice, button in zip(CHOICES, buttons, strict=True):
        outputs = [current, votes, revealed, table, status, *buttons]
        button.click(vote_for(choice), [current, votes], outputs, **private)
    votes.change(count, votes, table, **private)
    export.click(to_csv, votes, csv_text, **private).then(None, csv_text, None, js=_DOWNLOAD)
    forget.click(lambda: ([], []), None, [votes, table], **private)
