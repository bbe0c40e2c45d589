"""Whatever breaks, every request ends exactly once, and only the one at fault ends badly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.integration.engine.harness import (
    IMAGE,
    LaggingDetokenizer,
    answer_of,
    ask,
    core_of,
    make_core,
    prompt_of,
    run_alone,
    tiny_model,
)
from tests.invariants import assert_no_pages_held, assert_one_ending, events_of
from vlm_dlm.decoding import MODES
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.engine.core import EngineCore
from vlm_dlm.errors import EngineError, UnavailableError
from vlm_dlm.events import Failed, GenerationEvent
from vlm_dlm.request import GenerationRequest
from vlm_dlm.step import WIDE_ROOM, Room

POISON = 666
SECRET = "the contents of a prompt"


def poisoned(mode: str, where: str) -> Any:
    """The mode, but `where` raises for the request whose seed is POISON, from its third step on."""

    def check(state: Any) -> None:
        if state.sampler.seed == POISON and state.num_steps >= 2:
            raise ValueError(SECRET)

    base: Any = MODES[mode]

    class Poisoned(base):
        def start(self, request: Any, prompt_logits: Any) -> Any:
            if where == "start" and request.sampling.seed == POISON:
                raise ValueError(SECRET)
            return super().start(request, prompt_logits)

        def plan(self, state: Any, room: Room = WIDE_ROOM) -> Any:
            if where == "plan":
                check(state)
            return super().plan(state, room)

        def choose(self, states: Any, logits: Any) -> Any:
            if where == "choose":
                for state in states:
                    check(state)
            return super().choose(states, logits)

        def advance(self, state: Any, choice: Any) -> Any:
            if where == "advance":
                check(state)
            return super().advance(state, choice)

    return Poisoned()


def batch(mode: str) -> list[GenerationRequest]:
    """One bad request, neighbours of its own mode before and after it, and one of every mode."""
    others = [
        ask(str(i), kind, prompt_of(4 + i, i), seed=i, temperature=0.7 * (i % 2), max_tokens=12)
        for i, kind in enumerate([mode, *MODES, mode])
    ]
    bad = ask("bad", mode, prompt_of(6, 8), seed=POISON, max_tokens=50)
    return [*others[:3], bad, *others[3:]]


def check_outcome(core: EngineCore, events: list[GenerationEvent], mode: str, code: str) -> Failed:
    assert_one_ending(events)
    failures = [event for event in events if isinstance(event, Failed)]
    assert [failure.request_id for failure in failures] == ["bad"]
    assert failures[0].code == code
    for request in batch(mode):
        if request.request_id != "bad":
            own = answer_of(events_of(events, request.request_id))
            assert own == run_alone(request)
    assert_no_pages_held(core)
    return failures[0]


@pytest.mark.parametrize("mode", MODES)
def test_a_plan_wider_than_announced(mode: str) -> None:
    """Its cache was reserved for fewer rows, so it must not run."""
    base: Any = MODES[mode]

    class Wide(base):
        def plan(self, state: Any, room: Room = WIDE_ROOM) -> Any:
            plan = super().plan(state, room)
            if state.sampler.seed == POISON and state.num_steps >= 2:
                return replace(plan, token_ids=[1] * 500)
            return plan

    core = make_core()
    core.modes[mode] = Wide()
    check_outcome(core, list(core.run(batch(mode))), mode, "engine_error")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("where", ["start", "plan", "choose", "advance"])
def test_a_mode_that_raises_for_one_request(mode: str, where: str) -> None:
    core = make_core()
    core.modes[mode] = poisoned(mode, where)
    failure = check_outcome(core, list(core.run(batch(mode))), mode, "engine_error")
    assert SECRET not in failure.message, "foreign errors are not quoted"
    assert "ValueError" not in failure.message, "what failed is for the log"


def test_tokens_booked_before_a_plan_raised_are_delivered() -> None:
    core = make_core()
    core.modes["ar"] = poisoned("ar", "plan")
    events = list(core.run([ask("bad", "ar", prompt_of(6, 8), seed=POISON, max_tokens=50)]))
    tokens = [token for event in events for token in getattr(event, "tokens", ())]
    assert len(tokens) == 2, "the second one came in the step whose plan raised"
    assert isinstance(events[-1], Failed)
    assert_one_ending(events)
    assert_no_pages_held(core)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("is_early", [True, False])
def test_a_forward_that_raises_with_one_request_in_it(
    mode: str, is_early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the prompt, or while it writes."""
    core = make_core(max_prompt_rows=3)
    run_rows = core.runner.run

    def run(rows: Any) -> Any:
        running = {id(s.table): s for s in core.scheduler.running}
        for one in rows:
            state = running[id(one.table)]
            if state.id == "bad" and state.cache_len >= (3 if is_early else 7):
                raise RuntimeError(SECRET)
        return run_rows(rows)

    monkeypatch.setattr(core.runner, "run", run)
    failure = check_outcome(core, list(core.run(batch(mode))), mode, "engine_error")
    assert SECRET not in failure.message


