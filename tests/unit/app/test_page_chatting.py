"""A conversation keeps its images in order, and only those that were shown."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.app.page_records import make_record
from vlm_dlm.errors import ImageError
from vlm_dlm.processor.prompt import ImagePart, Message, TextPart
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.page.chat import messages_of
from vlm_dlm_app.page.chatting import Turn, ask_of_turns, figures_line, images_of, next_turn
from vlm_dlm_app.schemas.common import AnswerOptions, RequestMetrics
from vlm_dlm_app.settings.model import Settings
from vlm_dlm_app.state import Services

MAX_CHARS = 100


class _Services:
    settings = Settings()
    checkpoint = SimpleNamespace(config=SimpleNamespace(vocab_size=10))


def test_a_question_brings_the_newest_image_once() -> None:
    first = next_turn([], " What is it? ", 1, MAX_CHARS)
    assert first == Turn("What is it?", (0,))
    assert next_turn([first], "And?", 1, MAX_CHARS).images == ()
    assert next_turn([first], "And this?", 3, MAX_CHARS).images == (2,)
    assert next_turn([], "Hello", 0, MAX_CHARS).images == ()
    with pytest.raises(ApiError, match="write a question"):
        next_turn([], "  ", 1, MAX_CHARS)
    with pytest.raises(ApiError, match="101 characters; the limit is 100"):
        next_turn([], "x" * 101, 0, MAX_CHARS)


def test_the_model_is_asked_with_what_was_shown() -> None:
    turns = [Turn("One?", (0,), "one"), Turn("Two?", (2,))]
    services: Services = _Services()  # pyright: ignore[reportAssignmentType]
    ask = ask_of_turns(services, turns, ["a", "refused", "c"], AnswerOptions(max_tokens=5))
    assert ask.images == ("a", "c")
    assert ask.messages == (
        Message("user", (ImagePart(0), TextPart("One?"))),
        Message.of("assistant", "one"),
        Message("user", (ImagePart(1), TextPart("Two?"))),
    )
    assert ask.sampling.max_tokens == 5


@pytest.mark.parametrize("text", ["{", "{}", "[1]", "null", '"x"'])
def test_images_that_are_no_list_of_texts_are_refused(text: str) -> None:
    with pytest.raises(ImageError, match="start a new one"):
        images_of(text)


@pytest.mark.parametrize("part", ["[],", "{},", '"a",', "[", '{"a":'])
def test_much_in_the_place_of_images_costs_little(part: str) -> None:
    text = "[" + part * (8_000_000 // len(part))
    began = time.process_time()
    with pytest.raises(ImageError, match="start a new one"):
        images_of(text)
    assert time.process_time() - began < 1.0  # a parser takes many


def test_what_the_chat_shows() -> None:
    shown = messages_of([Turn("What?", (0,), "A star.", "ar · 3 tokens")])
    assert [message["content"] for message in shown] == [
        "[image 1] What?",
        "A star.",
        "ar · 3 tokens",
    ]


def figures(**changes: Any) -> RequestMetrics:
    return RequestMetrics(**{**make_record()["answers"]["ar"]["result"]["metrics"], **changes})


@pytest.mark.parametrize(
    ("num_tokens", "words", "other"),
    [
        (0, "0 tokens · speed too short to measure", "tokens/s"),
        (1, "1 token · speed too short to measure", "tokens/s"),
        (2, "2 tokens · 100.0 tokens/s", "too short"),
    ],
)
def test_an_answer_of_one_token_has_no_speed(num_tokens: int, words: str, other: str) -> None:
    line = figures_line("ar", num_tokens, figures())
    assert words in line
    assert other not in line


def test_a_wait_in_the_queue_is_told_apart() -> None:
    assert figures_line("ar", 9, figures()).endswith("first token after 24 ms")
    waited = figures_line("ar", 9, figures(queue_time_ms=12.4))
    assert waited.endswith("first token after 24 ms, of that 12 ms in the queue")
    assert "first token" not in figures_line("ar", 9, figures(), has_first=False)
