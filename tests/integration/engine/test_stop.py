"""An answer ends before its stop string in every mode, also in the middle of a block."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from tests.integration.engine.harness import (
    LaggingDetokenizer,
    ask,
    core_of,
    default_options,
    prompt_of,
    spell,
    tiny_model,
)
from tests.invariants import assert_no_pages_held, assert_one_ending, assert_round_trip, events_of
from vlm_dlm.decoding import MODES
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.engine.core import EngineCore
from vlm_dlm.events import Committed, Finished, GenerationEvent
from vlm_dlm.request import GenerationRequest

PROMPT = prompt_of(9, 2)  # its answer does not end by itself


class PlainDetokenizer(LaggingDetokenizer):
    """Holds nothing back."""

    def push(self, token_ids: list[int]) -> str:
        return spell(token_ids)


@dataclass(frozen=True)
class Answer:
    tokens: tuple[int, ...]
    text: str
    reason: str
    num_tokens: int


def core_with(detokenizer: type[LaggingDetokenizer] = PlainDetokenizer) -> EngineCore:
    return core_of(tiny_model(), None, EngineConfig(max_cache_tokens=4096), detokenizer)


def wanted(mode: str, *stop: str, name: str = "a", max_tokens: int = 24) -> GenerationRequest:
    options = default_options(mode)
    if options:
        options["block_length"] = 8
    return ask(name, mode, PROMPT, options, max_tokens=max_tokens, stop=stop)


def read(events: list[GenerationEvent]) -> Answer:
    assert_one_ending(events)
    assert_round_trip(events)
    last = events[-1]
    assert isinstance(last, Finished)
    committed = [event for event in events if isinstance(event, Committed)]
    tokens = tuple(token.id for event in committed for token in event.tokens)
    text = "".join(event.text for event in committed) + last.text
    return Answer(tokens, text, last.reason, last.stats.num_tokens)


def answer(request: GenerationRequest, core: EngineCore | None = None) -> Answer:
    core = core or core_with()
    found = read(list(core.run([request])))
    assert_no_pages_held(core)
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("place", [0, 1, 5, 11, 20])
def test_text_and_tokens_end_where_the_stop_string_is(mode: str, place: int) -> None:
    whole = answer(wanted(mode))
    assert len(whole.tokens) == 24
    stop = spell(whole.tokens[place : place + 2])[1:-1]  # from inside one token into the next
    begin = whole.text.index(stop)
    found = answer(wanted(mode, "never", stop))
    assert found.reason == "stop"
    assert found.text == whole.text[:begin]
    assert found.tokens == whole.tokens[: len(found.tokens)]
    assert stop in spell(found.tokens), "the token that completes it is handed out"
    assert stop not in spell(found.tokens[:-1]), "and none after it"
    assert found.num_tokens == len(found.tokens)


@pytest.mark.parametrize("mode", MODES)
def test_stop_strings_that_never_come_change_nothing(mode: str) -> None:
    """Their beginnings do come, are held back for a while, and are not lost at the end."""
    whole = answer(wanted(mode))
    almost = tuple(f"{spell([token])}!" for token in set(whole.tokens))
    assert answer(wanted(mode, *almost[:16])) == whole
    assert answer(wanted(mode, whole.text + "!")) == whole, "all of it is held back"


@pytest.mark.parametrize("mode", MODES)
def test_a_stop_string_that_only_the_end_completes(mode: str) -> None:
    """This detokenizer gives the last token's text out at the end only."""
    core = core_with(LaggingDetokenizer)
    whole = answer(wanted(mode, max_tokens=8), core)
    assert whole.reason == "length"
    last = spell(whole.tokens[-1:])
    begin = whole.text.index(last)
    found = answer(wanted(mode, last, max_tokens=8), core)
    assert (found.reason, found.text) == ("stop", whole.text[:begin])


@pytest.mark.parametrize("mode", MODES)
def test_an_abort_gives_out_what_was_held_back(mode: str) -> None:
    core = core_with()
    core.submit(wanted(mode, "<" * 200))
    events: list[GenerationEvent] = []
    while not any(isinstance(event, Committed) for event in events):
        events += core.step()
    found = read(events + core.abort("a"))
    assert found.reason == "abort"
    assert found.text == spell(found.tokens)


def test_neighbours_keep_their_own_ends() -> None:
    whole = answer(wanted("ar"))
    stop = spell(whole.tokens[3:4])
    core = core_with()
    requests = [
        wanted(mode, *stops, name=f"{mode} {bool(stops)}")
        for mode in MODES
        for stops in ((), (stop,))
    ]
    events = list(core.run(requests))
    for request in requests:
        found = read(events_of(events, request.request_id))
        assert found == answer(replace(request, request_id="a"))
