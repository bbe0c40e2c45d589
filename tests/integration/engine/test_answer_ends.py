"""When an answer may end and when it must, in every mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.engine.harness import EOS, ask, make_core, prompt_of
from tests.invariants import assert_no_pages_held, assert_one_ending, events_of
from vlm_dlm.answer_room import DEFAULT_MAX_TOKENS
from vlm_dlm.engine.core import EngineCore
from vlm_dlm.errors import CapacityError, ContextLengthError
from vlm_dlm.events import Committed, Finished
from vlm_dlm.request import GenerationRequest

MODES = ["ar", "diffusion", "linear_spec", "quadratic_spec"]
SPECULATIVE = ["linear_spec", "quadratic_spec"]
PROMPTS = [prompt_of(2 + i, i) for i in range(6)]
STOPS = (3, 5, 7)
NUM = 24
WISHES: list[dict[str, Any]] = [
    {"min_tokens": 12},
    {"ignore_eos": True},
    {"stop_token_ids": STOPS},
    {"min_tokens": 9, "stop_token_ids": STOPS},
    {"min_tokens": 10, "ignore_eos": True, "stop_token_ids": (2,)},
]


@dataclass(frozen=True)
class Answer:
    tokens: tuple[int, ...]
    text: str
    ending: str


def run(core: EngineCore, *requests: GenerationRequest) -> dict[str, Answer]:
    """Any token may end these answers, or none."""
    events = list(core.run(requests))
    answers: dict[str, Answer] = {}
    for request in requests:
        own = events_of(events, request.request_id)
        assert_one_ending(own)
        parts = [event for event in own if isinstance(event, Committed)]
        last = own[-1]
        assert isinstance(last, Finished)
        tokens = tuple(token.id for part in parts for token in part.tokens)
        assert last.stats.num_tokens == len(tokens)
        text = "".join(part.text for part in parts) + last.text
        answers[request.request_id] = Answer(tokens, text, last.reason)
    assert_no_pages_held(core)
    return answers


def run_alone(request: GenerationRequest) -> Answer:
    return run(make_core(), request)[request.request_id]


def answers(mode: str, wish: dict[str, Any]) -> list[Answer]:
    batch = [ask(str(i), mode, prompt, max_tokens=NUM, **wish) for i, prompt in enumerate(PROMPTS)]
    return list(run(make_core(), *batch).values())


@pytest.mark.parametrize("wish", WISHES, ids=str)
@pytest.mark.parametrize("mode", SPECULATIVE)
def test_speculation_stays_lossless(mode: str, wish: dict[str, Any]) -> None:
    expected, found = answers("ar", wish), answers(mode, wish)
    assert [(a.tokens, a.text, a.ending) for a in found] == [
        (a.tokens, a.text, a.ending) for a in expected
    ]


@pytest.mark.parametrize("mode", MODES)
def test_nothing_ends_before_min_tokens(mode: str) -> None:
    free = answers("ar", {"stop_token_ids": STOPS})
    assert min(len(answer.tokens) for answer in free) < 9, "without it some end early"
    for answer in answers(mode, {"min_tokens": 9, "stop_token_ids": STOPS}):
        assert len(answer.tokens) >= 10
        assert not {EOS, *STOPS} & set(answer.tokens[:9])


@pytest.mark.parametrize("mode", MODES)
def test_without_end_tokens_exactly_max_tokens_come_back(mode: str) -> None:
    assert any(a.ending == "stop" for a in answers("ar", {})), "with them some end early"
    found = answers(mode, {"ignore_eos": True})
    assert [(len(a.tokens), a.ending) for a in found] == [(NUM, "length")] * len(PROMPTS)
    if mode != "diffusion":
        assert any(EOS in a.tokens[:-1] for a in found), "it is written like any other token"


@pytest.mark.parametrize("mode", MODES)
def test_a_stop_token_ends_the_answer_and_is_not_in_its_text(mode: str) -> None:
    for answer in answers(mode, {"stop_token_ids": STOPS}):
        has_stop = any(token in STOPS for token in answer.tokens)
        assert not any(token in STOPS for token in answer.tokens[:-1])
        if has_stop:
            assert answer.ending == "stop"
            assert f"<{answer.tokens[-1]}>" not in answer.text


@pytest.mark.parametrize("mode", MODES)
def test_a_stop_string_counts_only_after_min_tokens(mode: str) -> None:
    plain = run_alone(ask("a", mode, PROMPTS[1], max_tokens=NUM, ignore_eos=True))
    word = f"<{plain.tokens[2]}>"
    wish: dict[str, Any] = {"max_tokens": NUM, "ignore_eos": True, "stop": (word,)}
    early = run_alone(ask("a", mode, PROMPTS[1], **wish))
    assert len(early.tokens) <= 4  # this detokenizer lags behind by a word
    late = run_alone(ask("a", mode, PROMPTS[1], min_tokens=NUM, **wish))
    assert (late.tokens, late.text) == (plain.tokens, plain.text)


def open_ended(core: EngineCore, num_prompt: int, mode: str = "ar") -> int:
    """Tokens of an answer for which no length was asked and that does not end by itself."""
    request = ask("a", mode, prompt_of(num_prompt), max_tokens=None, ignore_eos=True)
    return len(run(core, request)["a"].tokens)


@pytest.mark.parametrize("mode", MODES)
def test_no_max_tokens_takes_what_the_context_has_left(mode: str) -> None:
    assert open_ended(make_core(), 250, mode) == 6  # of 256
    assert open_ended(make_core(), 255, mode) == 1


def test_no_max_tokens_takes_what_the_cache_has_left() -> None:
    assert open_ended(make_core(max_cache_tokens=64), 50) == 13  # and one row for the next step
    assert DEFAULT_MAX_TOKENS > 64


def refused(request: GenerationRequest) -> Exception:
    with pytest.raises((ContextLengthError, CapacityError)) as caught:
        make_core().submit(request)
    return caught.value


def test_only_a_prompt_too_long_is_refused_or_a_length_that_was_asked_for() -> None:
    error = refused(ask("a", "ar", prompt_of(256), max_tokens=None))
    assert str(error) == (
        "This model's maximum context length is 256 tokens. However, your messages resulted in "
        "256 tokens. Please reduce the length of the messages."
    )
    error = refused(ask("a", "ar", prompt_of(200), max_tokens=57))
    assert "you requested 257 tokens (200 in the messages, 57 in the completion)" in str(error)
    make_core().submit(ask("a", "ar", prompt_of(200), max_tokens=56))


def test_the_first_forward_of_quadratic_speculation_refuses_no_draft() -> None:
    """It has none: as many verify steps count as there were drafts to verify."""
    core = make_core()
    request = ask("a", "quadratic_spec", PROMPTS[1], {"block_length": 4}, max_tokens=2)
    (last,) = [event for event in core.run([request]) if isinstance(event, Finished)]
    stats = last.stats
    assert (stats.num_forwards, stats.num_draft_tokens, stats.acceptance_lengths) == (1, 0, ())
