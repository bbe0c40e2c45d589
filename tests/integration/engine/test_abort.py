"""An aborted request frees its pages at once and ends in one event, whatever it was doing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.engine.harness import answer_of, ask, make_core, prompt_of, run_alone
from tests.invariants import assert_no_pages_held, assert_one_ending, events_of
from vlm_dlm.decoding import MODES
from vlm_dlm.engine.core import EngineCore
from vlm_dlm.events import Finished, GenerationEvent
from vlm_dlm.request import GenerationRequest

LONG: dict[str, Any] = {"max_tokens": 60, "seed": 1}


def step(core: EngineCore, num: int) -> list[GenerationEvent]:
    return [event for _ in range(num) for event in core.step()]


def abort(core: EngineCore, name: str = "a") -> list[GenerationEvent]:
    events = core.abort(name)
    assert len(events) == 1
    assert isinstance(events[0], Finished)
    assert events[0].reason == "abort"
    assert core.abort(name) == [], "a second abort finds nothing"
    return events


def endless(name: str, mode: str, length: int = 9) -> GenerationRequest:
    """This prompt does not end by itself within the steps of these tests."""
    options: dict[str, Any] = {} if mode == "ar" else {"block_length": 6}
    if mode == "diffusion":
        options["threshold"] = 1.0
    return ask(name, mode, prompt_of(length, 2), options, **LONG)


def test_while_waiting() -> None:
    core = make_core(max_running=1)
    core.submit(endless("first", "ar"))
    core.submit(endless("a", "ar"))
    events = step(core, 2)
    ending = abort(core)
    assert isinstance(ending[0], Finished)
    assert ending[0].stats.num_tokens == 0
    assert events_of(events, "a") == []
    abort(core, "first")
    assert_no_pages_held(core)


def test_before_the_first_step() -> None:
    core = make_core()
    core.submit(endless("a", "ar"))
    abort(core)
    assert_no_pages_held(core)
    assert core.step() == []


@pytest.mark.parametrize("mode", MODES)
def test_while_its_prompt_is_computed(mode: str) -> None:
    core = make_core(max_prompt_rows=4)
    core.submit(endless("a", mode, 30))
    step(core, 3)
    (state,) = core.scheduler.running
    assert state.is_prefilling
    assert state.cache_len == 12
    abort(core)
    assert_no_pages_held(core)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_steps", [1, 2, 3, 4])
def test_while_it_writes(mode: str, num_steps: int) -> None:
    """Also in the middle of a block, and between draft and verify."""
    core = make_core()
    core.submit(endless("a", mode))
    events = step(core, num_steps)
    events += abort(core)
    assert_one_ending(events)
    own = answer_of(events)
    assert own.tokens == run_alone(endless("a", mode)).tokens[: len(own.tokens)]
    assert_no_pages_held(core)
    assert core.step() == []


@pytest.mark.parametrize("mode", MODES)
def test_neighbours_do_not_notice(mode: str) -> None:
    core = make_core()
    for name, kind in (("a", mode), ("b", "diffusion"), ("c", "quadratic_spec")):
        core.submit(endless(name, kind))
    events = step(core, 4) + abort(core)
    core.submit(endless("d", "linear_spec"))
    while core.has_work:
        events += core.step()
    assert_one_ending(events)
    for name, kind in (("b", "diffusion"), ("c", "quadratic_spec"), ("d", "linear_spec")):
        assert answer_of(events_of(events, name)) == run_alone(endless(name, kind))
    assert_no_pages_held(core)


def test_after_its_end_and_for_unknown_names() -> None:
    core = make_core()
    list(core.run([ask("a", "ar", (1, 2), max_tokens=2)]))
    assert core.abort("a") == []
    assert core.abort("nobody") == []


def test_freed_pages_serve_the_next_request_at_once() -> None:
    core = make_core(max_cache_tokens=96)
    core.submit(endless("a", "ar"))
    core.submit(endless("b", "ar"))
    step(core, 3)
    assert len(core.scheduler.running) == 1
    abort(core)
    assert {event.request_id for event in core.step()} == {"b"}
    core.close()


def test_closing_ends_everybody() -> None:
    core = make_core(max_running=2)
    for i, mode in enumerate(MODES):
        core.submit(endless(str(i), mode))
    events = step(core, 3)
    events += core.close()
    assert_one_ending(events)
    assert {event.request_id for event in events} == {"0", "1", "2", "3"}
    assert_no_pages_held(core)
    assert core.close() == []
