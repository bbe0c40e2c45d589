"""A request never notices its neighbours: any mixture gives what each request gives alone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.engine.harness import (
    Answer,
    answers_of,
    ask,
    make_core,
    prompt_of,
    run,
    run_alone,
)
from tests.invariants import assert_no_pages_held, assert_pages_consistent
from vlm_dlm.engine.core import EngineCore
from vlm_dlm.events import GenerationEvent
from vlm_dlm.request import GenerationRequest

MIXTURE: list[tuple[str, dict[str, Any]]] = [
    ("ar", {}),
    ("diffusion", {"block_length": 4}),
    ("diffusion", {"block_length": 6, "threshold": 0.5, "seed_first_token": False}),
    ("diffusion", {"block_length": 4, "is_native_confidence": True}),
    ("linear_spec", {"block_length": 4}),
    ("linear_spec", {"block_length": 6, "threshold": 0.6}),
    ("quadratic_spec", {"block_length": 4}),
    ("quadratic_spec", {"block_length": 3}),
]
SAMPLING: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 0.9},
    {"temperature": 1.2, "top_p": 0.8},
]


def mixture() -> list[GenerationRequest]:
    return [
        ask(
            f"r{i}",
            mode,
            prompt_of(1 + (5 * i) % 17, i),
            options,
            seed=100 + i,
            max_tokens=6 + i,
            **SAMPLING[i % 3],
        )
        for i, (mode, options) in enumerate(MIXTURE * 2)
    ]


@pytest.fixture(scope="module")
def alone() -> dict[str, Answer]:
    return {request.request_id: run_alone(request) for request in mixture()}


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"max_running": 3},
        {"max_batched_tokens": 24},
        {"max_prompt_rows": 3},
        {"max_batched_tokens": 20, "max_prompt_rows": 2, "page_size": 1},
        {"max_cache_tokens": 128, "page_size": 4},
    ],
)
def test_a_mixed_batch_equals_each_request_alone(
    limits: dict[str, Any], alone: dict[str, Answer]
) -> None:
    core = make_core(**limits)
    assert run(core, *mixture()) == alone
    assert_no_pages_held(core)


def test_requests_may_arrive_at_any_time(alone: dict[str, Answer]) -> None:
    core = make_core()
    events = staggered(core, mixture())
    assert answers_of(events) == alone
    assert_no_pages_held(core)


def staggered(core: EngineCore, requests: list[GenerationRequest]) -> list[GenerationEvent]:
    """One more request every second step."""
    events: list[GenerationEvent] = []
    step = 0
    while requests or core.has_work:
        if requests and step % 2 == 0:
            core.submit(requests.pop(0))
        events += core.step()
        assert_pages_consistent(core)
        step += 1
    return events


def test_the_order_of_arrival_does_not_matter(alone: dict[str, Answer]) -> None:
    assert run(make_core(), *reversed(mixture())) == alone


def test_the_same_seed_repeats_and_others_differ() -> None:
    def draw(name: str, seed: int) -> GenerationRequest:
        return ask(name, "ar", prompt_of(5), seed=seed, temperature=1.5, max_tokens=12)

    answers = run(make_core(), draw("a", 1), draw("b", 1), draw("c", 2))
    assert answers["a"].tokens == answers["b"].tokens != answers["c"].tokens


def test_nobody_starves_when_rows_are_scarce() -> None:
    """Two plans and one row of a prompt fill a forward; five requests take turns."""
    core = make_core(max_batched_tokens=13)
    for i in range(5):
        options = {"block_length": 6, "threshold": 1.0}
        core.submit(ask(str(i), "diffusion", prompt_of(9, 2 + i), options, max_tokens=100))
    core.step()
    while any(state.is_prefilling for state in core.scheduler.running):
        core.step()
    before = {state.id: state.num_forwards for state in core.scheduler.running}
    assert len(before) == 5, "none has ended yet"
    for _ in range(25):
        core.step()
    counts = [s.num_forwards - before[s.id] for s in core.scheduler.running]
    assert sum(counts) == 50, "the budget is used"
    assert max(counts) - min(counts) <= 3
    core.close()
    assert_no_pages_held(core)