@pytest.mark.parametrize("token", [-1, 24, 10**6])
def test_an_id_outside_the_vocabulary(token: int) -> None:
    core = make_core()
    bad = ask("bad", "ar", (1, token, 2))
    requests = [one if one.request_id != "bad" else bad for one in batch("ar")]
    check_outcome(core, list(core.run(requests)), "ar", "engine_error")


class BrokenDetokenizer(LaggingDetokenizer):
    """Raises in one of its methods."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def push(self, token_ids: list[int]) -> str:
        if self.where == "push":
            raise UnicodeError(SECRET)
        return super().push(token_ids)

    def flush(self) -> str:
        if self.where == "flush":
            raise UnicodeError(SECRET)
        return super().flush()


def core_with_broken_detokenizer(where: str, bad_index: int) -> EngineCore:
    """The request submitted as number `bad_index` gets the broken one."""
    made: list[LaggingDetokenizer] = []

    def make(skip_special: bool) -> LaggingDetokenizer:
        is_bad = len(made) == bad_index
        made.append(BrokenDetokenizer(where) if is_bad else LaggingDetokenizer())
        return made[-1]

    return core_of(tiny_model(), IMAGE, EngineConfig(max_cache_tokens=4096), make)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("where", ["push", "flush"])
def test_text_that_cannot_be_written(mode: str, where: str) -> None:
    core = core_with_broken_detokenizer(where, 3)
    check_outcome(core, list(core.run(batch(mode))), mode, "engine_error")


def test_an_abort_ends_a_request_whose_text_is_broken() -> None:
    core = core_with_broken_detokenizer("flush", 0)
    core.submit(ask("a", "ar", prompt_of(4), max_tokens=50))
    events = core.step() + core.abort("a")
    assert_one_ending(events)
    assert_no_pages_held(core)


def test_closing_ends_requests_whose_text_is_broken() -> None:
    core = core_with_broken_detokenizer("flush", 0)
    for name in ("a", "b"):
        core.submit(ask(name, "ar", prompt_of(4), max_tokens=50))
    events = core.step() + core.close()
    assert_one_ending(events)
    assert {event.request_id for event in events} == {"a", "b"}
    assert_no_pages_held(core)


def test_a_whole_batch_that_raises_ends_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    core = make_core()

    def run(rows: Any) -> Any:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(core.runner, "run", run)
    events = list(core.run(batch("ar")))
    assert_one_ending(events)
    assert all(isinstance(events_of(events, name)[-1], Failed) for name in ("bad", "0", "1"))
    assert_no_pages_held(core)
    monkeypatch.undo()
    assert answer_of(list(core.run([ask("z", "ar", (1, 2))]))).tokens


def test_a_device_that_stays_broken_ends_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One bad request does not, nor several; but three steps in which nothing could run do."""
    core = make_core()
    run_rows = core.runner.run
    is_broken = True

    def run(rows: Any) -> Any:
        if is_broken:
            raise RuntimeError(SECRET)
        return run_rows(rows)

    monkeypatch.setattr(core.runner, "run", run)
    for name in ("a", "b"):
        assert isinstance(list(core.run([ask(name, "ar", (1, 2))]))[-1], Failed)
    is_broken = False
    assert answer_of(list(core.run([ask("good", "ar", (1, 2))]))).tokens
    is_broken = True
    for name in ("c", "d"):
        assert isinstance(list(core.run([ask(name, "ar", (1, 2))]))[-1], Failed)
    with pytest.raises(EngineError, match="nothing could be run in 3 steps"):
        list(core.run([ask("e", "ar", (1, 2))]))


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA"), RuntimeError("CUDA error: out of memory"), MemoryError()],
    ids=["torch", "text", "host"],
)
def test_missing_memory_is_taken_from_what_is_kept(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = make_core()
    list(core.run([ask("kept", "ar", prompt_of(9), keep_prompt=True)]))
    run_rows = core.runner.run

    def run(rows: Any) -> Any:
        if len(core.prompts):
            raise error
        return run_rows(rows)

    monkeypatch.setattr(core.runner, "run", run)
    request = ask("a", "ar", prompt_of(20))
    assert answer_of(list(core.run([request]))) == run_alone(request)
    assert_no_pages_held(core)


def test_who_finds_no_memory_may_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    core = make_core()

    def run(rows: Any) -> Any:
        raise torch.OutOfMemoryError(SECRET)

    monkeypatch.setattr(core.runner, "run", run)
    for number in range(5):  # never taken for a broken device
        last = list(core.run([ask(f"{number}", "ar", (1, 2))]))[-1]
        assert isinstance(last, Failed)
        assert last.code == UnavailableError.code
        assert SECRET not in last.message
    assert_no_pages_held(core)
