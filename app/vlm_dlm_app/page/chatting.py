"""A conversation about images: what was said, what the model is asked next, and its answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from vlm_dlm.engine.base import ModeInfo
from vlm_dlm.errors import ImageError
from vlm_dlm.processor.prompt import ImagePart, Message, TextPart
from vlm_dlm_app.answering.answers import Answer, metrics_of
from vlm_dlm_app.answering.intake import Ask, deadline_of, over_limit, sampling_of
from vlm_dlm_app.answering.modes import resolve_mode
from vlm_dlm_app.answering.start import start_answer
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.http.json_shape import check_shape
from vlm_dlm_app.page.runs import Visitor
from vlm_dlm_app.page.speeds import TOO_SHORT, queue_words, speed_of
from vlm_dlm_app.page.trial import check_readable, own_params
from vlm_dlm_app.schemas.common import AnswerOptions, RequestMetrics
from vlm_dlm_app.state import Services

STOPPED = "stopped"
MAX_IMAGES = 64  # of one conversation, as many as it can have messages
_IMAGES = TypeAdapter(Annotated[list[str], Field(max_length=MAX_IMAGES)])


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and its answer.

    images: numbers of those that came with the question, in the visitor's own list.
    note: a line under the answer, which has its figures, or why it broke off.
    """

    question: str
    images: tuple[int, ...] = ()
    answer: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the next answer is written.

    options: of modes, by the engine's names; what suits the mode where one is not there.
    """

    mode: str
    max_tokens: int
    options: Mapping[str, Any]


def images_of(text: str) -> list[str]:
    """The visitor's images, as their browser sends them: a JSON list of data URIs. Takes a while
    where they are large.

    Raises ImageError.
    """
    check_readable(text)
    body = text.encode("utf-8", "replace") or b"[]"
    try:
        check_shape(body, max_depth=1)  # as for a body: a parser cannot be interrupted
        return _IMAGES.validate_json(body, strict=True)
    except (ApiError, ValueError):
        message = "the images of this conversation cannot be read; start a new one"
        raise ImageError(message) from None


def next_turn(turns: Sequence[Turn], question: str, num_images: int, max_chars: int) -> Turn:
    """A question with the newest image, unless that was shown before. max_chars: of a question,
    which is kept from now on. Raises ApiError."""
    if not question.strip():
        raise ApiError("bad_input", "write a question first")
    if len(question) > max_chars:
        found = f"has {len(question)} characters"
        raise over_limit("the question", found, max_chars, "max_prompt_chars")
    newest = num_images - 1
    is_new = newest >= 0 and all(newest not in turn.images for turn in turns)
    return Turn(question.strip(), (newest,) if is_new else ())


def ask_of_turns(
    services: Services, turns: Sequence[Turn], images: Sequence[str], options: AnswerOptions
) -> Ask:
    """The whole conversation; the last turn is the one to be answered. Raises ApiError."""
    shown: list[str] = []
    messages: list[Message] = []
    for turn in turns:
        first = len(shown)
        shown += [images[number] for number in turn.images if number < len(images)]
        pictures = (ImagePart(index) for index in range(first, len(shown)))
        messages.append(Message("user", (*pictures, TextPart(turn.question))))
        if turn is not turns[-1]:
            messages.append(Message.of("assistant", turn.answer))
    return Ask(
        messages=tuple(messages),
        images=tuple(shown),
        sampling=sampling_of(services, options),
        deadline_s=deadline_of(services, options),
    )


async def answer(
    services: Services,
    visitor: Visitor,
    turns: Sequence[Turn],
    images: Sequence[str],
    settings: Settings,
) -> AsyncGenerator[Turn]:
    """The last turn as its answer grows. Closing it ends the answer.

    Raises ApiError or VlmDlmError.
    """
    turn = replace(turns[-1], answer="", note="waiting …")
    yield turn
    name = resolve_mode(services, None, settings.mode)
    info = next(info for info in modes_of(services) if info.name == name)
    params = own_params(info, settings.options)
    # the slider is a wish: an answer that has less room is still one
    most = min(settings.max_tokens, services.settings.max_tokens_limit)
    ask = replace(ask_of_turns(services, turns, images, AnswerOptions()), most_tokens=most)
    found = Answer()
    events = await start_answer(services, ask, name, params, visitor.client, visitor.request_id)
    async with aclosing(events):
        async for event in events:
            if found.add(event):
                yield replace(turn, answer=found.text, note="writing …")
    stats = found.finished()
    figures = metrics_of(stats, name, *services.runs_on(name))
    line = figures_line(title_of(services, name), stats.num_tokens, figures)
    if not found.text.strip():
        line += " · it wrote no text"
    if found.finish_reason == "length":
        line += " · cut at the limit of tokens"
    yield replace(turn, answer=found.text, note=line)


def title_of(services: Services, mode: str) -> str:
    """What a mode is called."""
    return next((i.title for i in modes_of(services) if i.name == mode), mode)


def modes_of(services: Services) -> tuple[ModeInfo, ...]:
    """All that this engine offers."""
    return services.engine.capabilities.modes


def figures_line(
    title: str, num_tokens: int, figures: RequestMetrics, *, has_first: bool = True
) -> str:
    """The engine's figures for one answer, on one line. has_first: with the time to the first
    token, which only compares where each answer had to do the same for it."""
    speed = speed_of(num_tokens, figures.tokens_per_second)
    parts = [
        title,
        f"{num_tokens} token{'' if num_tokens == 1 else 's'}",
        f"speed {TOO_SHORT}" if speed is None else f"{speed:.1f} tokens/s",
        f"{figures.tokens_per_forward:.2f} tokens per forward",
    ]
    first_ms = figures.time_to_first_token_ms
    if has_first and first_ms is not None:
        words = queue_words(figures.queue_time_ms)
        parts.append(f"first token after {first_ms:.0f} ms{words}")
    return " · ".join(parts)
